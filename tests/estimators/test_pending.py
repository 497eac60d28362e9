"""Requests that are written down now and settled later, all in one go."""

import copy
import pickle
import threading
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_unlearn.estimators.coordinates import NewCoordinates
from sk_unlearn.estimators.drafts import commit_drafts, draft_deletion_at, draft_settlement, request_at
from sk_unlearn.unlearners import FineTune, Retrain, Status, Unlearner, UnlearningResult
from tests._problems import Mlp, classifier, parameters, tiny_classifier

rng = np.random.default_rng(3)
X = rng.normal(size=(60, 3)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)
ids = [f"p{i}" for i in range(50)]
JANUARY = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def trained():
    return tiny_classifier(FineTune(), random_state=0).fit(X[:50], y[:50], sample_id=ids)


@pytest.fixture
def est(trained):
    return copy.deepcopy(trained)


def stored(est):
    return est.training_set_.sample_id.tolist()


def n_rows(est):
    return [request.n_rows for request in est.pending_]


# ---------------------------------------------------------------------------------------------------------- the queue


def test_a_request_changes_nothing_but_the_queue(est):
    before, history = parameters(est), list(est.unlearning_history_)
    request_id = est.request_forget(X[:3])
    assert np.array_equal(parameters(est), before)
    assert stored(est) == ids
    assert est.unlearning_history_ == history
    (request,) = est.pending_
    assert (request.request_id, request.n_rows) == (request_id, 3)
    assert abs(datetime.now(timezone.utc) - request.received) < timedelta(minutes=5)
    assert not request.overdue


def test_ids_of_requests_differ(est):
    assert est.request_forget(X[:1]) != est.request_forget(X[:1])
    assert n_rows(est) == [1, 1]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"X_del": X[50:52]},
        {"X_del": X[49:51]},
        {"sample_id": ["p1", "nobody"]},
        {"X_del": X[:1], "sample_id": "p1"},
    ],
)
def test_what_forget_refuses_is_not_written_down(est, asked):
    with pytest.raises(ValueError, match=r"X_del|sample_id"):
        est.request_forget(**asked)
    assert est.pending_ == ()


def test_an_error_names_the_verb(est):
    with pytest.raises(ValueError, match="request_forget needs X_del"):
        est.request_forget()


@pytest.mark.parametrize(
    ("received", "deadline"),
    [
        ((2026, 1, 31), (2026, 2, 28)),
        ((2028, 1, 31), (2028, 2, 29)),
        ((2026, 12, 31), (2027, 1, 31)),
        ((2026, 11, 30), (2026, 12, 30)),
        ((2026, 8, 31), (2026, 9, 30)),
    ],
)
def test_the_deadline_is_a_calendar_month_away(est, received, deadline):
    est.request_forget(sample_id="p1", received=datetime(*received, 23, 5, tzinfo=timezone.utc))
    assert est.pending_[0].deadline == datetime(*deadline, 23, 5, tzinfo=timezone.utc)


def test_moments_are_told_in_utc(est):
    est.request_forget(sample_id="p1", received=datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))))
    (request,) = est.pending_
    assert request.received == datetime(2025, 12, 31, 23, tzinfo=timezone.utc)
    assert request.received.utcoffset() == timedelta(0)
    assert request.deadline == datetime(2026, 1, 31, 23, tzinfo=timezone.utc)
    assert request.overdue


@pytest.mark.parametrize(("received", "error"), [(datetime(2026, 1, 1), ValueError), ("2026-01-01", TypeError)])
def test_a_moment_that_is_none_is_refused(est, received, error):
    with pytest.raises(error, match="received"):
        est.request_forget(sample_id="p1", received=received)
    assert est.pending_ == ()


def test_a_request_can_be_taken_back(est):
    first, second = est.request_forget(sample_id=["p1", "p2"]), est.request_forget(sample_id="p2")
    assert est.cancel_request(first) is est
    est.settle()
    assert stored(est) == [one for one in ids if one != "p2"]
    assert [told["request_id"] for told in est.unlearning_report_.requests] == [second]
    for request_id in (first, second, "anything"):
        with pytest.raises(ValueError, match="pending_"):
            est.cancel_request(request_id)


