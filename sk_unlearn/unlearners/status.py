"""How an unlearning algorithm ended."""

from __future__ import annotations

from enum import Enum

__all__ = ["Status"]


class Status(str, Enum):
    """How an unlearning algorithm ended: a word, which compares equal to a plain string, and a sentence.

    Attributes
    ----------
    sentence : str
        What the word means.

    Examples
    --------
    >>> from sk_unlearn.unlearners import Status
    >>> Status.CONVERGED == "converged", Status("stalled").sentence
    (True, 'No step lowers the objective any further at this precision.')
    """

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Status:
        """Attach the sentence to the word."""
        status = str.__new__(cls, value)
        status._value_ = value
        status.sentence = sentence
        return status

    CONVERGED = "converged", "The tolerance that was asked for is met."
    UNCERTAIN = "uncertain", "The tolerance is met, but it does not show that the rows were undone."
    NOTHING_TO_UNDO = "nothing_to_undo", "The rows have left no trace that a gradient shows: nothing had to move."
    UNMOVED = "unmoved", "Rows that had been trained on were to go, and no parameter changed: nothing was undone."
    COMPLETED = "completed", "Ran to its set end. The method has no tolerance to meet."
    SETTLED = "settled", "The output layer came to rest. The layers before it were not moved."
    SAMPLING_NOISE = "sampling_noise", "The gradient cannot be told from the noise of sampling rows."
    STALLED = "stalled", "No step lowers the objective any further at this precision."
    OVERSHOOT_UNDONE = (
        "overshoot_undone",
        "A further step did harm and was taken back.",
    )
    BUDGET_SPENT = "budget_spent", "The steps or products allowed were used up before the tolerance was met."
    MODEL_BROKE_DOWN = "model_broke_down", "The step went further than the model of the objective holds."
    HARMED_RETAINED = "harmed_retained", "The loss on retained rows rose markedly."

    def __str__(self) -> str:
        return self.value
