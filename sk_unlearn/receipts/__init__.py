"""Receipts of requests: a chain that shows every edit, to be kept where the model is not."""

from sk_unlearn.receipts.chain import ReceiptChain
from sk_unlearn.receipts.files import read_json_lines, to_in_toto, to_json_lines
from sk_unlearn.receipts.parameters import digest_parameters
from sk_unlearn.receipts.proof import prove_erased
from sk_unlearn.receipts.receipt import Receipt
from sk_unlearn.receipts.verification import verify

__all__ = [
    "Receipt",
    "ReceiptChain",
    "digest_parameters",
    "prove_erased",
    "read_json_lines",
    "to_in_toto",
    "to_json_lines",
    "verify",
]
