"""Train another net on the rows that count after a request, for unlearners that ask for it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.estimators._batch_norm import take_statistics
from sk_unlearn.estimators._cached_training import recorder_rng
from sk_unlearn.estimators._check import make_lazy_parameters
from sk_unlearn.estimators._commit import load_flat
from sk_unlearn.estimators._exact import exact_certificate, training_assumptions
from sk_unlearn.estimators._handed_in import chance_loss
from sk_unlearn.estimators._receipts import key_of
from sk_unlearn.estimators._request import Content, Request
from sk_unlearn.estimators._slices import trained_in_slices
from sk_unlearn.estimators._trainable import check_trains_the_same, take_frozen
from sk_unlearn.estimators.fitting import blank_net
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.training.finite import TrainingDivergedError
from sk_unlearn.training.ledger import Trained, train_rows
from sk_unlearn.training.pace import Pace, why_not_paced
from sk_unlearn.training.side_state import SideState
from sk_unlearn.training.soft_targets import soft_targets
from sk_unlearn.utils._random import seeded_torch
from sk_unlearn.utils._twins import twin, uncompiled

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = ["retrain", "why_not_shorter"]

# How often a shorter training may begin at most, each time with half the raise of the rates.
_ATTEMPTS = 4
# A loss must be below this share of what a constant output has, or nothing was learnt.
_LEARNT = 0.999
_WATCHED_ROWS = 1024


def retrain(
    estimator: BaseUnlearnable,
    fitted: NeuralNet,
    request: Request,
    rng: np.random.Generator,
    *,
    share: float = 1.0,
    teacher: Tensor | None = None,
    at_once: bool = False,
    warm: bool = False,
    epochs: int | None = None,
    callbacks: Any = None,
    learning_rate: float | None = None,
    start: Tensor | None = None,
) -> Trained:
    """Train another net; see :class:`~sk_unlearn.unlearners.UnlearningProblem`.

    A fresh net is trained as ``fit`` does it, recorder included, and comes with the role that each of the rows, in
    their order, played, for its teacher too; a warm one with None, for it has also learnt what the fitted net had, from
    which the request sets out (`fitted`). What its optimisers had accumulated is gone: no commit takes it over.
    """
    trained = _trained(
        estimator, fitted, request, rng, share=share, teacher=teacher, at_once=at_once, warm=warm, epochs=epochs,
        callbacks=callbacks, learning_rate=learning_rate, start=start,
    )  # fmt: skip
    check_trains_the_same(trained.net, fitted)
    for name in trained.net._optimizers:
        optimiser: Any = getattr(trained.net, name + "_", None)
        if hasattr(optimiser, "param_groups"):
            optimiser.state = defaultdict(dict)
    return trained


def _trained(
    estimator: BaseUnlearnable,
    fitted: NeuralNet,
    request: Request,
    rng: np.random.Generator,
    *,
    share: float,
    teacher: Tensor | None,
    at_once: bool,
    warm: bool,
    epochs: int | None,
    callbacks: Any,
    learning_rate: float | None,
    start: Tensor | None,
) -> Trained:
    rows = estimator.training_set_
    if not warm and start is not None:
        return _onwards(
            estimator, fitted, request, start, epochs=epochs, callbacks=callbacks, learning_rate=learning_rate
        )  # fmt: skip
    if not warm:
        stay = request.stay(rows.live_mask)
        content = request.rows_after(rows, np.flatnonzero(stay))
        targets = None if teacher is None else _predictions(fitted, content, teacher)
        if share == 1:
            ids = None if rows.raw_id is None else rows.raw_id[np.flatnonzero(stay)]
            trained = _afresh(estimator, content, targets=targets, ids=ids)
        else:
            trained = _in_fewer_steps(estimator, content, share, targets, 1 if at_once else _ATTEMPTS)
        if targets is not None:
            assert trained.role is not None
            # A teacher may know the rows that leave, and passes on what it learnt of rows that few steps do not reach.
            # Roles are in the order of how much of a row there is in the net, the most first.
            return trained._replace(role=np.minimum(trained.role, rows.role[stay[rows.live_mask]]))
        return trained._replace(certificate=exact_certificate(estimator, content, trained))
    if share != 1:
        raise ValueError("share is of a training from the start; leave out warm=True, or give epochs.")
    X, y, weight = request.rows_after(rows, np.flatnonzero(request.stay(rows.trained_mask)))
    with seeded_torch(rng):
        net = blank_net(estimator, X, y, weight).initialize()
        uncompiled(net.module_).load_state_dict(uncompiled(fitted.module_).state_dict())
        take_frozen(net, fitted)
        if start is not None:
            load_flat(net, start)
        net.set_params(train_split=None, callbacks=callbacks)
        if learning_rate is not None:
            net.set_params(lr=learning_rate)
        net._initialize_callbacks()
        trained = train_rows(net, X, y, weight, epochs=epochs, rng=recorder_rng(estimator.unlearning_state_.seed))
    return trained._replace(role=None)


def _onwards(
    estimator: BaseUnlearnable,
    fitted: NeuralNet,
    request: Request,
    start: Tensor,
    *,
    epochs: int | None,
    callbacks: Any,
    learning_rate: float | None,
) -> Trained:
    """Build a net anew, give it these parameters, and train it on the rows that were trained on and stay.

    Nothing else of the fitted net gets into it: buffers and frozen parameters are what they were before ``fit``, and
    the statistics of BatchNorm layers come of these rows. Roles stay what they were, and so does where training began.
    """
    rows, state = estimator.training_set_, estimator.unlearning_state_
    stay = request.stay(rows.live_mask)
    # What the built-in network takes of its rows, it takes of all of them.
    content = request.rows_after(rows, np.flatnonzero(stay))
    X, y, weight = request.rows_after(rows, np.flatnonzero(request.stay(rows.trained_mask)))
    with seeded_torch(state.seed):
        net = blank_net(estimator, *content).initialize()
        make_lazy_parameters(net, X)
        check_trains_the_same(net, fitted)
        is_first = torch.equal(flat_parameters(net).cpu(), start.cpu())
        load_flat(net, start)
        net.set_params(train_split=None, callbacks=callbacks)
        if learning_rate is not None:
            net.set_params(lr=learning_rate)
        net._initialize_callbacks()
        if epochs == 0:
            before = SideState(net)
            take_statistics(net, X, y, state.seed)
            trained = Trained(net, None, side_state=before.changed(net))
        else:
            trained = train_rows(net, X, y, weight, epochs=epochs)
    begun = None if state.start is None else replace(state.start, phases=(), schedule=state.schedule)
    return trained._replace(
        role=rows.role[stay[rows.live_mask]],
        start=begun,
        basis=tuple(training_assumptions(estimator, content, trained, began_there=is_first)),
    )


def _predictions(net: NeuralNet, content: Content, w: Tensor) -> Tensor:
    """Return what the net predicts with parameters w, as the loss takes it in place of targets."""
    outputs = EmpiricalRisk(twin(net), content.X, content.y).outputs(w)
    targets = soft_targets(net, outputs)
    if targets is None:
        raise ValueError(f"The criterion of the net takes no predictions in place of targets: {net.criterion_!r}.")
    return targets


def _afresh(
    estimator: BaseUnlearnable,
    content: Content,
    pace: Pace | None = None,
    targets: Tensor | None = None,
    ids: NDArray[Any] | None = None,
) -> Trained:
    """Train a net as ``fit`` would on these rows, or at the pace given, or for other targets."""
    X, y, weight = content
    seed = estimator.unlearning_state_.seed
    if estimator._slicing is not None and pace is None and targets is None:
        return trained_in_slices(
            estimator._slicing, content, ids, estimator.unlearning_state_.slices, key=key_of(estimator), seed=seed,
            blank=lambda rows: blank_net(estimator, *rows),
        )  # fmt: skip
    with seeded_torch(seed):
        net = blank_net(estimator, X, y, weight).initialize()
        recorder, start = estimator._unlearner().recorder(), estimator.unlearning_state_.start
        return train_rows(
            net, X, y, weight, pace=pace, targets=targets, recorder=recorder, rng=recorder_rng(seed),
            known_start=None if start is None else start.parameters,
        )  # fmt: skip


def _in_fewer_steps(
    estimator: BaseUnlearnable, content: Content, share: float, targets: Tensor | None, attempts: int
) -> Trained:
    """Train a net in a share of the steps, at rates raised as far as that does not diverge.

    One attempt alone has to hold: it ends in an error where more of them would have taken the last one as it is.

    Only the rows given decide how far that is, so that nothing else gets into the net.
    """
    schedule = estimator.unlearning_state_.schedule
    if schedule is None:
        cure = "fit again" if estimator.keep_initial else "fit with keep_initial=True"
        raise ValueError(f"share={share:g} cannot be had: {why_not_shorter(estimator)}; {cure}, or use share=1.0.")
    raise_by, n_steps = 1 / share, 0
    for attempt in range(1, attempts + 1):
        last = attempt == attempts or raise_by <= 1
        try:
            trained = _afresh(estimator, content, Pace(schedule, share, raise_by), targets)
        except TrainingDivergedError as error:
            if last:
                raise
            n_steps += error.n_steps
        else:
            paced = trained.paced
            assert paced is not None
            n_steps += paced.n_steps
            learnt = _has_learnt(trained, content)
            if attempts == 1 and not learnt:
                raise TrainingDivergedError(f"In {n_steps} steps the net learnt nothing of its rows.", n_steps)
            if last or learnt:
                paced.n_steps, paced.n_attempts = n_steps, attempt
                return trained
        raise_by = max(raise_by / 2, 1.0)
    raise AssertionError("The last attempt has returned or raised.")


def _has_learnt(trained: Trained, content: Content) -> bool:
    """Tell whether the net knows more of its rows than one output for all of them does.

    Where all targets are the same, as those of a class that is the last one, there is no more to know.
    """
    y = content.y
    if len(y) and bool((y == y[:1]).all()):
        return True
    risk = EmpiricalRisk(trained.net, content.X, content.y, content.weight)
    w = flat_parameters(trained.net)
    chance = chance_loss(risk, w)
    loss = risk.without_penalty(w, risk.value(w, risk.sample(_WATCHED_ROWS, np.random.default_rng(0))))
    return not loss > chance - (1 - _LEARNT) * abs(chance)


def why_not_shorter(estimator: BaseUnlearnable) -> str:
    """Say why the estimator's net cannot be trained anew in a share of the steps; nothing where it can."""
    schedule = estimator.unlearning_state_.schedule
    if schedule is not None:
        return why_not_paced(estimator.net_, schedule)
    if not estimator.keep_initial:
        return "keep_initial=False kept no schedule of fit"
    return (
        "the schedule of fit is not known, for the model was adopted by from_fitted, has learnt by partial_fit alone, "
        "or was trained by a loop that is not skorch's"
    )
