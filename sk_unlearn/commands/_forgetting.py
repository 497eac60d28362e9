"""Commands that change a model: forget, request and settle."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime
from typing import Any

from sk_unlearn.commands._asked import Sorted, asked_by, sorted_out
from sk_unlearn.commands._model_file import ModelFile, changing
from sk_unlearn.commands._outcome import Exit, Outcome, RefusedError, WrongUsageError
from sk_unlearn.composites import ForgetSummary, forget

__all__ = ["run_forget", "run_request", "run_settle"]


def run_forget(options: Namespace) -> Outcome:
    """Forget whom files name, in every part of a model."""
    with _changing(options) as file:
        asked = sorted_out(file, asked_by(options, file), skip_unknown=options.skip_unknown)
        if not len(asked.stored):
            return _nothing(file, asked)
        stored = asked.stored
        before = _heads(file)
        summary = forget(file.model, stored.X, stored.y, sample_id=stored.ids, on_other=options.on_other)
        if not options.dry_run:
            file.save(options.output)
        return Outcome(
            "would be forgotten" if options.dry_run else "forgotten",
            [_counts(asked), *repr(summary).splitlines()],
            asked.record | _told(summary) | _new_receipts(file, before) | _logged(file),
            summary.notes,
        )


def run_request(options: Namespace) -> Outcome:
    """Write requests into a model's queue."""
    received = _moment(options.received)
    with _changing(options) as file:
        model = _with_queue(file)
        asked = sorted_out(file, asked_by(options, file), skip_unknown=options.skip_unknown)
        if not len(asked.stored):
            return _nothing(file, asked)
        stored = asked.stored
        request_id = model.request_forget(stored.X, stored.y, sample_id=stored.ids, received=received)
        (pending,) = (each for each in model.pending_ if each.request_id == request_id)
        if not options.dry_run:
            file.save(options.output)
        deadline = pending.deadline.isoformat()
        return Outcome(
            "would wait" if options.dry_run else "waits",
            [_counts(asked), f"Request {request_id}: due {deadline}"],
            asked.record | {"request_id": request_id, "deadline": deadline} | _logged(file),
        )


def run_settle(options: Namespace) -> Outcome:
    """Carry out all requests that wait in a model."""
    with _changing(options) as file:
        model = _with_queue(file)
        n = len(model.pending_)
        if not n:
            return Outcome(
                "nothing pending", ["No request waits; nothing was changed."], {"n_settled": 0} | _logged(file)
            )
        before = _heads(file)
        model.settle()
        if not options.dry_run:
            file.save(options.output)
        report = model.unlearning_report_
        late = sum(each["late"] for each in report.requests)
        return Outcome(
            "would be settled" if options.dry_run else "settled",
            [f"{n} requests, {late} late: {report.n_erased} rows erased, {report.n_retained} retained"],
            {"n_settled": n, "n_late": late, "requests": report.requests, "n_erased": report.n_erased}
            | {"n_retained": report.n_retained, "state": str(report.status)}
            | _new_receipts(file, before)
            | _logged(file),
            report.notes,
        )


def _changing(options: Namespace) -> Any:
    return changing(options.model, options.trusted, options.log, wait=options.wait, dry=options.dry_run)


def _with_queue(file: ModelFile) -> Any:
    """Return a model that keeps requests."""
    if not hasattr(file.model, "request_forget"):
        raise RefusedError(
            f"A {type(file.model).__name__} keeps no queue of requests: collect them in a file, and call forget once "
            "for all of them."
        )
    return file.model


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise WrongUsageError("--received: give a moment with its time zone, such as 2026-01-31T09:30:00+01:00.")
    return moment


def _nothing(file: ModelFile, asked: Sorted) -> Outcome:
    if not sum(asked.record.values()):
        return Outcome("nothing asked", ["The files name nobody; nothing was changed."], _logged(file))
    status = Exit.DONE if asked.n_erased else Exit.REFUSED
    return Outcome(
        "nothing to forget", [f"{_counts(asked)}; nothing was changed."], asked.record | _logged(file), exit=status
    )


def _counts(asked: Sorted) -> str:
    noun = asked.stored.noun.capitalize()
    return f"{noun}: {len(asked.stored)} stored, {asked.n_erased} erased before, {asked.n_unknown} unknown"


def _told(summary: ForgetSummary) -> dict[str, Any]:
    parts = []
    for part in summary.parts:
        told = {"path": part.path, "kind": part.kind, "n_known": part.n_known}
        if part.report is not None:
            told |= {"n_erased": part.report.n_erased, "n_retained": part.report.n_retained}
            told |= {"state": str(part.report.status), "seconds": part.report.seconds, "notes": part.report.notes}
        parts.append(told)
    others = [{"path": each.path, "kind": each.kind, "outcome": each.outcome} for each in summary.others]
    return {"parts": parts, "others": others, "left": summary.left}


def _heads(file: ModelFile) -> dict[str, int]:
    return {path: len(part.receipts_) for path, part in file.parts.items()}


def _new_receipts(file: ModelFile, before: dict[str, int]) -> dict[str, Any]:
    return {
        "receipts": [
            {"part": path, "request_id": each.request_id, "sequence": each.sequence, "hash": each.hash}
            for path, part in file.parts.items()
            for each in part.receipts_[before[path] :]
        ]
    }


def _logged(file: ModelFile) -> dict[str, Any]:
    return {"n_logged": file.n_logged, "logs": list(file.logs.values())}