# ------------------------------------------------------------------------------------------- what comes in between


def test_rows_that_go_meanwhile_are_not_waited_for(est):
    est.request_forget(sample_id=["p1", "p2"])
    est.request_forget(sample_id="p2")
    est.forget(sample_id="p2")
    assert n_rows(est) == [1, 0]
    est.partial_forget(X[1:2], y[1:2])
    assert n_rows(est) == [0, 0]
    before = parameters(est)
    report = est.settle().unlearning_report_
    assert est.pending_ == ()
    assert (report.request, report.n_erased, report.status) == ("settle", 0, Status.NOTHING_TO_UNDO)
    assert len(report.requests) == 2
    assert np.array_equal(parameters(est), before)


def test_gaps_are_closed_under_it(est):
    est.request_forget(sample_id=ids[40:])
    est.forget(sample_id=ids[:30])  # more than half: slots are renumbered
    assert est.training_set_.n_slots == 20
    est.settle()
    assert stored(est) == ids[30:40]


def test_a_row_that_is_corrected_goes_all_the_same(est):
    est.request_forget(X[:1])
    est.correct(X[:1], X_new=X[55:56])
    assert n_rows(est) == [1]
    est.settle()
    assert "p0" not in stored(est)
    with pytest.raises(ValueError, match="not among the stored rows"):
        est.forget(X[55:56])


def test_equal_rows_that_come_later_stay(est):
    est.request_forget(X[:2])
    est.partial_fit(X[:2], y[:2], sample_id=["later", "p1"])  # the second is the stored one
    assert n_rows(est) == [2]
    est.settle()
    assert stored(est) == [*ids[2:], "later"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda est: pickle.loads(pickle.dumps(est))])
def test_the_queue_goes_with_copies(est, copied):
    est.forget(sample_id=ids[:5])
    request_id = est.request_forget(sample_id=ids[10:12], received=JANUARY)
    other = copied(est)
    assert other.pending_ == est.pending_
    other.settle()
    assert stored(other) == ids[5:10] + ids[12:]
    assert [request.request_id for request in est.pending_] == [request_id]


def test_fit_does_not_lose_sight_of_requests(est):
    request_id = est.request_forget(X[:2])
    with pytest.raises(ValueError, match="settle"):
        est.fit(X, y)
    assert [request.request_id for request in est.pending_] == [request_id]
    assert est.cancel_request(request_id).fit(X, y).pending_ == ()


# ------------------------------------------------------------------------------------------------------------- settle


def test_settle_is_one_forget_of_all_rows(est):
    other = copy.deepcopy(est).forget(sample_id=["p1", "p3", "p4", "p9"])
    est.request_forget(sample_id=["p1", "p3"])
    est.request_forget(X[[3, 9]])
    est.request_forget(X[4:5], y[4:5])
    assert est.settle() is est
    assert np.array_equal(parameters(est), parameters(other))
    assert stored(est) == stored(other)
    assert len(est.unlearning_history_) == 1
    report = est.unlearning_report_
    assert (report.request, report.n_erased, len(report.requests)) == ("settle", 4, 3)
    assert est.pending_ == ()


def test_the_report_says_when(est):
    ids_of_requests = [est.request_forget(sample_id="p1", received=JANUARY), est.request_forget(sample_id="p2")]
    told = est.settle().unlearning_report_.requests
    assert [one["request_id"] for one in told] == ids_of_requests
    assert [one["late"] for one in told] == [True, False]
    assert told[0]["received"] == "2026-01-31T12:00:00+00:00"
    assert told[0]["deadline"] == "2026-02-28T12:00:00+00:00"
    for one in told:
        assert datetime.fromisoformat(one["received"]) < datetime.fromisoformat(one["completed"])
    assert "settle of 2 pending requests, 1 of them late," in repr(est.unlearning_report_)
    assert est.unlearning_report_.to_dict()["requests"] == told


def test_with_nothing_pending_nothing_happens(est):
    before, state = parameters(est), est.unlearning_state_
    assert est.settle() is est
    assert np.array_equal(parameters(est), before)
    assert est.unlearning_state_ is state
    assert est.unlearning_history_ == []
    assert not hasattr(est, "unlearning_report_")


