"""What an audit's page says of verdicts, sets of rows and measures, to a reader who is no statistician."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["GROUPS", "OTHER_MEASURES", "ROWS", "VERDICTS", "Shown", "main_measures"]


class Shown(NamedTuple):
    """How a verdict is shown: a colour, a sign that survives black and white, and what it comes to."""

    colour: str
    sign: str
    meaning: str


VERDICTS = {
    "closer": Shown("good", "✓", "Nothing was found that tells this model from one that has never seen the rows."),
    "within": Shown("good", "✓", "Nothing was found that tells this model from one that has never seen the rows."),
    "undecided": Shown(
        "open", "?", "The evidence does not suffice to say that the rows are forgotten, nor that they are not."
    ),
    "outputs_only": Shown(
        "bad",
        "✗",
        "Its answers do not show it, but the network still holds something of the rows. Do not rely on this deletion.",
    ),
    "not_yet": Shown(
        "bad", "✗", "Something tells this model from one that has never seen the rows. Do not rely on this deletion."
    ),
    "over_forgotten": Shown(
        "bad",
        "✗",
        "The rows look stranger to it than to models that never saw them, and this stands out. Do not rely on this "
        "deletion.",
    ),
}

ROWS = {
    "erased": "erased rows",
    "retained": "rows that stay",
    "test": "rows never seen",
    "all": "all rows",
    "next to erased": "rows next to erased ones",
}

# What the verdict rests on, in a few words for the picture beside it.
_MAIN = {
    ("JS distance (nats)", "erased"): "How far its answers are from those of retrained models, on the erased rows",
    ("RMS distance", "erased"): "How far its answers are from those of retrained models, on the erased rows",
    ("JS distance (nats)", "test"): "The same on rows never seen",
    ("RMS distance", "test"): "The same on rows never seen",
    ("attack AUC", "erased"): "How well an attacker tells that the erased rows were once learnt",
    ("class learnt anew from features", "test"): "How much of the erased class the inside of the network still tells",
}

GROUPS: dict[str, dict[str, str]] = {
    "Does it answer as retrained models do?": {
        "JS distance (nats)": "How far its probabilities are from those of retrained models; 0 means equal.",
        "RMS distance": "How far its predictions are from those of retrained models; 0 means equal.",
        "distance ratio": "The same in units of the distance of retrained models from each other.",
        "gap closed": "How much of the way from the model before to retrained models was covered; 1 is all of it.",
        "distance to retrained less that to before": "Below 0: closer to retrained models than to the one before.",
        "Tug-of-War": "How well its accuracy agrees with that of retrained models on all sets of rows; 1 is best.",
    },
    "Can an attacker tell that the rows were learnt?": {
        "attack AUC": "How well losses tell erased rows from rows never seen; 0.5 is guessing, 1 is always.",
        "attack TPR at 1 % FPR": "Erased rows that are found by an attacker who is wrong about 1 in 100 unseen rows.",
        "reversed attack TPR at 1 % FPR": "The same for one who looks for rows that were pushed away.",
        "KS p-value of losses": "Whether erased rows have the losses they have under retrained models; near 0: no.",
    },
    "Is anything left inside the network?": {
        "class learnt anew from features": (
            "How much of the erased class is recognised after one example of each class is shown to its features."
        ),
        "recognised while learnt again": "What is recognised as it is learnt again; what knew it learns faster.",
        "squared error while learnt again": "The error as the rows are learnt again; what knew them learns faster.",
        "noisy copies recognised": "How often slightly changed copies of the erased rows are still answered rightly.",
    },
    "Does it still do its work?": {
        "accuracy": "The share of rows that are answered rightly.",
        "RMS error": "How far predictions are from the truth.",
    },
}

OTHER_MEASURES = "Other measures"


def main_measures(found: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return which measures stand in the picture beside the verdict, and in which words.

    Parameters
    ----------
    found : list of tuple
        Every measure and set of rows of which there is a range of retrained models. Of measures that are not known
        here the first three are taken.
    """
    known = {key: words for key, words in _MAIN.items() if key in found}
    return known or {key: f"{key[0]}, {ROWS.get(key[1], key[1])}" for key in found[:3]}
