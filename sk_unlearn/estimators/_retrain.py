"""Train another net on the rows that count after a request, for unlearners that ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sk_unlearn.estimators._cached_training import recorder_rng
from sk_unlearn.estimators._commit import load_flat
from sk_unlearn.estimators._request import Request
from sk_unlearn.estimators.fitting import blank_net
from sk_unlearn.training.ledger import Trained, train_rows
from sk_unlearn.utils._random import seeded_torch

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = ["retrain"]


def retrain(
    estimator: BaseUnlearnable,
    request: Request,
    rng: np.random.Generator,
    *,
    warm: bool = False,
    epochs: int | None = None,
    callbacks: Any = None,
    learning_rate: float | None = None,
    start: Tensor | None = None,
) -> Trained:
    """Train another net; see :class:`~sk_unlearn.unlearners.UnlearningProblem`.

    A fresh net is trained as ``fit`` does it, recorder included, and comes with the role that each of the rows, in
    their order, played; a warm one with None, for it has also learnt what the fitted net had.
    """
    rows, seed = estimator.training_set_, estimator.unlearning_state_.seed
    stay = request.stay(rows.trained_mask if warm else rows.live_mask)
    X, y, weight = request.rows_after(rows, np.flatnonzero(stay))
    with seeded_torch(rng if warm else seed):
        net = blank_net(estimator, X, y, weight).initialize()
        if warm:
            net.module_.load_state_dict(estimator.net_.module_.state_dict())
            if start is not None:
                load_flat(net, start)
            net.set_params(train_split=None, callbacks=callbacks)
            if learning_rate is not None:
                net.set_params(lr=learning_rate)
            net._initialize_callbacks()
        recorder = None if warm else estimator._unlearner().recorder()
        trained = train_rows(net, X, y, weight, epochs=epochs, recorder=recorder, rng=recorder_rng(seed))
    return trained._replace(role=None) if warm else trained
