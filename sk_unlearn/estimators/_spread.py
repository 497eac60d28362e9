"""What an estimator does where several processes fit it together: their rows become one set, their requests are one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn import distributed
from sk_unlearn.estimators._receipts import parameters_of
from sk_unlearn.receipts import digest_parameters
from sk_unlearn.rows import TrainingSet, as_identifiers
from sk_unlearn.rows.content import content_hash
from sk_unlearn.rows.forms import as_rows
from sk_unlearn.rows.parts import has_parts
from sk_unlearn.rows.spread import SpreadRows, spread

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = ["agreed", "check_same_request", "check_spread", "net_as_first", "rows_of_all", "same_net"]

_NOT_SPREAD = (
    "{verb} was called inside data_parallel() of an estimator that was fitted outside: each process would go by its "
    "own rows alone. Fit it inside, or leave the context."
)
_SPREAD = (
    "{verb} was called outside data_parallel() of an estimator that several processes have fitted, each on rows of its "
    "own: enter the context in all of them, and call it there."
)


def agreed() -> AbstractContextManager[None]:
    """Have all processes raise where one of several that work together does; without others nothing is done."""
    return distributed.agree() if distributed.is_active() else nullcontext()


def check_spread(rows: TrainingSet | None, verb: str) -> None:
    """Raise where rows are spread over processes that do not work together now, or the other way round."""
    if rows is None:
        return
    is_spread = isinstance(rows.raw_X, SpreadRows)
    if is_spread != distributed.is_active():
        raise RuntimeError((_SPREAD if is_spread else _NOT_SPREAD).format(verb=verb))


def rows_of_all(
    estimator: BaseUnlearnable, X: Any, y: Any, sample_weight: ArrayLike | None, sample_id: Any, *, reset: bool
) -> tuple[Any, NDArray[Any], NDArray[np.float64] | None, Any]:
    """Return validated rows, targets, weights and identifiers: of all processes, where several work together."""
    if not distributed.is_active():
        return *estimator._validate_training_rows(X, y, sample_weight, reset=reset), sample_id
    with distributed.agree():
        if estimator.memory is not None:
            raise ValueError("memory keeps nets of one process: set memory=None inside data_parallel().")
        X, y, weight = estimator._validate_training_rows(X, y, sample_weight, reset=reset)
        if has_parts(X):
            raise ValueError("X has rows of several parts, which data_parallel() does not spread: pass one array.")
        ids = as_identifiers(sample_id, len(X))
    _check_same_settings(estimator)
    names = getattr(estimator, "feature_names_in_", None)
    distributed.same(None if names is None else names.tolist(), "The names of features in X")
    distributed.same((y.shape[1:], y.dtype.kind), "The shape and kind of targets in y")
    distributed.same(ids is None, "Whether sample_id is given")
    weights = distributed.gather((weight, len(y)))
    if all(each is None for each, _ in weights):
        weight = None
    else:
        weight = np.concatenate([np.ones(n) if each is None else each for each, n in weights])
    return spread(X), np.concatenate(distributed.gather(y)), weight, _joined(distributed.gather(ids))


def _joined(parts: list[NDArray[Any] | None]) -> Any:
    columns = [part for part in parts if part is not None]
    if not columns:
        return None
    if all(column.dtype == np.int64 for column in columns):
        return np.concatenate(columns)
    ids = [one for column in columns for one in column.tolist()]
    return as_identifiers(ids, len(ids))


def _check_same_settings(estimator: BaseUnlearnable) -> None:
    # Each process may have a device of its own, and one of them may print.
    own = ("device", "verbose")
    told = {name: value for name, value in parameters_of(estimator).items() if name.split("__")[-1] not in own}
    distributed.same(told, "The settings of the estimator")


def check_same_request(estimator: BaseUnlearnable, verb: str, X: Any, y: Any, ids: Any) -> None:
    """Raise in all processes unless each was given the same request, and would carry it out in the same way."""
    if not distributed.is_active():
        return
    _check_same_settings(estimator)
    told = blake2b(digest_size=16)
    for column in (X, y):
        told.update(b"-" if column is None else np.ascontiguousarray(content_hash(as_rows(column))).data)
    named = None if ids is None else [repr(one) for one in ids]
    told.update(repr(named).encode())
    distributed.same(told.digest(), f"The request that {verb} is given")


def net_as_first(net: NeuralNet) -> None:
    """Give a net the parameters and buffers that it has in process 0, where several work together."""
    if distributed.is_active():
        distributed.as_first(*(each for each in net.module_.state_dict().values() if isinstance(each, Tensor)))


def same_net(net: NeuralNet) -> None:
    """Raise in all processes unless they are about to keep the same net; also where one of them is gone."""
    if distributed.is_active():
        distributed.same(digest_parameters(net), "The net that comes of it")
