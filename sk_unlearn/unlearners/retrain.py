"""The reference every other method is measured against, and a shorter way to a model that is as free of the rows."""

from __future__ import annotations

from numbers import Real

from sklearn.utils._param_validation import Interval

from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.training.pace import Paced
from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status

__all__ = ["Retrain"]

# From here on the predictions were near those of a full training in all but a few cases: benchmarks.compressed.
_VOUCHED_SHARE = 0.5


class Retrain(Unlearner):
    r"""Train a fresh network on the retained rows: exact, and as slow as ``fit`` or a share of that.

    The seed, and so the initial weights, are those of ``fit``. No number in the result depends on the erased rows, in
    any layer, whatever the share; ``certificate_`` says so and lists what that rests on.

    Parameters
    ----------
    share : float, default=1.0
        Of the steps of a full training, in (0, 1]. With 1.0 the network is what ``fit`` makes of the retained rows, bit
        for bit. With less it goes through the same schedule in fewer and longer steps. How near its predictions come to
        those of a full training is vouched for from 0.5 on; less is cheaper and *unvouched*: compare before you rely on
        it.

    Notes
    -----
    With ``share`` = :math:`s`, a full training of :math:`T` steps becomes :math:`N = sT` steps, each of which stands
    for :math:`c = T / N`. Its rate is the mean of theirs raised about :math:`c` times, so that all rates have the sum
    that they have in a full training [1]_. The raise rises over the first tenth of the steps and falls to almost
    nothing over the last three, and with it the noise of long steps. Other settings are those in the middle of what a
    step stands for. Adam and its kin get :math:`\beta^c` for :math:`\beta`, so that they remember gradients for as long
    [2]_; SGD keeps its momentum, for with less of it the longer steps diverge. Weight decay keeps its total. Everything
    else is the net's own: batches, augmentation, loss, ``train_step``, sample weights. Callbacks that change rates, and
    those that end the training or choose parameters by a measure (``LRScheduler``, ``EarlyStopping``, ``Checkpoint``),
    are left out; others stay.

    The rates of the schedule are those that were recorded when the estimator was fitted, so ``share`` below 1 needs
    ``keep_initial=True`` and a training that went through skorch's loop. After ``partial_fit`` it is still that of
    ``fit``, gone through on all rows, as a full retraining does. Optimisers whose steps find their own length (LBFGS,
    Rprop) cannot be shortened.

    Where the longer steps diverge (a loss that is not finite, or in the end no better than that of the same output for
    every row), the training begins again with half the raise, three times at most; only retained rows decide that, and
    a note says so.

    References
    ----------
    .. [1] Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017 (rates that grow with what a
       step stands for).
    .. [2] Malladi, Lyu, Panigrahi and Arora, "On the SDEs and scaling rules for adaptive gradient algorithms", NeurIPS
       2022 (the betas of Adam along with the rate).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import Retrain
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=Retrain(share=0.5), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.method
    'Retrain'
    >>> est.certificate_.kind
    'exact'
    """

    _parameter_constraints = {  # noqa: RUF012
        "share": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(self, share: float = 1.0) -> None:
        self.share = share

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        tags.exact_on_quadratics = self.share == 1
        tags.extra = () if self.share == 1 else ("share_of_training",)
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        trained = problem.retrain(share=self.share)
        reason, notes, extra = "trained anew", [], {}
        if trained.paced is not None:
            reason += f" in {trained.paced.n_steps} steps for the {trained.paced.n_full} of a full training"
            notes, extra = _notes(self.share, trained.paced), {"share_of_training": trained.paced.share_spent}
        return UnlearningResult(
            flat_parameters(trained.net), Status.COMPLETED, reason, trained=trained, notes=notes, extra=extra
        )


def _notes(share: float, paced: Paced) -> list[str]:
    """Say what a reader should know of a shorter training."""
    notes = []
    if share < _VOUCHED_SHARE:
        notes.append(
            f"Trained anew in {share:.0%} of the steps. That nothing depends on the erased rows holds for any share. "
            f"That predictions are near those of a full training is claimed from share={_VOUCHED_SHARE} on, and is "
            "unvouched below: compare on rows you know before you rely on the model."
        )
    return notes + paced.notes()
