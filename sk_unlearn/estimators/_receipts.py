"""The receipt of a request: what is written down of it, and what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet

from sk_unlearn import distributed
from sk_unlearn._version import __version__
from sk_unlearn.estimators._request import Request
from sk_unlearn.estimators._state import FittedState
from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.receipts import Receipt, ReceiptChain, digest_parameters
from sk_unlearn.receipts.receipt import deadline_of, plain, utc
from sk_unlearn.rows import SetDigest, TrainingSet, as_identifiers
from sk_unlearn.rows.digests import digest_ids, digest_rows, new_key

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = [
    "audited",
    "begin_receipts",
    "digests_of_ids",
    "digests_of_rows",
    "erased_digests",
    "kept_ids",
    "key_of",
    "parameters_of",
    "receipt_of",
    "receipts_so_far",
    "retained_after",
    "retained_with",
    "versions",
    "written",
]

_NOT_COVERED = (
    "copies and clones of this object, and whatever was saved of it before, such as files, checkpoints and caches",
    "backups and logs",
    "models, predictions and data derived from this model before",
    "the source systems that the rows came from",
)
_PACKAGES = ("torch", "skorch", "scikit-learn", "numpy")
# Values of a parameter that are written down; longer lists may be rows.
_FEW = 8


def key_of(estimator: BaseUnlearnable) -> bytes:
    """Return the key of an estimator's digests, which is drawn where there is none yet."""
    own = estimator.__dict__
    if "_receipt_key" not in own:
        own["_receipt_key"] = distributed.from_first(new_key()) if distributed.is_active() else new_key()
    key: bytes = own["_receipt_key"]
    return key


def begin_receipts(draft: BaseUnlearnable, net: NeuralNet) -> None:
    """Give an estimator that was just fitted a chain without receipts, which names what it has learnt."""
    key_of(draft)
    chain = ReceiptChain.begin(digest_parameters(net), versions())
    draft.receipts_ = distributed.from_first(chain) if distributed.is_active() else chain


def receipts_so_far(estimator: BaseUnlearnable) -> ReceiptChain:
    """Return the receipts of a fitted estimator; an empty chain where they were left out of the file it comes from."""
    chain: ReceiptChain | None = vars(estimator).get("receipts_")
    return ReceiptChain.begin(digest_parameters(estimator.net_), versions()) if chain is None else chain


def kept_ids(estimator: BaseUnlearnable, sample_id: Any, n: int | None = None) -> Any:
    """Return identifiers as they are kept and looked up: as they are, or with ``hash_ids`` as keyed digests of them.

    Parameters
    ----------
    estimator : BaseUnlearnable
    sample_id : identifiers, or None
    n : int, optional
        How many there must be.
    """
    if sample_id is None or not estimator.hash_ids:
        return sample_id
    ids = sample_id if n is None else as_identifiers(sample_id, n)
    assert ids is not None
    return [each.tobytes() for each in digest_ids(key_of(estimator), ids)]


def retained_after(
    estimator: BaseUnlearnable, rows: TrainingSet | None, request: Request, before: SetDigest | None
) -> SetDigest | None:
    """Return the digest of the rows that are held after a request: what it was, less those that go, plus new content.

    Parameters
    ----------
    estimator : BaseUnlearnable
    rows : TrainingSet or None
    request : Request
    before : SetDigest or None
        That of the rows held before; None where it is to be taken over all of them.
    """
    if rows is None:
        return None
    key = key_of(estimator)
    before = SetDigest.of_rows(key, rows) if before is None else before
    rest = before.minus(SetDigest.of_slots(key, rows, request.positions))
    if request.new is None:
        return rest
    ids = None if rows.raw_id is None else rows.raw_id[request.positions]
    source = rows.raw_source
    if source is not None:
        source = source[request.positions] if request.source is None else request.source
    new = request.new
    return rest.plus(SetDigest.of_content(key, new.X, new.y, new.weight, ids, source))


