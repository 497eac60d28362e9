"""Chains of receipts: small, append-only, and any change is found."""

import dataclasses
import json
import pickle
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
import skorch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sk_unlearn.exceptions import ReceiptError
from sk_unlearn.receipts import (
    Receipt,
    ReceiptChain,
    digest_parameters,
    prove_erased,
    read_json_lines,
    to_in_toto,
    to_json_lines,
    verify,
)
from sk_unlearn.receipts.receipt import canonical_json, deadline_of, hash_of, plain, utc
from sk_unlearn.rows.digests import digest_ids, digest_rows, new_key

KEY = bytes(range(32))


def hexed(digests):
    return tuple(sorted(digest.tobytes().hex() for digest in digests))


def receipt(i=0, **fields):
    at = utc(datetime(2026, 1, 31, tzinfo=timezone.utc) + timedelta(hours=i))
    rng = np.random.default_rng(i)
    given = {
        "rows": hexed(rng.integers(256, size=(2, 16), dtype=np.uint8)),
        "content": "rows as the net takes them: float32, shape (3,)",
        "dtype": "float32",
        "parameters_before": rng.bytes(32).hex(),
        "parameters_after": rng.bytes(32).hex(),
        "retained_set": rng.bytes(32).hex(),
        "parameters": {"L": 1.0, "solver": "auto", "nested": {"a": [1, None]}},
        "versions": {"python": "3.12", "torch": "2.13"},
        "outcome": {"status": "converged", "seconds": float(rng.random()), "stop_reason": "the gradient is small"},
        "notes": ("a note of some length that every request has, as reports do",) * 3,
        "not_covered": ("backups", "checkpoints", "clones", "derived models"),
        **fields,
    }
    return Receipt("forget", rng.bytes(16).hex(), at, at, at, **given)


def chain_of(n):
    chain = ReceiptChain.begin("00" * 32, {"python": "3.12"})
    for i in range(n):
        chain = chain.append(receipt(i))
    return chain


# -------------------------------------------------------------------------------------------------------------- chain


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 130])
def test_a_chain_is_a_sequence_of_what_was_appended(n):
    chain = chain_of(n)
    expected = [receipt(i) for i in range(n)]
    assert len(chain) == n
    assert verify(chain) == n
    assert verify(chain, head=chain.head, beginning=chain.beginning["hash"]) == n
    for each in (chain, pickle.loads(pickle.dumps(chain)), ReceiptChain(list(chain.lines()))):
        unplaced = [dataclasses.replace(one, sequence=0, previous="", hash="") for one in each]
        assert unplaced == expected
        assert [each[i] for i in range(n)] == list(each) == each[:]
        assert each == chain
        assert [one.sequence for one in each] == list(range(1, n + 1))
    if n:
        assert chain[-1] == list(chain)[-1]
        assert chain[-1].hash == chain.head
    with pytest.raises(IndexError):
        chain[n]


def test_appending_leaves_the_chain_as_it_was():
    chain = chain_of(3)
    lines = list(chain.lines())
    longer, other = chain.append(receipt(7)), chain.append(receipt(8))
    assert list(chain.lines()) == lines
    assert longer[:3] == other[:3] == list(chain)
    assert longer != other


def test_a_thousand_receipts_are_small():
    chain = chain_of(1000)
    assert len(pickle.dumps(chain)) < 500_000
    assert verify(pickle.loads(pickle.dumps(chain)), head=chain.head) == 1000


# ------------------------------------------------------------------------------------------------------- verification

CHAIN = list(chain_of(6).lines())
OTHER = list(chain_of(6).append(receipt(9)).lines())  # of another model: the beginnings differ


@settings(deadline=None)
@given(st.integers(1, 6), st.data())
def test_any_single_change_of_a_chain_is_found(n, data):
    lines = CHAIN[: n + 1]
    head = json.loads(lines[-1])["hash"]
    assert verify(lines, head=head) == n
    kind = data.draw(st.sampled_from(["flip", "field", "remove", "swap", "double", "insert", "rehash", "cut"]))
    at = data.draw(st.integers(0, n))
    changed = list(lines)
    if kind == "flip":
        place = data.draw(st.integers(0, len(lines[at]) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != lines[at][place]))
        changed[at] = lines[at][:place] + bytes([byte]) + lines[at][place + 1 :]
    elif kind in ("field", "rehash"):
        content = json.loads(lines[at])
        name = data.draw(st.sampled_from(sorted(set(content) - {"hash"})))
        content[name] = data.draw(st.sampled_from(["other", 12345, None, ["x"]]).filter(lambda v: v != content[name]))
        if kind == "rehash":
            content["hash"] = hash_of(content)
        changed[at] = canonical_json(content)
    elif kind == "remove":
        del changed[at]
    elif kind == "swap":
        other = data.draw(st.integers(0, n).filter(lambda other: other != at))
        changed[at], changed[other] = changed[other], changed[at]
    elif kind == "double":
        changed.insert(data.draw(st.integers(0, n + 1)), lines[at])
    elif kind == "insert":
        changed.insert(data.draw(st.integers(0, n + 1)), data.draw(st.sampled_from(OTHER)))
    else:
        changed[at] = lines[at][: data.draw(st.integers(0, len(lines[at]) - 1))]
    with pytest.raises(ReceiptError) as caught:
        verify(changed, head=head)
    assert 0 <= caught.value.index <= n + 1
    assert caught.value.reason
    if kind in ("flip", "field", "cut"):
        assert caught.value.index == at


