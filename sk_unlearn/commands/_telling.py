"""Commands that tell what is: show, verify and audit."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from sk_unlearn.commands._model_file import changing, loaded
from sk_unlearn.commands._outcome import Exit, Outcome, RefusedError
from sk_unlearn.commands._tables import read_rows, split_target
from sk_unlearn.estimators.shards.base import BaseSharded
from sk_unlearn.exceptions import ReceiptError
from sk_unlearn.receipts import ReceiptChain, digest_parameters, read_json_lines, verify
from sk_unlearn.rows import SetDigest

__all__ = ["run_audit", "run_show", "run_verify"]


def run_show(options: Namespace) -> Outcome:
    """Tell what a model holds, and what waits in it."""
    file = loaded(options.model, options.trusted)
    parts = {path: _described(part) for path, part in file.parts.items()}
    lines = []
    for path, told in parts.items():
        lines.append(f"{path}: {told['kind']}")
        lines.append(f"  rows       {'none are kept' if told['n_rows'] is None else told['n_rows']}")
        newest = told["newest_receipt"]
        lines.append(f"  receipts   {told['n_receipts']}" + (f", newest {newest['completed']}" if newest else ""))
        lines.append(f"  head       {told['head']}")
        lines += [
            f"  pending    {each['request_id']}: {each['n_rows']} rows, due {each['deadline']}"
            + (", OVERDUE" if each["overdue"] else "")
            for each in told["pending"]
        ]
        lines.append(f"  retrain    {'yes' if told['retrain_recommended'] else 'no'}: {told['retrain_reason']}")
    overdue = sum(each["overdue"] for told in parts.values() for each in told["pending"])
    notes = [f"{overdue} requests are overdue: run settle."] if overdue else []
    return Outcome("shown", lines, {"kind": type(file.model).__name__, "n_overdue": overdue, "parts": parts}, notes)


def _described(part: Any) -> dict[str, Any]:
    net = _last(part)
    rows, newest, advice = getattr(net, "training_set_", None), part.receipts_[-1:], part.retrain_recommended_
    return {
        "kind": type(part).__name__,
        "n_rows": None if rows is None else len(rows),
        "n_receipts": len(part.receipts_),
        "head": part.receipts_.head,
        "newest_receipt": {
            name: getattr(newest[0], name)
            for name in ("request_id", "verb", "received", "completed", "n_erased", "hash")
        }
        if newest
        else None,
        "pending": [
            {
                "request_id": each.request_id,
                "received": each.received.isoformat(),
                "deadline": each.deadline.isoformat(),
                "n_rows": each.n_rows,
                "overdue": each.overdue,
            }
            for each in part.pending_
        ],
        "retrain_recommended": bool(advice),
        "retrain_reason": advice.reason,
    }


def _last(part: Any) -> Any:
    """Return the estimator itself, of a pipeline its last step."""
    return part.steps[-1][1] if hasattr(part, "steps") else part


def run_verify(options: Namespace) -> Outcome:
    """Check a log of receipts, by itself and against the model it is of."""
    n = verify(options.log, head=options.head)
    record: dict[str, Any] = {"n_receipts": n}
    lines = [f"{n} receipts, and nothing in them was changed."]
    if options.model is None:
        return Outcome("verified", lines, record)
    log = read_json_lines(options.log)
    parts = loaded(options.model, options.trusted).parts
    of_log = [path for path, part in parts.items() if part.receipts_.beginning == log.beginning]
    if not of_log:
        raise ReceiptError(0, "is that of another model")
    part = parts[of_log[0]]
    record |= {"part": of_log[0], "n_in_model": len(part.receipts_)}
    _check_agree(log, part.receipts_)
    if len(log) < len(part.receipts_):
        lines.append(
            f"The model holds {len(part.receipts_) - len(log)} more: the next command with --log appends them."
        )
        return Outcome("log is behind", lines, record, exit=Exit.LOG_BEHIND)
    same = _as_receipted(part)
    lines += [
        f"{what}: {'as the newest receipt says' if so else 'not as the newest receipt says'}"
        for what, so in same.items()
    ]
    notes = [] if all(same.values()) else ["What is learnt by partial_fit leaves no receipt, and changes both."]
    return Outcome("verified", lines, record | {"agrees": same}, notes)


def _check_agree(log: ReceiptChain, receipts: ReceiptChain) -> None:
    for index, (logged, held) in enumerate(zip(log.lines(), receipts.lines(), strict=False)):
        if logged != held:
            raise ReceiptError(index, "of the log is another one than that of the model")
    if len(log) > len(receipts):
        raise ReceiptError(len(receipts) + 1, "of the log is newer than the model: it was loaded from an old copy")


def _as_receipted(part: Any) -> dict[str, bool]:
    """Return whether parameters and stored rows are what the newest receipt of a request says."""
    est = _last(part)
    requests = [each for each in part.receipts_ if each.verb != "audit"]
    said = requests[-1].parameters_after if requests else part.receipts_.beginning["parameters"]
    sharded = isinstance(est, BaseSharded)
    same = {"parameters": (est._digest_of_parameters() if sharded else digest_parameters(est.net_)) == said}
    rows = getattr(est, "training_set_", None)
    if requests and rows is not None and requests[-1].retained_set is not None:
        key = part.receipt_key_
        same["rows"] = SetDigest.of_rows(key, rows).hex(key) == requests[-1].retained_set
    return same


def run_audit(options: Namespace) -> Outcome:
    """Judge the last deletion, on rows from files."""
    from sk_unlearn.inspection import audit

    with changing(options.model, options.trusted, options.log, wait=options.wait, dry=not options.record) as file:
        est = _last(file.model)
        if options.record and not hasattr(est, "record_audit"):
            raise RefusedError(f"A {type(est).__name__} keeps no receipts of its own to record an audit in.")
        tables = {
            f"--{name}": getattr(options, name) for name in ("erased", "test", "retained") if getattr(options, name)
        }
        read = {
            option: split_target(option, _table(option, path, options), options.target, options.texts, file.model)
            for option, path in tables.items()
        }
        X_retained, y_retained = read.get("--retained", (None, None))
        before = None if options.before is None else loaded(options.before, options.trusted).model
        report = audit(
            file.model, *read["--erased"], *read["--test"], before=before, X_retained=X_retained, y_retained=y_retained,
            n_references=options.references, random_state=options.seed,
        )  # fmt: skip
        if options.html is not None:
            report.to_html(options.html)
        if options.record:
            est.record_audit(report)
            file.save()
    good = report.verdict in ("closer", "within")
    return Outcome(
        report.verdict,
        str(report).splitlines(),
        {"verdict": report.verdict, "headline": report.headline, "reasons": report.reasons, "complete": report.complete}
        | {"n_erased": report.n_erased, "n_still_stored": report.n_still_stored, "recorded": options.record},
        exit=Exit.DONE if good else Exit.REFUSED,
    )


def _table(option: str, path: str, options: Namespace) -> Any:
    return read_rows(option, str(Path(path)), text_columns=options.text_columns, date_columns=options.date_columns)
