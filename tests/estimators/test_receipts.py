"""Receipts of an estimator: one for each request that was carried out, with nothing of any row in them."""

import copy
import dataclasses
import json
import pickle
import struct
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from torch import nn

import sk_unlearn
from sk_unlearn import MLPNetClassifier, MLPNetRegressor, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.estimators.coordinates import NewCoordinates
from sk_unlearn.estimators.drafts import commit_drafts, draft_deletion_at, fit_made
from sk_unlearn.inspection import audit
from sk_unlearn.receipts import (
    digest_parameters,
    prove_erased,
    read_json_lines,
    to_in_toto,
    to_json_lines,
    verify,
)
from sk_unlearn.rows import SetDigest
from sk_unlearn.rows.digests import digest_rows
from sk_unlearn.unlearners import CuReNU, FineTune, Retrain


def data(n=80, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def classifier(unlearner=None, **params):
    return UnlearnableClassifier(MLPNetClassifier(max_epochs=2), unlearner, random_state=0, **params)


def proofs(est, X):
    return [[one.sequence for one in found] for found in prove_erased(est.receipts_, X, key=est.receipt_key_)]


def check_retained(est):
    """Recompute what the newest receipt says of the rows that stay, and of the parameters, from the estimator."""
    newest, key = est.receipts_[-1], est.receipt_key_
    assert newest.retained_set == SetDigest.of_rows(key, est.training_set_).hex(key)
    assert newest.parameters_after == digest_parameters(est.net_)


def test_every_request_leaves_one_receipt():
    X, y = data()
    started = datetime.now(timezone.utc)
    est = classifier().fit(X, y, sample_id=np.arange(80))
    assert len(est.receipts_) == 0
    assert verify(est.receipts_) == 0
    assert est.receipts_.beginning["parameters"] == digest_parameters(est.net_)
    for k, (verb, act) in enumerate(
        [
            ("forget", lambda: est.forget(X[:2])),
            ("correct", lambda: est.correct(X[5:7], X_new=X[5:7] + 1)),
            ("partial_forget", lambda: est.partial_forget(X[8:9], y[8:9])),
            ("forget", lambda: est.forget(sample_id=[20, 21])),
        ]
    ):
        before, n_before = digest_parameters(est.net_), len(est.training_set_)
        act()
        receipt, report = est.receipts_[-1], est.unlearning_report_
        assert len(est.receipts_) == k + 1
        assert verify(est.receipts_, head=est.receipts_.head) == k + 1
        check_retained(est)
        assert receipt.verb == verb == report.request
        assert receipt.request_id == report.request_id == est.unlearning_history_[-1].request_id
        assert (receipt.n_erased, receipt.n_trained) == (report.n_erased, report.n_trained_erased)
        assert receipt.n_retained == len(est.training_set_) == n_before - (0 if verb == "correct" else report.n_erased)
        assert receipt.parameters_before == before != receipt.parameters_after
        assert receipt.content == "rows as the net takes them: float32, shape (3,)"
        assert receipt.method == "StoCuReNU"
        assert receipt.parameters["L"] == sk_unlearn.unlearners.StoCuReNU().L
        assert receipt.versions["sk_unlearn"] == sk_unlearn.__version__
        assert receipt.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
        assert receipt.outcome["status"] == str(report.status)
        assert sum(receipt.outcome["stages"].values()) == len(report.trace)
        assert receipt.notes == tuple(report.notes)
        assert any("backups" in each for each in receipt.not_covered)
        received, completed, deadline = (
            datetime.fromisoformat(each.replace("Z", "+00:00"))
            for each in (receipt.received, receipt.completed, receipt.deadline)
        )
        assert started - timedelta(seconds=1) <= received <= completed <= datetime.now(timezone.utc)
        assert timedelta(days=28) <= deadline - received <= timedelta(days=31)
    assert proofs(est, X[[0, 1, 5, 8, 20, 30]]) == [[1], [1], [2], [3], [4], []]
    found = prove_erased(est.receipts_, sample_id=[0, 8, 21, 22], key=est.receipt_key_)
    assert [[one.sequence for one in each] for each in found] == [[1], [3], [4], []]


@pytest.mark.parametrize(("form", "named"), [(np.asarray, True), (csr_array, False)])
def test_rows_that_come_later_are_digested_by_themselves(form, named):
    """Against a digest of all rows: after passes over new rows, over old ones, and over both."""
    X, y = data()
    ids, weight = np.arange(80).tolist() if named else None, np.linspace(0.5, 2, 80) if named else None

    def given(rows):
        return {"sample_weight": weight[rows], "sample_id": ids[rows]} if named else {}

    est = classifier().fit(form(X[:40]), y[:40], **given(slice(40)))
    est.partial_fit(X[40:50], y[40:50], **given(slice(40, 50)))
    assert est.unlearning_state_.retained_set is None  # nobody has asked for it yet
    est.forget(X[:2])
    for rows in (slice(50, 53), slice(50, 53), slice(52, 60)):
        est.partial_fit(X[rows], y[rows], **given(rows))
        assert est.unlearning_state_.retained_set == SetDigest.of_rows(est.receipt_key_, est.training_set_)
    est.correct(X[41:42], X_new=X[41:42] + 1).forget(X[50:51])
    check_retained(est)


def test_a_request_that_fails_leaves_no_receipt():
    X, y = data()
    est = classifier().fit(X, y).forget(X[:1])
    receipts = est.receipts_
    with pytest.raises(ValueError, match="cannot be found"):
        est.forget(X[:1])
    with pytest.raises(ValueError, match="different"):
        est.correct(np.repeat(X[3:4], 2, axis=0), X_new=X[4:6])
    assert est.receipts_ is receipts


@pytest.mark.parametrize("unlearner", [CuReNU(), FineTune(), Retrain()], ids=lambda u: type(u).__name__)
def test_every_unlearner_leaves_its_settings(unlearner):
    X, y = data()
    receipt = classifier(unlearner).fit(X, y).forget(X[:3]).receipts_[0]
    assert receipt.method == type(unlearner).__name__
    assert set(receipt.parameters) == set(unlearner.get_params())
    if isinstance(unlearner, Retrain):
        assert receipt.certificate["kind"] == "exact"
        assert receipt.certificate["assumptions"]


def test_a_history_of_requests_is_followed_by_the_digest_of_what_stays():
    rng = np.random.default_rng(5)
    X, y = data(200, seed=3)
    weight = rng.integers(1, 3, size=200)
    est = classifier().fit(X, y, sample_weight=weight, sample_id=[f"u{i % 50}" for i in range(200)])
    for step in range(8):
        kept = est.training_set_
        if step % 4 == 3:
            est.partial_fit(rng.normal(size=(3, 3)), [0, 1, 0], sample_id=["a", "b", f"u{step}"])
        elif step % 4 == 1:
            est.correct(kept.X[:2], y_new=1 - kept.y[:2])
        else:
            est.forget(kept.X[rng.choice(len(kept), 30, replace=False)])
        if step % 4 != 3:
            check_retained(est)
        est = pickle.loads(pickle.dumps(est)) if step % 2 else copy.deepcopy(est)
    assert verify(est.receipts_) == 6


def test_rows_that_are_not_kept_leave_receipts_too():
    X, y = data()
    est = classifier(keep_training_set=False).fit(X, y).partial_forget(X[:2], y[:2])
    assert est.receipts_[0].retained_set is None
    assert est.receipts_[0].ids == ()
    assert proofs(est, X[:3]) == [[1], [1], []]


def test_rows_of_other_shapes_and_frames_are_proven_as_they_were_given():
    X, y = data(40)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    est = UnlearnableRegressor(MLPNetRegressor(max_epochs=2), random_state=0).fit(frame, y.astype(float))
    est.forget(frame[:2])
    assert proofs(est, frame[:3]) == proofs(est, X[:3]) == [[1], [1], []]
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    images = np.random.default_rng(0).normal(size=(40, 2, 3)).astype(np.float32)
    est = UnlearnableClassifier(net, random_state=0).fit(images, y).forget(images[4:5])
    assert est.receipts_[0].content == "rows as the net takes them: float32, shape (2, 3)"
    assert proofs(est, images[3:6]) == [[], [1], []]


def test_rows_that_were_made_of_others_are_told_by_what_they_were_made_of():
    X, y = data(40)
    raw = pd.DataFrame(X.astype(np.float64) * 3 + 1, columns=["a", "b", "c"])
    key = bytes(32)
    est = fit_made(classifier(), digest_rows(key, raw), X, y, key=key)
    assert est.receipt_key_ == key
    est.forget(X[:1])
    assert est.receipts_[0].content == "rows as they came to the pipeline (raw table)"
    scale = np.full(3, 1.01)
    for k in (1, 2):
        served = digest_parameters(est.net_)
        commit_drafts([draft_deletion_at(est, np.array([4 * k]), to=scaled(est, scale))])
        assert est.receipts_[-1].parameters_before == served
        check_retained(est)
    plain = classifier().fit(X, y).forget(X[:1])
    commit_drafts([draft_deletion_at(plain, np.array([4]), to=scaled(plain, scale))])
    check_retained(plain)
    found = prove_erased(est.receipts_, raw[["c", "a", "b"]].iloc[[0, 4, 8, 9]], key=key)
    assert [[one.sequence for one in each] for each in found] == [[1], [2], [3], []]


def scaled(est, scale):
    return NewCoordinates((est.training_set_.X * scale).astype(np.float32), np.arange(3), scale, np.zeros(3))


def test_a_request_that_was_recorded_before_has_the_deadline_of_that_day():
    X, y = data()
    est = classifier().fit(X, y)
    came = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    est.request_forget(X[:1], received=came)
    est.request_forget(X[1:2], received=came.replace(day=1))
    est.settle()
    assert [each["deadline"][:10] for each in est.receipts_[0].outcome["requests"]] == ["2026-02-28", "2026-02-01"]
    assert est.receipts_[0].received == "2026-01-01T12:00:00.000Z"
    assert est.receipts_[0].deadline == "2026-02-01T12:00:00.000Z"


def test_no_row_and_no_identifier_is_in_any_receipt(tmp_path):
    X = np.random.default_rng(1).normal(size=(60, 3))
    X[:6] = 1234567.0 + np.arange(18).reshape(6, 3)  # as text and as bytes nowhere else
    y = (X[:, 1] > 0).astype(int)
    ids = [f"ann-{i}@example.org" for i in range(60)]
    est = classifier().fit(X, y, sample_id=ids)
    est.forget(X[:2]).forget(sample_id=ids[2:4]).correct(X[4:6], X_new=X[4:6] / 1e6)
    path = tmp_path / "receipts.jsonl"
    to_json_lines(est.receipts_, path)
    texts = [path.read_bytes(), pickle.dumps(est), *(json.dumps(to_in_toto(one)).encode() for one in est.receipts_)]
    texts += [repr(est.receipts_).encode(), *(str(one).encode() for one in est.receipts_)]
    for content in texts:
        assert b"123456" not in content
        for value in X[:6].ravel():
            assert np.float32(value).tobytes() not in content
            assert struct.pack("<d", value) not in content
        for one in ids[:4]:
            assert one.encode() not in content
            assert one.encode("utf-32-le") not in content
    for content in [texts[0], *texts[2:]]:
        assert est.receipt_key_ not in content
        assert est.receipt_key_.hex().encode() not in content
    assert est.receipt_key_.hex() not in repr(est) + est._repr_html_() + repr(est.unlearning_report_)
    assert "key" not in repr(est)
    assert verify(path, head=est.receipts_.head) == 3
    assert read_json_lines(path) == est.receipts_


def test_a_new_fit_begins_a_new_chain_with_a_new_key():
    X, y = data()
    est = classifier().fit(X, y).forget(X[:1])
    old, key = est.receipts_, est.receipt_key_
    est.fit(X[1:], y[1:])
    assert len(est.receipts_) == 0
    assert est.receipts_.beginning["chain"] != old.beginning["chain"]
    assert est.receipt_key_ != key
    assert len(est.receipt_key_) == 32
    assert not hasattr(clone(est), "receipts_")
    with pytest.raises(sk_unlearn.exceptions.ReceiptError, match="another model"):
        verify(est.receipts_, beginning=old.beginning["hash"])
    with pytest.raises(AttributeError):
        clone(est).receipt_key_  # noqa: B018  reading it is what raises


def test_the_digest_of_parameters_sees_every_number_and_survives_saving():
    X, y = data()
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    est = UnlearnableClassifier(module, random_state=0).fit(X.astype(np.float32), y)
    digest = digest_parameters(est.net_)
    assert digest == digest_parameters(pickle.loads(pickle.dumps(est)).net_)
    seen = {digest}
    for name, value in est.net_.module_.state_dict().items():
        changed = copy.deepcopy(est.net_)
        with torch.no_grad():
            changed.module_.state_dict()[name].view(-1)[-1:] += 1
        seen.add(digest_parameters(changed))
        assert value.numel()
    assert len(seen) == 1 + len(est.net_.module_.state_dict())


def test_what_an_audit_found_is_written_down():
    X, y = data(120)
    est = classifier().fit(X[:80], y[:80]).forget(X[:4])
    report = audit(est, X[:4], y[:4], X[80:], y[80:])
    est.forget(X[10:11])
    assert est.record_audit(report) is est
    entry = est.receipts_[-1]
    assert entry.verb == "audit"
    assert entry.request_id == est.receipts_[0].request_id
    assert entry.audit["verdict"] == report.verdict
    assert entry.audit["headline"] == report.headline
    assert entry.n_erased == 4
    assert verify(est.receipts_) == 3
    assert proofs(est, X[:1]) == [[1]]
    est.forget(X[12:13])
    assert verify(est.receipts_, head=est.receipts_.head) == 4
    other = classifier().fit(X[:80], y[:80]).forget(X[:4])
    with pytest.raises(ValueError, match="of a request that receipts_ does not know"):
        other.record_audit(report)
    with pytest.raises(ValueError, match="of a request that receipts_ does not know"):
        est.record_audit(None)


def test_the_history_stays_small_and_says_the_numbers():
    X, y = data(400)
    est = classifier(FineTune()).fit(X, y)
    sizes, reports = [], []
    for i in range(60):
        est.forget(X[i : i + 1])
        reports.append(est.unlearning_report_)
        sizes.append(len(pickle.dumps(est)) - len(pickle.dumps(est.receipts_)))
    assert (sizes[-1] - sizes[20]) / 39 < 300
    assert reports[0].trace  # whoever holds a report has it whole
    assert est.unlearning_history_[-1] is est.unlearning_report_ is reports[-1]
    for old, report, receipt in zip(est.unlearning_history_[:-1], reports, est.receipts_, strict=False):
        assert (old.trace, dict(old.extra), old.notes) == ([], {}, [])
        assert str(old) == str(report.brief()) == str(old.brief())
        assert old.step_norm == report.step_norm
        assert receipt.outcome["stop_reason"] == report.stop_reason
        assert receipt.notes == tuple(report.notes)
        assert old.request_id == receipt.request_id
    again = pickle.loads(pickle.dumps(est.unlearning_history_))
    assert list(map(str, again)) == list(map(str, est.unlearning_history_))
    assert len(pickle.dumps(est.receipts_)) / 60 < 500


def test_reports_that_differ_in_nothing_but_their_request_are_equal():
    X, y = data()
    reports = [classifier().fit(X, y).forget(X[:2]).unlearning_report_ for _ in range(2)]
    assert reports[0].request_id != reports[1].request_id
    first, other = (dataclasses.replace(each, seconds=0.0, trace=[], extra={}) for each in reports)
    assert repr(first) == repr(other)