def test_it_says_which_receipt_and_why():
    def told(lines, **known):
        with pytest.raises(ReceiptError) as caught:
            verify(lines, **known)
        return str(caught.value)

    edited = [*CHAIN[:3], CHAIN[3].replace(b'"forget"', b'"forgot"'), *CHAIN[4:]]
    assert told(edited) == "Receipt 3 was edited: its content does not have its hash."
    assert "Receipt 3 is number 4: receipts were removed" in told(CHAIN[:3] + CHAIN[4:])
    assert "Receipt 6 is not the newest" in told(chain_of(6), head="0" * 64)
    assert "The beginning of the receipts is missing: the first line is receipt 1." in told(CHAIN[1:])
    assert "is that of another model" in told(OTHER, beginning=json.loads(CHAIN[0])["hash"])
    assert "does not follow" in told([OTHER[0], *CHAIN[1:]])
    assert "is missing: there is no line" in told([])
    newer = canonical_json({**json.loads(CHAIN[1]), "format": 2})
    assert "of form 2, which this version does not know" in told([CHAIN[0], newer])


# --------------------------------------------------------------------------------------------------------------- proof


def test_who_holds_the_key_can_tell_whether_a_row_was_erased_and_when():
    X = np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    raw = pd.DataFrame({"name": ["Ann", "Bob"], "age": [30, None]})
    chain = chain_of(2)
    chain = chain.append(
        receipt(2, rows=hexed(digest_rows(KEY, X[:2], "float32")), ids=hexed(digest_ids(KEY, [7, "u"])))
    )
    chain = chain.append(receipt(4, rows=hexed(digest_rows(KEY, X[:1], "float32"))))
    found = prove_erased(chain, X, key=KEY)
    assert [[one.sequence for one in each] for each in found] == [[3, 4], [3], []]
    assert found[0][0].completed == receipt(2).completed
    of_a_table = chain_of(1).append(receipt(3, rows=hexed(digest_rows(KEY, raw)), dtype=None))
    with pytest.raises(ValueError, match="cannot be cast to float32"):  # as the first receipt has it
        prove_erased(of_a_table, raw, key=KEY)
    of_a_table = chain_of(0).append(receipt(3, rows=hexed(digest_rows(KEY, raw)), dtype=None))
    assert [len(each) for each in prove_erased(of_a_table, raw[["age", "name"]], key=KEY)] == [1, 1]
    assert [len(each) for each in prove_erased(chain, sample_id=["u", 7.0, "7"], key=KEY)] == [1, 1, 0]
    assert prove_erased(chain, X, key=new_key()) == [[], [], []]
    assert prove_erased(chain_of(0), X, key=KEY) == [[], [], []]
    with pytest.raises(ValueError, match="not both"):
        prove_erased(chain, key=KEY)
    with pytest.raises(ValueError, match="not both"):
        prove_erased(chain, X, sample_id=[1], key=KEY)


# --------------------------------------------------------------------------------------------------------------- files


def test_a_log_grows_by_what_is_new_and_is_read_again(tmp_path):
    path = tmp_path / "receipts.jsonl"
    chain = chain_of(3)
    assert to_json_lines(chain, path) == 3
    assert to_json_lines(chain, path) == 0
    first = path.read_bytes()
    chain = chain.append(receipt(5)).append(receipt(6))
    assert to_json_lines(chain, path) == 2
    assert path.read_bytes().startswith(first)
    assert verify(path, head=chain.head) == 5
    assert read_json_lines(str(path), head=chain.head) == chain
    assert list(read_json_lines(path)) == list(chain)
    assert all(json.loads(line) for line in path.read_text(encoding="ascii").splitlines())


def test_a_log_whose_last_line_was_cut_off_is_finished(tmp_path):
    path = tmp_path / "receipts.jsonl"
    chain = chain_of(4)
    to_json_lines(chain, path)
    whole = path.read_bytes()
    for n in [0, 5, len(whole) - 1, len(whole) - 3000, whole.index(b"\n") + 1, whole.index(b"\n")]:
        path.write_bytes(whole[:n])
        if not whole[:n].endswith(b"\n"):
            with pytest.raises(ReceiptError, match=r"incomplete|missing"):
                read_json_lines(path)
        to_json_lines(chain, path)
        assert path.read_bytes() == whole


