"""Receipts as a notebook shows them: counts, moments and hashes, to be read; what proves is the receipt itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sk_unlearn.utils._cards import Box, Folded, Listed, Pairs, Paragraph, Part, Table, card, counted, moment

if TYPE_CHECKING:
    from sk_unlearn.receipts.chain import ReceiptChain
    from sk_unlearn.receipts.receipt import Receipt

__all__ = ["shown_chain", "shown_receipt"]

# So many receipts are shown, the newest ones, and so many digits of a hash.
_RECEIPTS, _DIGITS = 10, 12


def shown_receipt(receipt: Receipt, pairs: list[tuple[str, str]]) -> str:
    """Return a receipt as HTML.

    Parameters
    ----------
    receipt : Receipt

    pairs : list of (str, str)
        All that it holds, to be folded away.
    """
    told = f"{receipt.verb}{f' by {receipt.method}' if receipt.method else ''}, {moment(receipt.completed)}"
    facts: list[tuple[object, str]] = [
        (f"{receipt.n_erased:,}", "rows corrected" if receipt.verb == "correct" else "rows erased"),
        (f"{receipt.n_retained:,}", "rows stay"),
    ]
    if receipt.verb != "audit":
        facts.insert(1, (f"{receipt.n_trained:,}", "of them trained on"))
    if receipt.rows:
        facts.append((counted(len(receipt.rows), "digest"), "by which rows are proven"))
    parts: list[Part] = []
    if receipt.deadline:
        times = [moment(each) for each in (receipt.received, receipt.completed, receipt.deadline)]
        parts.append(Table(["received", "carried out", "due"], [times]))
    parts += [Listed(receipt.notes, caption="Notes")] if receipt.notes else []
    parts += [Listed(receipt.not_covered, caption="Not covered")] if receipt.not_covered else []
    link = f"hash {receipt.hash[:_DIGITS]}, after {receipt.previous[:_DIGITS]}"
    parts += [Paragraph(link, small=True)] if receipt.hash else []
    parts.append(Folded("The whole receipt", [Pairs(pairs)]))
    number = f" {receipt.sequence}" if receipt.sequence else ""
    return card(f"Receipt{number}", told, boxes=[_box(receipt)], facts=facts, parts=parts)


def shown_chain(chain: ReceiptChain) -> str:
    """Return the newest receipts of a chain as HTML, the last one first.

    Parameters
    ----------
    chain : ReceiptChain
    """
    n = len(chain)
    newest = [chain[i] for i in range(n - 1, max(n - 1 - _RECEIPTS, -1), -1)]
    rows = [
        [
            receipt.sequence, moment(receipt.completed), receipt.verb, f"{receipt.n_erased:,}", _status(receipt),
            "" if not receipt.deadline else "late" if _is_late(receipt) else "yes", receipt.hash[:_DIGITS],
        ]
        for receipt in newest
    ]  # fmt: skip
    parts: list[Part] = []
    if rows:
        caption = "" if n <= _RECEIPTS else f"The last {_RECEIPTS} of {n:,}"
        parts.append(Table(["", "when", "what", "rows", "status", "in time", "hash"], rows, caption, numbers={0, 3}))
    told = f"The model was fitted {moment(str(chain.beginning['began']))}. "
    told += "Each receipt has the hash of the one before: sk_unlearn.receipts.verify checks all of them."
    parts.append(Paragraph(told, small=True))
    return card("Receipts", f"{counted(n, 'receipt')}, head {chain.head[:_DIGITS]}", parts=parts)


def _is_late(receipt: Receipt) -> bool:
    return bool(receipt.deadline) and receipt.completed > receipt.deadline  # both as `utc` writes them


def _status(receipt: Receipt) -> str:
    if receipt.audit is not None:
        return str(receipt.audit.get("verdict", ""))
    return str(receipt.outcome.get("status", "")).replace("_", " ")


def _box(receipt: Receipt) -> Box:
    if receipt.audit is not None:
        return Box(f"Audit: {_status(receipt)}".replace("_", " "), str(receipt.audit.get("headline", "")))
    reason = str(receipt.outcome.get("stop_reason", ""))
    reason = f"{reason[:1].upper()}{reason[1:]}"
    if _is_late(receipt):
        return Box(f"{_status(receipt)}, and late", reason, "bad")
    return Box(_status(receipt) or receipt.verb, reason)
