"""Random labels for the parameters that matter to the erased rows alone: SalUn."""

from __future__ import annotations

import math
from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from sk_unlearn.unlearners._heuristic import RowHeuristic
from sk_unlearn.unlearners._minibatch import MinibatchLoop
from sk_unlearn.unlearners.ascent import train_on_random_targets
from sk_unlearn.unlearners.base import UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status

__all__ = ["SalUn", "salient"]


class SalUn(RowHeuristic):
    r"""Train with random labels on the erased rows, and move only the parameters that are salient for them.

    With the gradient of the erased rows' loss at the fitted parameters :math:`w_0`, parameter j moves where
    :math:`|\nabla_j F_E(w_0)| \ge \gamma`; all others stay bit for bit. Training is that of :class:`RandomLabels`: on
    the retained rows as they are, and on the erased rows with labels drawn anew in every pass.

    Parameters
    ----------
    share : float, default=0.5
        Share of the parameters that are salient, in (0, 1]; it sets γ, which is the median at 0.5. A parameter whose
        gradient is zero is not salient. 1 moves all: :class:`RandomLabels`.

    n_epochs : int, default=10
        Passes over the retained rows.

    learning_rate : float, default=1e-3
        Of Adam.

    Notes
    -----
    The mask is equation 3 of the paper [1]_, the masked parameters equation 4, the objective equation 5; retained and
    erased rows count there by a weight, here by their mass, as in the published code, which mixes them. Targets of a
    regressor are those of retained rows drawn at random.

    As with :class:`RandomLabels`, rows that a model without them would still predict well become conspicuously wrong.

    The published settings are ``SalUn(0.5, n_epochs=10)``, with SGD at a rate adjusted to each data set.

    References
    ----------
    .. [1] Fan et al., "SalUn: empowering machine unlearning via gradient-based weight saliency in both image
       classification and generation", ICLR 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import SalUn
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=SalUn(n_epochs=2), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_steps
    2
    """

    _parameter_constraints = {  # noqa: RUF012
        "share": [Interval(Real, 0, 1, closed="right")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, share: float = 0.5, *, n_epochs: int = 10, learning_rate: float = 1e-3) -> None:
        self.share = share
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        erased, w = problem.erased, problem.parameters
        # The loss alone: weight decay would make all large weights salient.
        moving = salient(erased.gradient(w) - erased.penalty_gradient(w), self.share)
        loop = MinibatchLoop(problem, self.learning_rate, moving)
        train_on_random_targets(loop, self.n_epochs)
        reason = f"{self.n_epochs} passes over the retained rows, in {int(moving.sum())} of {len(w)} parameters"
        return loop.result(Status.COMPLETED, reason)


def salient(gradient: Tensor, share: float) -> Tensor:
    """Return which entries are among the largest in size.

    Parameters
    ----------
    gradient : Tensor of shape (d,)
    share : float
        Of the entries, in (0, 1]; where several are as large as the smallest of them, all these are. 1 takes all.

    Returns
    -------
    is_salient : bool Tensor of shape (d,)
        False where the gradient is zero, unless all are taken.
    """
    size = gradient.abs()
    if share == 1:
        return torch.ones_like(size, dtype=torch.bool)
    n_smaller = len(size) - max(1, math.ceil(share * len(size)))
    threshold = size.sort().values[n_smaller]
    return (size >= threshold) & (size > 0)