def retained_with(
    estimator: BaseUnlearnable, before: SetDigest | None, rows: TrainingSet, new: TrainingSet, is_new: NDArray[np.bool_]
) -> SetDigest | None:
    """Return the digest of the rows that are held after some others have come, at the cost of these.

    Parameters
    ----------
    estimator : BaseUnlearnable
    before : SetDigest or None
        That of the rows held before; None where it was never taken, and is to be at the next request.
    rows : TrainingSet
        The rows held before.
    new : TrainingSet
        Others.
    is_new : (n,) bool
        Which of them come.
    """
    if before is None or not is_new.any():
        return before
    weight = None if new.raw_weight is None else new.raw_weight[is_new]
    ids = None if new.raw_id is None else new.raw_id[is_new]
    source = None if new.raw_source is None else new.raw_source[is_new]
    # As they will be stored: sparse rows and dense ones are digested in different ways.
    X, y = rows.as_stored(new.raw_X[is_new]), new.raw_y[is_new].astype(rows.raw_y.dtype)
    return before.plus(SetDigest.of_content(key_of(estimator), X, y, weight, ids, source))


def receipt_of(
    estimator: BaseUnlearnable,
    request: Request,
    report: UnlearningReport,
    *,
    net: NeuralNet,
    state: FittedState,
    unlearner: Any,
) -> Receipt:
    """Write the receipt of a request that is about to be committed.

    Parameters
    ----------
    estimator : BaseUnlearnable
        As it is before.

    request : Request

    report : UnlearningReport

    net : skorch.NeuralNet
        With the parameters as they will be.

    state : FittedState
        As it will be.

    unlearner : Unlearner
    """
    rows: TrainingSet | None = getattr(estimator, "training_set_", None)
    key = key_of(estimator)
    digests, content, dtype = _erased(key, rows, request, estimator.unlearning_state_)
    return written(
        report,
        [each.received for each in request.orders],
        rows=tuple(sorted(digests)),
        ids=_erased_ids(estimator, key, rows, request),
        content=content,
        dtype=dtype,
        parameters_before=estimator.unlearning_state_.served or digest_parameters(estimator.net_),
        parameters_after=digest_parameters(net),
        retained_set=None if state.retained_set is None else state.retained_set.hex(key),
        parameters=parameters_of(unlearner),
        seeds={"random_state": state.seed, "request": 1 + len(estimator.unlearning_history_)},
    )


def written(report: UnlearningReport, received: Sequence[datetime], **told: Any) -> Receipt:
    """Return the receipt of a request that is reported like this.

    Parameters
    ----------
    report : UnlearningReport

    received : sequence of datetime
        When the pending requests came that it carries out; empty for one that was asked and done in one go.

    **told
        Fields of the receipt that the report does not have.
    """
    completed = datetime.fromisoformat(report.completed.replace("Z", "+00:00"))
    first = min(received, default=completed - timedelta(seconds=report.seconds))
    return Receipt(
        report.request,
        report.request_id,
        utc(first),
        report.completed,
        utc(deadline_of(first)),
        n_erased=report.n_erased,
        n_trained=report.n_trained_erased,
        n_retained=report.n_retained,
        method=report.method,
        versions=versions(),
        outcome=_outcome(report),
        notes=tuple(report.notes),
        certificate=None if report.certificate is None else plain(report.certificate),
        not_covered=_NOT_COVERED,
        **told,
    )


def audited(receipts: ReceiptChain, audit: Any) -> ReceiptChain:
    """Return a chain with an entry that says what an audit found of one of its requests.

    Raises
    ------
    ValueError
        If the audit is of no request of this chain.
    """
    asked = getattr(getattr(audit, "request", None), "request_id", "")
    if not asked or all(receipt.request_id != asked for receipt in receipts):
        raise ValueError(
            "The audit is of a request that receipts_ does not know: pass the report of an audit of this estimator, "
            "as it was after that request."
        )
    now = utc(datetime.now(timezone.utc))
    found = {name: plain(getattr(audit, name)) for name in ("verdict", "headline", "reasons", "complete", "created")}
    counts = {name: getattr(audit, name) for name in ("n_erased", "n_retained")}
    return receipts.append(
        Receipt(
            "audit", asked, now, now, "", audit=found, seeds=plain(audit.seeds), versions=plain(audit.versions),
            notes=tuple(audit.assumptions), **counts,
        )
    )  # fmt: skip


