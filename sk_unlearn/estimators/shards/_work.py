"""What is done to one shard, in this process or in another: always on a copy, which the caller puts in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import delayed
from numpy.typing import NDArray

from sk_unlearn.estimators._receipts import key_of
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.drafts import commit_drafts, draft_deletion_at
from sk_unlearn.rows import SetDigest
from sk_unlearn.utils._checksum import unchecked
from sk_unlearn.utils._parallel import carried_out, runs_here
from sk_unlearn.utils._progress import SHARE, progress

__all__ = ["Training", "Work", "all_done", "all_trained", "rows_digest"]


@dataclass(frozen=True)
class Training:
    """Rows that come to a shard.

    Attributes
    ----------
    shard : BaseUnlearnable
        Fitted or not; not changed.

    X, y, sample_weight, sample_id
        As ``fit`` takes them.

    classes : ndarray or None
        All labels of a classifier.

    key : bytes
        Of the digests of all shards.

    one_pass : bool
        Whether to call ``partial_fit``.
    """

    shard: BaseUnlearnable
    X: Any
    y: Any
    sample_weight: Any
    sample_id: Any
    classes: Any
    key: bytes
    one_pass: bool


@dataclass(frozen=True)
class Work:
    """A request to one shard.

    Attributes
    ----------
    number : int
        Of the shard.

    verb : {"forget", "correct", "settle", "retrain"}

    at : int64 ndarray
        Which of the stored rows go, counted from the first one that is left: a copy numbers its slots anew.

    given : dict
        Arguments of the verb that name no slots.
    """

    number: int
    verb: str
    at: NDArray[np.int64]
    given: dict[str, Any]


def all_trained(trainings: Sequence[Training], n_jobs: int | None) -> list[BaseUnlearnable]:
    """Return the shards, trained on the rows that came to each."""
    return _parallel(n_jobs, (delayed(_trained)(each) for each in trainings))


def all_done(
    work: Sequence[Work], shards: Sequence[BaseUnlearnable], n_jobs: int | None, *, verb: str, verbose: int | None
) -> list[BaseUnlearnable]:
    """Return what becomes of some shards, one for each piece of work, by the requests to them; show how many are done.

    Where `verbose` is above 0 the shards print what they do themselves.
    """
    jobs = (delayed(_done)(each, shard) for each, shard in zip(work, shards, strict=True))
    here = runs_here(n_jobs)
    with progress(
        len(work), verb, unit="shard", verbose=None if verbose is None else 0, parts=True,
        bar_format=None if here else SHARE,
    ) as bar:  # fmt: skip
        if not here:
            return _parallel(n_jobs, jobs, lambda share: bar.update(share * len(work)))
        done = []
        for each in carried_out(jobs, n_jobs):
            done.append(each)
            bar.update()
        return done


def _parallel(
    n_jobs: int | None, jobs: Iterable[Any], advance: Callable[[float], object] | None = None
) -> list[BaseUnlearnable]:
    # Without a limit of bytes, joblib would write larger arrays to files on their way to other processes: rows that are
    # about to be erased.
    return list(carried_out(jobs, n_jobs, advance=advance, max_nbytes=None))


def rows_digest(shard: BaseUnlearnable) -> SetDigest:
    """Return the digest of the rows of a shard."""
    known = shard.unlearning_state_.retained_set
    return SetDigest.of_rows(key_of(shard), shard.training_set_) if known is None else known


def _trained(task: Training) -> BaseUnlearnable:
    shard = _copied(task.shard)
    if task.one_pass and shard.__sklearn_is_fitted__():
        given: dict[str, Any] = {"sample_weight": task.sample_weight, "sample_id": task.sample_id}
        shard = shard.partial_fit(task.X, task.y, **given)
    else:
        shard._fit_made(
            None, task.X, task.y, task.sample_weight, sample_id=task.sample_id, first_pass=task.one_pass,
            classes=task.classes, key=task.key,
        )  # fmt: skip
    # Every request tells what all shards hold: taken once here, and by what goes and comes from then on.
    shard.unlearning_state_ = replace(shard.unlearning_state_, retained_set=rows_digest(shard))
    return shard


def _done(work: Work, shard: BaseUnlearnable) -> BaseUnlearnable:
    shard = _copied(shard)
    if work.verb == "forget":
        slots = np.flatnonzero(shard.training_set_.live_mask)[work.at]
        commit_drafts([draft_deletion_at(shard, slots)])
    else:
        getattr(shard, work.verb)(**work.given)
    return shard


def _copied(shard: BaseUnlearnable) -> BaseUnlearnable:
    with unchecked():
        return deepcopy(shard)
