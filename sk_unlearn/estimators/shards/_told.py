"""What is told of a request to many shards: one report, one receipt, one certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from hashlib import sha256
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.estimators._advice import RetrainAdvice
from sk_unlearn.estimators._exact import seed_from_user
from sk_unlearn.estimators._orders import Order, now
from sk_unlearn.estimators._receipts import erased_digests, key_of, parameters_of, written
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.estimators.shards._routing import ShardedState
from sk_unlearn.estimators.shards._rows import Freed
from sk_unlearn.estimators.shards._work import rows_digest
from sk_unlearn.privacy import Assumption, Certificate
from sk_unlearn.receipts import Receipt, digest_parameters
from sk_unlearn.receipts.receipt import utc
from sk_unlearn.rows import OutsideRows, SetDigest
from sk_unlearn.rows.outside import RowSource
from sk_unlearn.unlearners.status import Status

__all__ = [
    "Touched",
    "all_freed",
    "certificate_of",
    "digest_of_shards",
    "freed_outside",
    "live",
    "receipt_of_all",
    "report_of_all",
    "worst_of",
]

Shards = Sequence[BaseUnlearnable | None]

_CLASSES = "the classes are those of the rows that stay"


@dataclass(frozen=True)
class Touched:
    """A shard before and after a request.

    Attributes
    ----------
    number : int

    old : BaseUnlearnable

    new : BaseUnlearnable or None
        None for one that has lost its last row.

    positions : int64 ndarray
        Slots, in the old one, of the rows that go or change.
    """

    number: int
    old: BaseUnlearnable
    new: BaseUnlearnable | None
    positions: NDArray[np.int64]

    @property
    def n_trained(self) -> int:
        """How many of the rows had entered a gradient."""
        return int(np.count_nonzero(self.old.training_set_.trained_mask[self.positions]))


def live(shards: Shards) -> list[BaseUnlearnable]:
    """Return the shards that have rows."""
    return [each for each in shards if each is not None]


def digest_of_shards(shards: Shards) -> str:
    """Return SHA-256, in hexadecimal, over the parameters of all shards and their numbers."""
    digest = sha256()
    for number, each in enumerate(shards):
        if each is not None:
            digest.update(f"{number} {digest_parameters(each.net_)}\n".encode())
    return digest.hexdigest()


def report_of_all(
    verb: str,
    method: str,
    touched: Sequence[Touched],
    after: Shards,
    state: ShardedState,
    orders: Sequence[Order],
    seconds: float,
) -> UnlearningReport:
    """Write the report of a request to many shards.

    Parameters
    ----------
    verb : str
        What was asked.

    method : str
        Class name of the unlearner.

    touched : sequence of Touched

    after : sequence of BaseUnlearnable or None
        All shards, as they will be.

    state : ShardedState

    orders : sequence of Order
        The pending requests that it carries out.

    seconds : float
        Of the whole request.
    """
    reports = [each.new.unlearning_report_ for each in touched if each.new is not None]
    emptied = [each for each in touched if each.new is None]
    told = [report for report in reports if report.n_trained_erased or report.parameters_moved]
    norms = [report.step_norm for report in reports]
    completed = now()
    status, reason = _ended(told, len(emptied), len(after))
    return UnlearningReport(
        request=verb,
        method=method,
        n_erased=sum(len(each.positions) for each in touched),
        n_trained_erased=sum(each.n_trained for each in touched),
        n_retained=sum(len(each.training_set_) for each in live(after)),
        parameters_moved=bool(emptied) or any(report.parameters_moved for report in reports),
        status=status,
        stop_reason=reason,
        seconds=seconds,
        n_steps=sum(report.n_steps for report in reports),
        n_products=sum(report.n_products for report in reports),
        step_norm=float(np.linalg.norm(norms)) if norms else 0.0,
        notes=list(dict.fromkeys(note for report in reports for note in report.notes)),
        certificate=certificate_of([report.certificate for report in told], after, state) if told or emptied else None,
        extra={"n_shards": len(after), "n_shards_touched": len(touched), "n_shards_emptied": len(emptied)},
        requests=[order.told(completed) for order in orders],
        request_id=str(uuid4()),
        completed=utc(completed),
    )


def _ended(told: Sequence[UnlearningReport], n_emptied: int, n_shards: int) -> tuple[Status, str]:
    """Return how a request ended in the shards together: as it did where it ended worst, and the reasons."""
    if not told and not n_emptied:
        return Status.NOTHING_TO_UNDO, "no row in the request had entered a gradient"
    order = list(Status)
    status = max((report.status for report in told), key=order.index, default=Status.COMPLETED)
    reasons = [
        f"{'; '.join(dict.fromkeys(report.stop_reason for report in told))}, in {len(told)} of {n_shards} shards"
    ]
    emptied = f"{n_emptied} of {n_shards} shards have lost their last row and are gone"
    return status, "; ".join([*(reasons if told else []), *([emptied] if n_emptied else [])])


def freed_outside(touched: Sequence[Touched], after: Shards) -> Freed:
    """Return where rows stay outside, and the numbers of those that stand for no row any more after a request.

    Parameters
    ----------
    touched : sequence of Touched

    after : sequence of BaseUnlearnable or None
        All shards, as they will be: one row outside may be in several of them, as different persons'.
    """
    olds = [(each.old.training_set_.raw_X, each.positions) for each in touched]
    parts = [list(zip(X.sources, X[at].used(), strict=True)) for X, at in olds if isinstance(X, OutsideRows)]
    freed = {id(source): (source, numbers) for source, numbers in all_freed(*parts)}
    for shard in live(after) if freed else []:
        X = shard.training_set_.raw_X
        if isinstance(X, OutsideRows):
            asked = [freed.get(id(source), (source, np.empty(0, np.int64)))[1] for source in X.sources]
            for source, numbers, used in zip(X.sources, asked, X.in_use(asked), strict=True):
                freed[id(source)] = source, numbers[~used]
    return tuple(freed.values())


def all_freed(*parts: Freed) -> Freed:
    """Return what several requests have freed."""
    freed: dict[int, tuple[RowSource, NDArray[np.int64]]] = {}
    for source, numbers in [each for part in parts for each in part]:
        freed[id(source)] = source, np.union1d(freed.get(id(source), (source, numbers[:0]))[1], numbers)
    return tuple(freed.values())


def receipt_of_all(
    report: UnlearningReport,
    touched: Sequence[Touched],
    before: Shards,
    after: Shards,
    state: ShardedState,
    orders: Sequence[Order],
    unlearner: Any,
    n_before: int,
) -> Receipt:
    """Write the receipt of a request to many shards.

    Parameters
    ----------
    report : UnlearningReport

    touched, before, after, state, orders
        As for :func:`report_of_all`, and all shards as they are.

    unlearner : Unlearner

    n_before : int
        Requests before this one.
    """
    digests = [erased_digests(each.old, each.positions) for each in touched]
    one = live(before)[0]
    rows = reduce(SetDigest.plus, [rows_digest(each) for each in live(after)])
    dtype = one.unlearning_state_.dtype
    return written(
        report,
        [order.received for order in orders],
        rows=tuple(sorted(digest for of_rows, _ in digests for digest in of_rows)),
        ids=tuple(sorted({digest for _, of_ids in digests for digest in of_ids})),
        content=f"rows as the net takes them: {dtype}, shape {one.unlearning_state_.row_shape}",
        dtype=str(dtype),
        parameters_before=digest_of_shards(before),
        parameters_after=digest_of_shards(after),
        retained_set=rows.hex(key_of(one)),
        parameters=parameters_of(unlearner),
        seeds={"random_state": state.seed, "request": 1 + n_before},
    )


def certificate_of(
    certificates: Sequence[Certificate | None], after: Shards, state: ShardedState, n_requests: int = 1
) -> Certificate | None:
    """Return what is guaranteed of all shards together: that they are exact where each is, else nothing.

    Parameters
    ----------
    certificates : sequence of Certificate or None
        Of the shards that are not as ``fit`` left them. A shard that is gone needs none.

    after : sequence of BaseUnlearnable or None
        All shards.

    state : ShardedState

    n_requests : int
        How many it speaks of.
    """
    parts = [each for each in certificates if each is not None and each.kind == "exact"]
    if len(parts) < len(certificates):
        return None
    assumptions = {one.statement: one for each in parts for one in each.assumptions if one.statement != _CLASSES}
    for each in parts:  # of one that does not hold everywhere
        assumptions |= {one.statement: one for one in each.assumptions if not one.checked and one.statement != _CLASSES}
    method = f"{parts[0].method} of the shards that held the rows" if parts else "shards without rows are gone"
    seed = seed_from_user(state.given)  # those of the shards are numbers that follow from it
    told = [*(assumptions | {seed.statement: seed}).values(), _shards_by_rows(after, state)]
    one = live(after)[0]
    if one._classifier:
        told.append(_classes_are_left(one, after))
    certificate = Certificate(method, bound=0.0, epsilon=0.0, delta=0.0, assumptions=told, kind="exact")
    return replace(certificate, n_requests=n_requests)


def _shards_by_rows(after: Shards, state: ShardedState) -> Assumption:
    by_id = live(after)[0].training_set_.sample_id is not None
    detail = "by a hash of its identifier" if by_id else "by a hash of its content"
    if state.moved:
        detail = "rows that were corrected are in the shard of what they had been"
    return Assumption("the row itself and the seed decide which shard it is in", not state.moved, detail)


def _classes_are_left(one: BaseUnlearnable, after: Shards) -> Assumption:
    n_classes = len(vars(one)["classes_"])
    n_left = len(set().union(*(np.unique(each.training_set_.y).tolist() for each in live(after))))
    return Assumption(
        _CLASSES,
        n_left == n_classes,
        f"{n_left} of {n_classes}" + ("" if n_left == n_classes else "; that the others existed can be seen"),
    )


def worst_of(advices: Sequence[RetrainAdvice]) -> RetrainAdvice:
    """Return what speaks for training shards anew: all reasons that one of them has, and the worst of each number.

    Parameters
    ----------
    advices : sequence of RetrainAdvice
        One for each shard that has rows.
    """
    reasons: dict[str, int] = {}
    for reason in (reason for each in advices for reason in each.reasons):
        reasons[reason] = reasons.get(reason, 0) + 1
    numbers: dict[str, Any] = {
        name: max((getattr(each, name) for each in advices if not np.isnan(getattr(each, name))), default=np.nan)
        for name in (
            "share_erased", "n_requests", "n_small_passes", "gradient_left", "budget_spent", "epsilon",
            "distance_bound",
        )
    }  # fmt: skip
    return RetrainAdvice(
        reasons=[f"{reason} (in {n} of {len(advices)} shards)" for reason, n in reasons.items()],
        statuses=list(dict.fromkeys(status for each in advices for status in each.statuses)),
        **numbers,
    )
