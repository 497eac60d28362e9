"""A loaded model beside a log of receipts: whether requests were carried out since the file was written."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sk_unlearn.composites.parts import parts_of
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.drafts import commit_drafts
from sk_unlearn.estimators.replay import draft_replay_at, replay_of
from sk_unlearn.exceptions import PersistenceError, ReceiptError
from sk_unlearn.receipts import ReceiptChain, verify
from sk_unlearn.receipts.verification import lines_of

__all__ = ["bring_up_to_date"]


@dataclass(frozen=True)
class _Log:
    """A log that was verified; ``rest`` is the beginning of a line whose writing was cut off, such as by a kill."""

    chain: ReceiptChain
    rest: bytes = b""


def bring_up_to_date(model: Any, log: Any, *, replay: bool) -> None:
    """Compare a model that was just loaded with a log, and carry out what it has missed, or refuse it.

    Parameters
    ----------
    model : object

    log, replay
        As for :func:`~sk_unlearn.load`.

    Raises
    ------
    PersistenceError, ReceiptError
        As there.
    """
    try:
        parts, others = parts_of(model)
    except ValueError as error:
        raise PersistenceError(f"log: {error}") from error
    if not parts:
        raise PersistenceError("log: the file holds nothing that is fitted and leaves receipts. Load it without log.")
    chains = {path: _chain_of(path, part) for path, part in parts.items()}
    logs = _matched(chains, [_read(one) for one in _listed(log)])
    older = {path: n for path, chain in chains.items() if (n := _n_missing(path, chain, logs[path]))}
    n_requests = {path: _n_requests(logs[path].chain, n) for path, n in older.items()}
    if not replay and any(n_requests.values()):
        where = "" if len(parts) == 1 else " " + ", ".join(f"{path}: {n}" for path, n in n_requests.items() if n) + "."
        raise PersistenceError(
            f"The file is older than the log, which has {max(n_requests.values())} requests that were carried out "
            f"after it was saved: it still holds what they erased.{where} Load a newer copy, or pass replay=True to "
            "carry them out on this one."
        )
    if others and any(n_requests.values()):
        listed = ", ".join(f"{path}: {kind}" for path, kind in others.items())
        raise PersistenceError(
            f"The log cannot be replayed: {len(others)} parts may have learnt the rows and cannot forget them by their "
            f"digests ({listed}). Load a newer copy."
        )
    _replay({path: part for path, part in parts.items() if path in older}, logs, n_requests)


def _listed(log: Any) -> list[Any]:
    """Return logs as a list: of one, or as they come where they are chains and paths."""
    if isinstance(log, list | tuple) and log and all(isinstance(one, ReceiptChain | os.PathLike) for one in log):
        return list(log)
    return [log]


def _read(log: Any) -> _Log:
    rest = b""
    if isinstance(log, str | os.PathLike):
        *lines, rest = Path(log).read_bytes().split(b"\n")
    else:
        lines = list(lines_of(log))
    verify(lines)
    return _Log(ReceiptChain(lines), rest)


def _chain_of(path: str, part: Any) -> ReceiptChain:
    chain: ReceiptChain | None = getattr(part, "receipts_", None)
    if chain is None:
        raise PersistenceError(
            f"log: {path} has no receipts (it was saved with receipts=False), so that nobody can tell which requests "
            "it has seen. Load a copy that has them, or load this one without log."
        )
    verify(chain, head=chain.head)
    return chain


def _matched(chains: dict[str, ReceiptChain], logs: Sequence[_Log]) -> dict[str, _Log]:
    """Return the log of each part: the one that begins as its own receipts do."""
    by_beginning = {log.chain.beginning["hash"]: log for log in logs}
    wanted = {path: str(chain.beginning["hash"]) for path, chain in chains.items()}
    without = [path for path, beginning in wanted.items() if beginning not in by_beginning]
    if without:
        raise PersistenceError(
            f"log is of another model, or of another fit of it: {len(without)} of {len(chains)} parts begin otherwise "
            f"({', '.join(without)}). Pass the log of each part in a list, as paths of pathlib or chains."
        )
    if len(by_beginning.keys() - set(wanted.values())):
        raise PersistenceError("log has receipts of a model that is not in the file. Pass the logs of its parts alone.")
    return {path: by_beginning[beginning] for path, beginning in wanted.items()}


def _n_missing(path: str, chain: ReceiptChain, log: _Log) -> int:
    """Return how many receipts of the log are not in the file; warn where it is the other way round."""
    ours, logged = list(chain.lines()), list(log.chain.lines())
    common = min(len(ours), len(logged))
    if ours[:common] != logged[:common]:
        raise PersistenceError(
            f"The receipts of {path} and those of the log part at receipt {_first_other(ours, logged)}: each has seen "
            "requests that the other has not. Take the copy that the log was written from."
        )
    if log.rest and not (len(ours) > common and ours[common].startswith(log.rest)):
        raise ReceiptError(len(logged), "is incomplete: its line has no end")
    if len(ours) > common:
        warnings.warn(
            f"The file is newer than the log by {len(ours) - common} receipts: append them by "
            "sk_unlearn.receipts.to_json_lines(est.receipts_, path).",
            stacklevel=4,
        )
    return len(logged) - common


def _first_other(ours: Sequence[bytes], logged: Sequence[bytes]) -> int:
    return next(n for n, (one, other) in enumerate(zip(ours, logged, strict=False)) if one != other)


def _n_requests(chain: ReceiptChain, n_missing: int) -> int:
    return sum(receipt.verb != "audit" for receipt in chain[len(chain) - n_missing :])


def _replay(parts: dict[str, Any], logs: dict[str, _Log], n_requests: dict[str, int]) -> None:
    """Carry out what is missing in each part, and have it go on with the receipts of the log."""
    try:
        drafts = [_drafted(part, logs[path].chain) for path, part in parts.items() if n_requests[path]]
    except (ValueError, FloatingPointError) as error:
        raise PersistenceError(f"The log cannot be replayed on the file: {error}") from error
    commit_drafts(drafts)
    for path, part in parts.items():
        if not n_requests[path]:  # nothing but what audits found
            last = part.steps[-1][1] if hasattr(part, "steps") else part
            last.receipts_ = logs[path].chain


def _drafted(part: Any, chain: ReceiptChain) -> Any:
    if isinstance(part, BaseUnlearnable):
        return draft_replay_at(part, replay_of(part, chain))
    return part._drafted_replay(chain)