def _erased(key: bytes, rows: TrainingSet | None, request: Request, state: FittedState) -> tuple[list[str], str, Any]:
    """Return digests of the rows that go, and what these are over, in words and as a data type."""
    stored = None if rows is None else rows.raw_source
    if stored is not None or (rows is None and request.source is not None):
        raw = [] if stored is None else [stored[request.positions]]
        if request.foreign is not None and request.source is not None:
            raw.append(request.source)
        return _hexadecimal(np.concatenate(raw)), "rows as they came to the pipeline (raw table)", None
    digests = [] if rows is None else _hexadecimal(digests_of_rows(key, rows, request.positions))
    if request.foreign is not None:
        digests += _hexadecimal(digest_rows(key, request.foreign.X))
    return digests, f"rows as the net takes them: {state.dtype}, shape {state.row_shape}", str(state.dtype)


def _erased_ids(estimator: BaseUnlearnable, key: bytes, rows: TrainingSet | None, request: Request) -> tuple[str, ...]:
    if rows is None or rows.raw_id is None:
        return ()
    return tuple(sorted(set(digests_of_ids(estimator, key, rows.raw_id[request.positions]))))


def digests_of_rows(key: bytes, rows: TrainingSet, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the digests of stored rows as receipts have them: of what they were made of, where that is known."""
    stored = rows.raw_source
    return digest_rows(key, rows.raw_X[positions]) if stored is None else stored[positions]


def erased_digests(estimator: BaseUnlearnable, positions: NDArray[np.int64]) -> tuple[list[str], list[str]]:
    """Return the digests of stored rows, and those of their identifiers, each once, as receipts have them."""
    key, rows = key_of(estimator), estimator.training_set_
    ids = [] if rows.raw_id is None else digests_of_ids(estimator, key, rows.raw_id[positions])
    return _hexadecimal(digests_of_rows(key, rows, positions)), sorted(set(ids))


def digests_of_ids(estimator: BaseUnlearnable, key: bytes, ids: NDArray[Any]) -> list[str]:
    """Return the digests of stored identifiers as receipts have them, in hexadecimal."""
    return [each.hex() for each in ids.tolist()] if estimator.hash_ids else _hexadecimal(digest_ids(key, ids.tolist()))


def _hexadecimal(digests: NDArray[np.uint8]) -> list[str]:
    return np.frombuffer(digests.tobytes().hex().encode(), dtype="S32").astype("U32").tolist()


def _outcome(report: UnlearningReport) -> dict[str, Any]:
    """Return how a request went, without numbers that are of erased rows alone."""
    names = ("stop_reason", "parameters_moved", "n_steps", "n_products", "seconds", "solver")
    told = {name: plain(getattr(report, name)) for name in names}
    blocks = Counter(str(record.get("block", "all parameters")) for record in report.trace)
    extra = {name: value for name, value in report.extra.items() if isinstance(value, str | int | float)}
    requests = {"requests": plain(report.requests)} if report.requests else {}
    return {"status": str(report.status), **told, "stages": dict(blocks), **requests, **plain(extra)}


def parameters_of(owner: Any) -> dict[str, Any]:
    """Return the parameters of an object as they are written down."""
    return {name: _parameter(value) for name, value in sorted(owner.get_params().items())}


def _parameter(value: Any) -> Any:
    """Return a parameter as it is written down: of anything that could hold rows, only what it is."""
    if value is None or isinstance(value, str | bool | int | float):
        return plain(value)
    if isinstance(value, tuple | list) and len(value) <= _FEW:
        return [_parameter(each) for each in value]
    if isinstance(value, tuple | list | Mapping | set | frozenset):
        return f"{type(value).__name__} of length {len(value)}"
    return plain(value)


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that take part."""
    return {"python": python_version(), "sk_unlearn": __version__, **{name: _version(name) for name in _PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
