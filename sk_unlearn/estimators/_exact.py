"""What it takes for a net that was trained anew to be a function of the retained rows, the settings and the seed."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import Checkpoint
from torch import nn

from sk_unlearn.estimators._request import Content
from sk_unlearn.privacy import Assumption, Certificate
from sk_unlearn.training.ledger import Trained, decides_by_measure

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = ["exact_certificate", "seed_from_user", "training_assumptions"]


def exact_certificate(estimator: BaseUnlearnable, content: Content, trained: Trained) -> Certificate:
    """Certify a net that was trained from the start on the rows that stay.

    Parameters
    ----------
    estimator : BaseUnlearnable
        Fitted, as before the request.

    content : Content
        The rows that stay.

    trained : Trained
        What came of training on them.
    """
    assumptions = training_assumptions(estimator, content, trained)
    method = "retraining"
    if trained.paced is not None:
        method = f"retraining in {trained.paced.pace.share:.3g} of the steps"
        assumptions.append(_schedule_was_fixed(estimator, trained))
    return Certificate(method, bound=0.0, epsilon=0.0, delta=0.0, assumptions=assumptions, kind="exact")


def training_assumptions(
    estimator: BaseUnlearnable, content: Content, trained: Trained, *, began_there: bool = True
) -> list[Assumption]:
    """Return what it takes for nothing but the rows that stay, the settings and the seed to have entered a training.

    Parameters
    ----------
    estimator, content, trained
        As :func:`exact_certificate` takes them.

    began_there : bool
        Whether the weights that count as the initial ones are those that the seed draws.
    """
    assumptions = [
        _weights_from_seed(estimator.estimator, began_there),
        seed_from_user(isinstance(estimator.random_state, Integral)),
        _no_code_with_memory(trained.net),
    ]
    if estimator._classifier:
        assumptions.append(_classes_are_left(estimator, content))
    return assumptions


def _weights_from_seed(given: Any, began_there: bool) -> Assumption:
    if not began_there:
        return Assumption("the initial weights come from the seed", None, "they are not those that the seed draws")
    module = given.module if isinstance(given, NeuralNet) else given
    handed_in = isinstance(module, nn.Module)
    return Assumption(
        "the initial weights come from the seed",
        None if handed_in else True,
        "the module was handed in with weights of its own" if handed_in else "drawn when the module was built",
    )


def seed_from_user(given: bool) -> Assumption:
    """Return what it takes for the seed to know nothing of the rows; `given` if ``random_state`` is a number."""
    return Assumption(
        "the seed knows nothing of the rows",
        True if given else None,
        "random_state is a number" if given else "drawn from a generator; give a number as random_state",
    )


def _no_code_with_memory(net: NeuralNet) -> Assumption:
    own = sorted({type(each).__name__ for each in (net, *(c for _, c in net.callbacks_)) if not _is_known(type(each))})
    return Assumption(
        "the net and its callbacks remember nothing of rows that have gone",
        None if own else True,
        f"nobody can see what {', '.join(own)} may keep or read" if own else "all of them are skorch's",
    )


def _is_known(kind: type) -> bool:
    return kind.__module__.split(".")[0] in ("skorch", "sk_unlearn")


def _classes_are_left(estimator: BaseUnlearnable, content: Content) -> Assumption:
    n_classes = len(estimator.classes_)
    n_left = len(np.unique(content.y)) if content.y.ndim == 1 else n_classes
    return Assumption(
        "the classes are those of the rows that stay",
        n_left == n_classes,
        f"{n_left} of {n_classes}" + ("" if n_left == n_classes else "; that the others existed can be seen"),
    )


def _schedule_was_fixed(estimator: BaseUnlearnable, trained: Trained) -> Assumption:
    assert trained.paced is not None
    statement = "the rates and the number of epochs of fit were fixed before"
    # A Checkpoint chooses parameters, which a shorter training does not take over.
    callbacks = [callback for _, callback in estimator.net_.callbacks_ if not isinstance(callback, Checkpoint)]
    if trained.paced.pace.schedule.ended_early:
        return Assumption(statement, False, "a callback chose the number of epochs while the erased rows were there")
    if trained.paced.cut_short:
        return Assumption(statement, False, "a callback ended the shorter training early")
    watching = sorted({type(each).__name__ for each in callbacks if decides_by_measure(each)})
    if watching:
        return Assumption(statement, False, f"{', '.join(watching)} went by a measure of the rows")
    own = sorted({type(each).__name__ for each in callbacks if not _is_known(type(each))})
    if own:
        return Assumption(statement, None, f"nobody can see whether {', '.join(own)} went by the rows")
    return Assumption(statement, True, "how many rows there were may show in it, and nothing else of them")
