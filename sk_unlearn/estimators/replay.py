"""Requests that a log of receipts knows and a model does not: an old copy, brought up to date."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.estimators._draft import Draft
from sk_unlearn.estimators._orders import Order
from sk_unlearn.estimators._receipts import digests_of_ids, digests_of_rows, key_of
from sk_unlearn.estimators._request import check_some_stay, resolve_slots
from sk_unlearn.estimators.coordinates import NewCoordinates
from sk_unlearn.estimators.drafts import draft_aside
from sk_unlearn.receipts import Receipt, ReceiptChain
from sk_unlearn.rows.digests import DigestIndex

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = ["Replay", "beside_the_log", "draft_replay_at", "found_by_receipt", "orders_of", "replay_of"]

_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Replay:
    """What is to be done to a model for it to have carried out every request of a log.

    Attributes
    ----------
    chain : ReceiptChain
        The log.

    positions : int64 ndarray
        Slots of the stored rows that the missing requests erased or corrected.

    orders : tuple of Order
        These requests.

    notes : list of str
        What the reader of the report should know.
    """

    chain: ReceiptChain
    positions: NDArray[np.int64]
    orders: tuple[Order, ...]
    notes: list[str]


def replay_of(estimator: BaseUnlearnable, chain: ReceiptChain) -> Replay:
    """Find the rows that a log says were erased since a model was saved, by their keyed digests.

    Parameters
    ----------
    estimator : UnlearnableClassifier or UnlearnableRegressor
        Fitted, with rows; its receipts are the first of the log.

    chain : ReceiptChain
        The log.

    Raises
    ------
    ValueError
        Where rows are not stored, where a missing request erased rows that had been handed in, and where no row would
        be left.
    """
    missing = [receipt for receipt in chain[len(estimator.receipts_) :] if receipt.verb != "audit"]
    if not hasattr(estimator, "training_set_"):
        raise ValueError(
            "rows were left out of it (rows=False, or keep_training_set=False), so that those of the missing requests "
            "cannot be found. Take a copy that was saved after them."
        )
    found = {receipt.sequence: found_by_receipt(estimator, receipt) for receipt in missing}
    positions = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *found.values()]))
    check_some_stay(estimator.training_set_, positions)
    return Replay(chain, positions, orders_of(missing), _notes(estimator, missing, found, positions))


def draft_replay_at(
    estimator: BaseUnlearnable, replay: Replay, *, to: NewCoordinates | None = None, notes: Sequence[str] = ()
) -> Draft:
    """Take over the receipts of a log, and work out the one request that makes up for those that are missing.

    Parameters
    ----------
    estimator : UnlearnableClassifier or UnlearnableRegressor
        Just loaded, so that nobody else sees that it has the receipts of the log before the draft is committed.

    replay : Replay
        Of this estimator.

    to, notes
        As for :func:`~sk_unlearn.estimators.drafts.draft_deletion_at`.
    """

    def act(each: BaseUnlearnable, told: Sequence[str]) -> Draft:
        started = time.perf_counter()
        each.receipts_ = replay.chain
        request = resolve_slots(each.training_set_, replay.positions)
        return each._drafted(replace(request, verb="replay", orders=replay.orders), started, told)

    return draft_aside(estimator, to, replay.positions, act, [*replay.notes, *notes])


def found_by_receipt(estimator: BaseUnlearnable, receipt: Receipt) -> NDArray[np.int64]:
    """Return the slots of the rows of a receipt: those of its content, with one of its identifiers where it has some.

    Several rows may have the content of one that a request told apart by its target: they are all returned, for the
    receipt does not say which of them it was.
    """
    rows, key = estimator.training_set_, key_of(estimator)
    live = np.flatnonzero(rows.live_mask)
    match = DigestIndex(digests_of_rows(key, rows, live), live).find(_digests(receipt.rows))
    if receipt.verb == "partial_forget" and not match.found.all():
        raise ValueError(
            f"receipt {receipt.sequence} of the log is of rows that were handed in and are not stored in it "
            f"({int(np.count_nonzero(~match.found))} of {len(receipt.rows)}): their digests do not say what to undo. "
            "Take a copy that was saved after that request."
        )
    positions = match.positions
    if receipt.ids and rows.raw_id is not None:
        asked = set(receipt.ids)
        ids = digests_of_ids(estimator, key, rows.raw_id[positions])
        positions = positions[np.array([one in asked for one in ids], dtype=bool)]
    return positions


def beside_the_log(
    found: Sequence[tuple[BaseUnlearnable, NDArray[np.int64]]], missing: Sequence[Receipt]
) -> tuple[int, int]:
    """Return how many rows were found beside those that the log says were erased, and how many of these were not.

    Parameters
    ----------
    found : sequence of (UnlearnableClassifier or UnlearnableRegressor, int64 ndarray)
        Fitted, with the slots of rows that were found.

    missing : sequence of Receipt
        Of the log.

    Raises
    ------
    ValueError
        Where some were not found and rows stay outside: they may have become zeros there since.
    """
    stored: Counter[str] = Counter()
    for each, slots in found:
        stored.update(one.tobytes().hex() for one in digests_of_rows(key_of(each), each.training_set_, slots))
    told = Counter(one for receipt in missing for one in receipt.rows)
    more, fewer = sum((stored - told).values()), sum((told - stored).values())
    if fewer and any(each.training_set_.sources for each, _ in found):
        raise ValueError(
            f"{fewer} rows that the log says were erased are not among its rows, which stay outside it and may have "
            "been overwritten there since it was saved: what it learnt from them could not be undone. Take a copy that "
            "was saved after those requests, or fit anew."
        )
    return more, fewer


def _digests(texts: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(texts)), dtype=np.uint8).reshape(len(texts), _DIGEST_BYTES)


def orders_of(missing: Sequence[Receipt]) -> tuple[Order, ...]:
    """Return the requests that receipts are of: those that a settlement, or an earlier replay, carried out."""
    orders = {}
    for receipt in missing:
        own = {"request_id": receipt.request_id, "received": receipt.received}
        for told in receipt.outcome.get("requests") or [own]:
            moment = datetime.fromisoformat(told["received"].replace("Z", "+00:00"))
            orders[told["request_id"]] = Order(told["request_id"], moment)
    return tuple(orders.values())


def _notes(
    estimator: BaseUnlearnable,
    missing: Sequence[Receipt],
    found: dict[int, NDArray[np.int64]],
    positions: NDArray[np.int64],
) -> list[str]:
    if not missing:
        return []
    notes = [f"Replays receipts {missing[0].sequence} to {missing[-1].sequence} of the log on an older copy."]
    more, fewer = beside_the_log([(estimator, positions)], missing)
    corrected = {slot for each in missing if each.verb == "correct" for slot in found[each.sequence].tolist()}
    if corrected:
        notes.append(
            f"{len(corrected)} of the rows had been corrected: their old content is erased, and the new one, which no "
            "receipt has, is missing; bring it by partial_fit."
        )
    if more:
        notes.append(
            f"{more} rows more went than the log says: they equal rows that were erased, and receipts do not say which "
            "of equal rows a request named by its target."
        )
    if fewer:
        notes.append(f"{fewer} rows that the log says were erased are not in the copy: they came after it was saved.")
    if any(receipt.verb == "retrain" for receipt in missing):
        notes.append(
            "The log has a training anew, which is not repeated: call retrain() for the network to owe nothing to "
            "earlier rows."
        )
    return notes