def test_requests_for_all_rows_stay_pending(est):
    est.request_forget(sample_id=ids[:30])
    est.request_forget(sample_id=ids[20:])
    before = parameters(est)
    for verb in (est.settle, est.retrain):
        with pytest.raises(ValueError, match="They stay pending: bring other rows by partial_fit first"):
            verb()
    assert n_rows(est) == [30, 30]
    assert np.array_equal(parameters(est), before)
    est.partial_fit(X[50:], y[50:], sample_id=[f"q{i}" for i in range(10)]).settle()
    assert stored(est) == [f"q{i}" for i in range(10)]


def test_a_settlement_that_fails_keeps_the_queue(est):
    class Fails(Unlearner):
        def unlearn(self, problem):
            return UnlearningResult(problem.parameters * float("nan"), Status.COMPLETED)

    est.request_forget(X[:2])
    pending, before = est.pending_, parameters(est)
    est.set_params(unlearner=Fails())
    with pytest.raises(FloatingPointError):
        est.settle()
    assert est.pending_ == pending
    assert stored(est) == ids
    assert np.array_equal(parameters(est), before)


def test_without_stored_rows_nothing_can_wait():
    est = tiny_classifier(keep_training_set=False).fit(X, y)
    with pytest.raises(ValueError, match="partial_forget"):
        est.request_forget(X[:1])
    assert est.pending_ == ()
    assert est.settle() is est


def test_unfitted():
    est = tiny_classifier()
    for call in (est.settle, lambda: est.request_forget(X[:1]), lambda: est.pending_, lambda: est.cancel_request("a")):
        with pytest.raises(AttributeError):  # NotFittedError
            call()


def test_requests_while_another_thread_settles(est):
    inside, asked = threading.Event(), []

    class Waits(Unlearner):
        def unlearn(self, problem):
            inside.set()
            asker.join(0.2)  # which has to wait
            return UnlearningResult(problem.parameters + 0.1, Status.COMPLETED)

    def ask():
        inside.wait(20)
        asked.append(est.request_forget(sample_id="p7"))

    est.set_params(unlearner=Waits()).request_forget(sample_id="p1")
    asker = threading.Thread(target=ask)
    asker.start()
    est.settle()
    asker.join(20)
    assert "p1" not in stored(est)
    assert "p7" in stored(est)
    assert [request.request_id for request in est.pending_] == asked
    assert len(est.unlearning_report_.requests) == 1


def test_many_threads_lose_no_request(est):
    def ask(number):
        est.request_forget(sample_id=ids[5 * number : 5 * number + 5])
        est.settle()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert est.pending_ == ()
    assert stored(est) == ids[30:]
    assert sum(len(report.requests) for report in est.unlearning_history_) == 6


def test_in_new_coordinates(est):
    """As a pipeline does whose steps give up rows, too: what waits comes along."""
    est.request_forget(sample_id="p1", received=JANUARY)
    second = request_at(est, np.array([3, 4]))
    scale, shift = np.array([2.0, 1.0, 0.5]), np.array([0.5, 0.0, -1.0])
    to = NewCoordinates((est.training_set_.X * scale + shift).astype(np.float32), np.arange(3), scale, shift)
    other = copy.deepcopy(est)
    commit_drafts([draft_deletion_at(est, np.array([4, 7]), to=to)])
    assert n_rows(est) == [1, 1]
    est.settle()
    assert stored(est) == [one for one in ids if one not in ("p1", "p3", "p4", "p7")]
    commit_drafts([draft_settlement(other, to=to)])
    assert other.pending_ == ()
    assert stored(other) == [one for one in ids if one not in ("p1", "p3", "p4")]
    assert [told["request_id"] for told in other.unlearning_report_.requests][1] == second
    np.testing.assert_allclose(other.training_set_.X[0], X[0] * scale + shift, rtol=1e-6)


# ---------------------------------------------------------------------------------------------------------- histories

VERBS = ["forget", "request_forget", "settle", "cancel_request", "correct", "partial_fit", "retrain", "pickle"]


