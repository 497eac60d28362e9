"""The reference every other method is measured against."""

from __future__ import annotations

from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status

__all__ = ["Retrain"]


class Retrain(Unlearner):
    """Train a fresh network on the retained rows: exact, and as slow as ``fit``.

    The seed, and so the initial weights, are those of ``fit``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import Retrain
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=Retrain(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.method
    'Retrain'
    """

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        tags.exact_on_quadratics = True
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        trained = problem.retrain()
        return UnlearningResult(flat_parameters(trained.net), Status.COMPLETED, "trained anew", trained=trained)
