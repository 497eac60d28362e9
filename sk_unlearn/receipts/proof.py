"""Whether a row was erased, and when: for who holds the key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.receipts.receipt import Receipt
from sk_unlearn.receipts.verification import Receipts, lines_of
from sk_unlearn.rows.digests import digest_ids, digest_rows

__all__ = ["prove_erased"]


def prove_erased(
    receipts: Receipts, X: Any = None, *, key: bytes, sample_id: Iterable[Any] | None = None
) -> list[list[Receipt]]:
    """Find the receipts of rows, or of identifiers, by digests made of them anew.

    Parameters
    ----------
    receipts : ReceiptChain, path, or iterable of lines
        Verify them first: see :func:`verify`.

    X : table of n rows, optional
        Rows as they were given to ``forget``, or as ``content`` of the receipts says.

    key : bytes
        The key that the digests were made with: ``receipt_key_`` of the estimator.

    sample_id : array-like of shape (n_ids,), optional
        Identifiers, in place of ``X``.

    Returns
    -------
    found : list of n lists of Receipt
        For each row or identifier the receipts that erased it, the oldest first; an empty list where there is none.

    Raises
    ------
    ValueError
        If neither or both of ``X`` and ``sample_id`` are given, or rows cannot be cast to what was erased.
    """
    if (X is None) == (sample_id is None):
        raise ValueError("prove_erased needs X (rows) or sample_id (identifiers), and not both.")
    if sample_id is not None:
        asked = _hexadecimal(digest_ids(key, sample_id))
        told = [(receipt, set(receipt.ids)) for receipt in _receipts(receipts)]
        return [[receipt for receipt, erased in told if one in erased] for one in asked]
    by_dtype: dict[str, list[str]] = {}  # in most chains there is one
    found: list[list[Receipt]] = [[] for _ in digest_rows(key, X)]
    for receipt in _receipts(receipts):
        kind = json.dumps(receipt.dtype)
        if kind not in by_dtype:
            by_dtype[kind] = _hexadecimal(digest_rows(key, X, receipt.dtype))
        erased = set(receipt.rows)
        for one, proofs in zip(by_dtype[kind], found, strict=True):
            if one in erased:
                proofs.append(receipt)
    return found


def _receipts(receipts: Receipts) -> Iterator[Receipt]:
    """Yield the receipts that say what was erased."""
    for line in islice(lines_of(receipts), 1, None):
        receipt = Receipt.from_dict(json.loads(line))
        if receipt.rows or receipt.ids:
            yield receipt


def _hexadecimal(digests: NDArray[np.uint8]) -> list[str]:
    return [each.tobytes().hex() for each in digests]