class History:
    """A plain account of what an estimator must hold, beside the estimator."""

    def __init__(self, draw, unlearner, with_ids):
        self.draw, self.with_ids = draw, with_ids
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.rows = {}  # name: (content, target), in order
        self.pending = []  # (request id, names)
        self.gone = []  # content that must not be found anywhere
        self.n_names = 0
        names = [self.new_row() for _ in range(12)]
        training = {"optimizer": torch.optim.Adam, "lr": 0.05, "max_epochs": 2, "batch_size": 6}
        self.est = classifier(unlearner, Mlp, module__n_features_in=3, module__n_outputs=2, **training)
        self.est.fit(*self.content(names), sample_id=self.identifiers(names))

    def new_row(self):
        """A name for a row with a content of its own, stored under it."""
        name = f"r{self.n_names}"
        # Every class stays known, whatever goes.
        self.rows[name] = (self.rng.normal(size=3).astype(np.float32), self.n_names % 2)
        self.n_names += 1
        return name

    def content(self, names):
        return np.array([self.rows[name][0] for name in names]), np.array([self.rows[name][1] for name in names])

    def identifiers(self, names):
        return list(names) if self.with_ids else None

    def asked(self, names):
        if self.with_ids and self.draw(st.booleans()):
            return {"sample_id": list(names)}
        return {"X_del": self.content(names)[0]}

    def some(self, least=1):
        names = self.draw(st.lists(st.sampled_from(list(self.rows)), min_size=least, max_size=3, unique=True))
        return [name for name in self.rows if name in names]

    def drop(self, names):
        for name in names:
            self.gone.append(self.rows.pop(name)[0])
        self.pending = [(request_id, [n for n in held if n not in names]) for request_id, held in self.pending]

    def waiting(self):
        return [name for name in self.rows if any(name in names for _, names in self.pending)]

    def step(self, verb):
        n_before, n_waiting = len(self.est.unlearning_history_), len(self.waiting())
        if verb == "forget" and len(self.rows) > 4:
            names = self.some()
            self.est.forget(**self.asked(names))
            self.drop(names)
        elif verb == "request_forget":
            names = self.some()
            self.pending.append((self.est.request_forget(**self.asked(names)), names))
        elif verb == "cancel_request" and self.pending:
            self.est.cancel_request(self.pending.pop(0)[0])
        elif verb == "correct":
            (name, *_) = self.some()
            old, target = self.rows[name]
            new = self.rng.normal(size=3).astype(np.float32)
            self.est.correct(old[None], X_new=new[None])
            self.rows[name] = (new, target)
            self.gone.append(old)
        elif verb == "partial_fit":
            names = [self.new_row() for _ in range(2)]
            self.est.partial_fit(*self.content(names), sample_id=self.identifiers(names))
        elif verb in ("settle", "retrain") and n_waiting < len(self.rows):
            n_requests = len(self.pending)
            getattr(self.est, verb)()
            self.drop(self.waiting())
            self.pending = []
            if verb == "retrain" or n_requests:
                assert len(self.est.unlearning_history_) == n_before + 1
                report = self.est.unlearning_report_
                assert (report.request, report.n_erased, len(report.requests)) == (verb, n_waiting, n_requests)
        elif verb == "pickle":
            self.est = pickle.loads(pickle.dumps(self.est))

    def check(self):
        rows = self.est.training_set_
        X, y = self.content(self.rows)
        assert np.array_equal(rows.X, X)
        assert np.array_equal(rows.y, y)
        if self.with_ids:
            assert rows.sample_id.tolist() == list(self.rows)
        pending = [(request.request_id, request.n_rows) for request in self.est.pending_]
        assert pending == [(request_id, len(names)) for request_id, names in self.pending]
        written = pickle.dumps(self.est)
        for content in self.gone:
            assert content.tobytes() not in written
            assert content.astype(np.float64).tobytes() not in written


@settings(max_examples=20)
@given(
    st.data(),
    st.lists(st.sampled_from(VERBS), min_size=4, max_size=12),
    st.sampled_from([None, Retrain(), FineTune()]),
    st.booleans(),
)
def test_no_erased_row_comes_back(data, verbs, unlearner, with_ids):
    history = History(data.draw, unlearner, with_ids)
    for verb in verbs:
        history.step(verb)
        history.check()