def test_a_log_of_another_model_or_of_a_newer_one_is_left_alone(tmp_path):
    path = tmp_path / "receipts.jsonl"
    chain = chain_of(2)
    to_json_lines(chain.append(receipt(2)), path)
    content = path.read_bytes()
    with pytest.raises(ReceiptError, match="newer than the model: it was loaded from an old copy"):
        to_json_lines(chain, path)
    with pytest.raises(ReceiptError, match="another one than that of the model"):
        to_json_lines(chain.append(receipt(8)), path)
    with pytest.raises(ReceiptError, match="beginning of the receipts of the log is another one"):
        to_json_lines(chain_of(2), path)
    assert path.read_bytes() == content
    path.write_bytes(content + b"{torn")
    with pytest.raises(ReceiptError, match="incomplete and another one"):
        to_json_lines(chain.append(receipt(2)), path)


def test_a_statement_names_the_parameters_and_holds_the_receipt():
    one = chain_of(1)[0]
    statement = json.loads(json.dumps(to_in_toto(one)))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [{"name": "model parameters", "digest": {"sha256": one.parameters_after}}]
    assert statement["predicateType"].startswith("urn:")
    assert Receipt.from_dict(statement["predicate"]) == one
    assert hash_of(statement["predicate"]) == one.hash


# ------------------------------------------------------------------------------------------------------------- receipt


@pytest.mark.parametrize(
    ("received", "deadline"),
    [
        ((2026, 1, 31), (2026, 2, 28)),
        ((2028, 1, 31), (2028, 2, 29)),
        ((2026, 12, 31), (2027, 1, 31)),
        ((2026, 5, 31), (2026, 6, 30)),
        ((2026, 3, 5), (2026, 4, 5)),
    ],
)
def test_the_deadline_is_one_calendar_month_later(received, deadline):
    assert deadline_of(datetime(*received, 13, 5)) == datetime(*deadline, 13, 5)


def test_moments_are_written_in_utc():
    at = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert utc(at) == "2026-02-28T23:30:00.000Z"


def test_what_is_written_down_of_objects_is_never_their_content():
    secret = 123456.75
    told = plain(
        {"a": np.full((2, 3), secret), "b": pd.DataFrame({"x": [secret]}), "c": object(), "d": np.float32(0.5)}
    )
    assert told == {"a": "ndarray of shape (2, 3)", "b": "DataFrame of shape (1, 1)", "c": "object", "d": 0.5}
    assert plain([float("nan"), float("inf"), np.int64(3), np.bool_(True), dict, len]) == [
        "nan",
        "inf",
        3,
        True,
        "dict",
        "len",
    ]


def test_a_receipt_reads_as_a_list_of_what_it_says():
    text = str(chain_of(1)[0].chained(4, "ab"))
    assert "verb" in text
    assert "a note of some length" in text
    assert "5 of them, the first" in str(receipt(0, rows=("ab",) * 5))


# ----------------------------------------------------------------------------------------------------------- parameters


class OfEveryKind(nn.Module):
    """Holds numbers in all forms that torch has, and a layer whose shape nobody knows yet."""

    def __init__(self, number=1.0):
        super().__init__()
        self.layer, self.later = nn.Linear(2, 2), nn.LazyLinear(2)
        self.register_buffer("sparse", (number * torch.eye(3)).to_sparse())
        self.register_buffer("turning", torch.tensor([1.0 + number * 1j, -1j]).conj())
        self.register_buffer("coarse", torch.quantize_per_tensor(torch.arange(3.0) * number, 0.5, 0, torch.qint8))
        self.number = number

    def get_extra_state(self):
        return {"number": self.number}

    def set_extra_state(self, state):
        self.number = state["number"]


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_parameters_of_every_kind_are_digested_by_value():
    digests = []
    for number in (1.0, 1.0, 2.0):
        torch.manual_seed(0)
        net = skorch.NeuralNet(OfEveryKind(number), nn.MSELoss, verbose=0)
        digests.append(digest_parameters(net.initialize()))
    assert digests[0] == digests[1] != digests[2]


def test_chains_are_told_by_their_head():
    one, other = chain_of(2), chain_of(3)
    assert {one, pickle.loads(pickle.dumps(one)), other} == {one, other}
    assert repr(one) == f"ReceiptChain(2 receipts, head {one.head[:12]})"
    assert repr(chain_of(1)).startswith("ReceiptChain(1 receipt, head ")
    with pytest.raises(ValueError, match="lines is empty; a chain begins with a line of its own"):
        ReceiptChain([])
