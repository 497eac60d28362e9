"""Receipts and certificates as a notebook shows them."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from sk_unlearn.privacy import Assumption, Certificate
from sk_unlearn.receipts import Receipt, ReceiptChain

HOSTILE = "<script>alert(1)</script>"
AT = "2026-05-{:02d}T10:00:00.000Z"
ONE = Receipt(
    "forget", "the id", AT.format(1), AT.format(2), AT.format(30), rows=("ab" * 16, "cd" * 16), n_erased=2, n_trained=1,
    n_retained=1234, method="CuReNU", outcome={"status": "budget_spent", "stop_reason": "it ended"},
    notes=("a note",), not_covered=("backups",),
)  # fmt: skip


def text_of(shown):
    html = shown._repr_html_()
    ElementTree.fromstring(html)
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", " ", html, flags=re.S)).split())


def chain(n):
    receipts = ReceiptChain.begin("its parameters")
    for i in range(n):
        receipts = receipts.append(replace(ONE, n_erased=i))
    return receipts


def test_a_receipt():
    text = text_of(chain(3)[-1])
    assert text.startswith("Receipt 3 forget by CuReNU, 2026-05-02 10:00:00 UTC budget spent It ended")
    assert "2 rows erased 1 of them trained on 1,234 rows stay 2 digests" in text
    assert "2026-05-01 10:00:00 UTC 2026-05-02 10:00:00 UTC 2026-05-30 10:00:00 UTC" in text
    for told in ("a note", "backups", "abab"):
        assert told in text


def test_a_late_one_says_so():
    assert "late" not in text_of(ONE)
    late = replace(ONE, completed="2026-06-01T10:00:00.000Z")
    assert "budget spent, and late" in text_of(late)
    assert 'class="verdict bad"' in late._repr_html_()
    assert " late " in text_of(ReceiptChain.begin("").append(late))


def test_of_many_bytes_of_digests_few_are_shown():
    many = replace(ONE, rows=tuple(f"{i:032x}" for i in range(5000)))
    html = many._repr_html_()
    assert "5,000 digests" in html
    assert len(html) < 20_000


def test_a_chain_shows_the_newest():
    receipts = chain(13)
    text = text_of(receipts)
    assert text.startswith(f"Receipts 13 receipts, head {receipts.head[:12]} The last 10 of 13 ")
    assert [int(number) for number in re.findall(r"(\d+) 2026-05-02", text)] == list(range(13, 3, -1))
    assert all(receipt.hash[:12] in text for receipt in receipts[3:])
    assert "Receipts 0 receipts" in text_of(chain(0))


def test_an_audit_among_them():
    audit = replace(ONE, verb="audit", deadline="", outcome={}, audit={"verdict": "outputs_only", "headline": "Far."})
    receipts = chain(1).append(audit)
    assert "Audit: outputs only Far." in text_of(receipts[-1])
    assert "audit 2 outputs_only" in text_of(receipts)


@pytest.mark.parametrize("name", ["verb", "method", "notes", "not_covered", "versions", "outcome", "audit"])
def test_all_is_escaped(name):
    value = {
        "notes": (HOSTILE,),
        "not_covered": (HOSTILE,),
        "versions": {HOSTILE: HOSTILE},
        "outcome": {"status": HOSTILE, "stop_reason": HOSTILE},
        "audit": {"verdict": HOSTILE, "headline": HOSTILE},
    }.get(name, HOSTILE)
    receipt = replace(ONE, **{name: value})
    for shown in (receipt, ReceiptChain.begin("").append(receipt)):
        html = shown._repr_html_()
        assert "<script" not in html
    assert "&lt;script&gt;" in receipt._repr_html_()


def test_a_certificate():
    basis = [Assumption("it holds", True), Assumption(HOSTILE, False, "by <eye>"), Assumption("who knows", None)]
    certificate = Certificate(HOSTILE, bound=0.5, vacuous=True, n_requests=3, assumptions=basis)
    html, text = certificate._repr_html_(), text_of(certificate)
    assert "<script" not in html
    assert "<eye>" not in html
    assert "Certificate of 3 requests together within 0.5 of retraining" in text
    assert "Vacuous" in text
    assert "checked it holds" in text
    assert "not proven who knows" in text
    assert certificate.headline.endswith("any two models; an assumption FAILS")
    sound = Certificate("by hand", bound=0.5, assumptions=[Assumption("it holds", True)])
    assert sound.headline == str(sound).splitlines()[0]
    assert 'class="verdict plain"' in sound._repr_html_()
