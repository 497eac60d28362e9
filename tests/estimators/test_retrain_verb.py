"""Training anew in place, and the advice to do it."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from torch import nn

from sk_unlearn import MLPNetClassifier, MLPNetRegressor, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.exceptions import RetrainRequired
from sk_unlearn.unlearners import (
    CertifiedNewton,
    CertifiedRemoval,
    FineTune,
    Retrain,
    Status,
    StoCuReNU,
    Unlearner,
    UnlearningResult,
)
from tests._problems import classifier, parameters, tiny_classifier

rng = np.random.default_rng(5)
X = rng.normal(size=(60, 3)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)

SLIGHTLY = 1e-6


class NormNet(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features_in, 5), nn.BatchNorm1d(5), nn.Dropout(0.2), nn.Linear(5, n_outputs)
        )

    def forward(self, X):
        return self.layers(X)


class Ends(Unlearner):
    """Moves every parameter a little and ends as it is told."""

    def __init__(self, status=Status.COMPLETED, by=0.1):
        self.status = status
        self.by = by

    def unlearn(self, problem):
        gradient = problem.gradient if self.by == SLIGHTLY else None
        return UnlearningResult(problem.parameters + self.by, self.status, "as told", gradient=gradient)


def everything(est):
    """Parameters and buffers of the net, the settings of its optimiser, rows and their roles."""
    state = {name: value.numpy() for name, value in est.net_.module_.state_dict().items()}
    groups = [{k: v for k, v in group.items() if k != "params"} for group in est.net_.optimizer_.param_groups]
    return state | {"role": est.training_set_.role, "X": est.training_set_.X}, groups


def assert_same(one, other):
    (arrays, groups), (other_arrays, other_groups) = everything(one), everything(other)
    assert arrays.keys() == other_arrays.keys()
    for name in arrays:
        assert np.array_equal(arrays[name], other_arrays[name]), name
    assert groups == other_groups


# ------------------------------------------------------------------------------------------------------------ retrain

KINDS = {
    "own net": lambda: tiny_classifier(random_state=0),
    "BatchNorm, dropout": lambda: classifier(None, NormNet, optimizer=torch.optim.Adam, max_epochs=3, batch_size=15),
    "built-in classifier": lambda: UnlearnableClassifier(MLPNetClassifier(max_epochs=10), random_state=0),
    "built-in regressor": lambda: UnlearnableRegressor(MLPNetRegressor(max_epochs=10), random_state=0),
    "validation": lambda: classifier(None, NormNet, max_epochs=3, batch_size=15, train_split=ValidSplit(4)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_retrain_makes_of_a_last_request(kind):
    est = KINDS[kind]().fit(X[:50], y[:50], sample_id=np.arange(50))
    est.partial_fit(X[50:], y[50:], sample_id=np.arange(50, 60))
    est.forget(sample_id=[1, 2])
    last = copy.deepcopy(est).set_params(unlearner=Retrain()).forget(sample_id=[5, 7, 55])
    est.request_forget(sample_id=[5, 7])
    est.request_forget(sample_id=55)
    pending = copy.deepcopy(est).retrain()
    assert_same(pending, last)
    report = pending.unlearning_report_
    assert (report.request, report.method, report.n_erased, len(report.requests)) == ("retrain", "Retrain", 3, 2)
    assert report.status == Status.COMPLETED
    assert pending.pending_ == ()
    # Without pending requests too: here after the rows have gone in another way.
    for one in est.pending_:
        est.cancel_request(one.request_id)
    assert_same(est.forget(sample_id=[5, 7, 55]).retrain(), last)
    assert est.unlearning_report_.n_erased == 0
    assert [report.request for report in est.unlearning_history_] == ["forget", "forget", "retrain"]


def test_it_is_what_fit_makes_of_the_rows():
    est = tiny_classifier(StoCuReNU(renew=False), random_state=0).fit(X, y).forget(X[:4])
    before = parameters(est)
    assert est.retrain() is est
    assert not np.array_equal(parameters(est), before)
    assert np.array_equal(parameters(est), parameters(tiny_classifier(random_state=0).fit(X[4:], y[4:])))


def test_what_adds_up_over_requests_begins_anew():
    est = tiny_classifier(random_state=0).fit(X, y)
    alone = copy.deepcopy(est)
    est.set_params(unlearner=Ends()).forget(X[:1]).forget(X[1:2])
    state = est.unlearning_state_
    est.unlearning_state_ = replace(state, set_aside_at=3.0, notes=(*state.notes, "of the training before"))
    est.retrain().set_params(unlearner=StoCuReNU(renew=False))
    assert est.unlearning_state_.set_aside_at == 0
    assert est.unlearning_state_.notes == state.notes
    # Later requests set out from the new training alone.
    fresh = tiny_classifier(StoCuReNU(renew=False), random_state=0).fit(X[2:], y[2:])
    for one in (est, fresh):
        one.forget(X[5:8])
    reports = est.unlearning_report_, fresh.unlearning_report_
    assert reports[0].residual_norm == pytest.approx(reports[1].residual_norm, rel=1e-5)
    assert reports[0].gradient_norm_before == pytest.approx(reports[1].gradient_norm_before, rel=1e-4)
    assert alone.unlearning_history_ == []


def test_the_certificate_is_exact():
    est = tiny_classifier(FineTune(), random_state=0).fit(X, y).forget(X[:3])
    with pytest.raises(AttributeError, match="certificate_"):
        est.certificate_  # noqa: B018  reading it is what raises
    certificate = est.retrain().certificate_
    assert (certificate.kind, certificate.n_requests, certificate.proven) == ("exact", 2, True)
    est.forget(X[3:4])
    with pytest.raises(AttributeError, match="certificate_"):
        est.certificate_  # noqa: B018  reading it is what raises


def test_no_byte_of_pending_rows_is_left():
    est = tiny_classifier(random_state=0).fit(X, y)
    est.request_forget(X[:2])
    assert X[0].tobytes() in pickle.dumps(est)
    written = pickle.dumps(est.retrain())
    for row in X[:2]:
        assert row.tobytes() not in written
        assert row.astype(np.float64).tobytes() not in written


def test_after_from_fitted():
    source = tiny_classifier(random_state=0).fit(X, y)
    est = UnlearnableClassifier.from_fitted(source.net_, X, y, random_state=3)
    last = copy.deepcopy(est).set_params(unlearner=Retrain()).forget(X[:2])
    est.request_forget(X[:2])
    assert_same(est.retrain(), last)
    assert not np.array_equal(parameters(est), parameters(source))


def test_after_partial_fit_alone():
    est = tiny_classifier(random_state=0).partial_fit(X[:40], y[:40]).partial_fit(X[40:], y[40:])
    assert_same(copy.deepcopy(est).forget(X[:2]).retrain(), est.set_params(unlearner=Retrain()).forget(X[:2]))


def test_without_stored_rows():
    est = tiny_classifier(keep_training_set=False).fit(X, y)
    with pytest.raises(ValueError, match="retrain trains on the stored rows"):
        est.retrain()


def test_unfitted():
    for call in (tiny_classifier().retrain, lambda: tiny_classifier().retrain_recommended_):
        with pytest.raises(AttributeError):  # NotFittedError
            call()


class Breaks(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise RuntimeError("injected")


def test_a_training_that_fails_changes_nothing():
    est = tiny_classifier(random_state=0).fit(X, y)
    est.request_forget(X[:2])
    before, pending = everything(est), est.pending_
    est.set_params(estimator__callbacks=[("breaks", Breaks())])
    with pytest.raises(RuntimeError, match="injected"):
        est.retrain()
    after = everything(est)
    assert all(np.array_equal(before[0][name], after[0][name]) for name in before[0])
    assert est.pending_ == pending
    assert est.unlearning_history_ == []


# ------------------------------------------------------------------------------------------------------------- advice


@pytest.fixture(scope="module")
def trained():
    return tiny_classifier(Ends(), random_state=0).fit(X[:50], y[:50])


@pytest.fixture
def est(trained):
    return copy.deepcopy(trained)


def test_nothing_has_been_erased(est):
    advice = est.retrain_recommended_
    assert not advice
    assert advice.reason == "nothing has been erased since the model was trained"
    assert (advice.reasons, advice.share_erased, advice.n_requests) == ([], 0.0, 0)


def test_a_few_rows_are_no_reason(est):
    assert "after 1 request since" in est.forget(X[:3]).retrain_recommended_.reason
    advice = est.forget(X[3:5]).retrain_recommended_
    assert not advice
    assert (advice.share_erased, advice.n_requests, advice.statuses) == (0.1, 2, ["completed"])
    assert "after 2 requests" in advice.reason


@pytest.mark.parametrize("verb", ["forget", "correct", "settle"])
def test_many_rows_are(est, verb):
    for start in range(0, 12, 2):
        rows = X[start : start + 2]
        if verb == "settle":
            est.request_forget(rows)
        elif verb == "forget":
            est.forget(rows)
        else:
            est.correct(rows, X_new=rows + 100)
        assert not est.retrain_recommended_ or start == 10
    advice = est.settle().retrain_recommended_
    assert advice
    assert advice.share_erased == 12 / 50
    assert advice.reason == "24% of the trained rows were erased or corrected since, and 20% may be"
    assert not est.retrain().retrain_recommended_
    assert est.retrain_recommended_.n_requests == 0


@pytest.mark.parametrize(
    "again", [lambda est: est.retrain(), lambda est: est.set_params(unlearner=Retrain()).forget(X[20:21])]
)
def test_training_anew_ends_the_counts(est, again):
    est.forget(X[:12]).partial_fit(X[50:51], y[50:51]).partial_fit(X[51:52], y[51:52])
    assert len(est.retrain_recommended_.reasons) == 2
    advice = again(est).retrain_recommended_
    assert not advice
    assert (advice.n_requests, advice.n_small_passes, advice.share_erased) == (0, 0, 0.0)


def test_passes_over_few_rows(est):
    assert not est.partial_fit(X[50:51], y[50:51]).retrain_recommended_
    advice = est.partial_fit(X[51:53], y[51:53]).retrain_recommended_
    assert advice
    assert advice.n_small_passes == 2
    assert "partial_fit made 2 passes of at most 20 rows" in advice.reason


def test_passes_over_many_rows_are_no_reason(est):
    for _ in range(3):
        est.partial_fit(X[:50], y[:50])
    assert not est.retrain_recommended_


@pytest.mark.parametrize("status", list(Status))
def test_a_status_that_alarms_does_so_until_the_next_training(est, status):
    est.set_params(unlearner=Ends(status)).forget(X[:1])
    est.set_params(unlearner=Ends()).forget(X[1:2])
    advice = est.retrain_recommended_
    alarming = status in (Status.MODEL_BROKE_DOWN, Status.HARMED_RETAINED, Status.UNMOVED)
    assert bool(advice) == alarming
    assert any(str(status) in reason for reason in advice.reasons) == alarming
    assert not est.retrain().retrain_recommended_


def test_a_request_that_moves_nothing(est):
    est.set_params(unlearner=Ends(by=0.0)).forget(X[:1])
    assert "unmoved" in est.retrain_recommended_.reason
    est.set_params(unlearner=Ends(by=SLIGHTLY)).forget(X[1:2])
    assert "undid next to nothing" in est.retrain_recommended_.reason


def test_rows_that_were_never_trained_on_do_not_count():
    weight = np.ones(60)
    weight[:20] = 0
    est = tiny_classifier(Ends(), random_state=0).fit(X, y, sample_weight=weight).forget(X[:20])
    assert est.retrain_recommended_.reason == "nothing has been erased since the model was trained"


def test_without_stored_rows_too():
    est = tiny_classifier(random_state=0, keep_training_set=False).fit(X, y)
    advice = est.partial_forget(X[:15], y[:15]).retrain_recommended_
    assert advice.share_erased == 0.25
    assert any("25%" in reason for reason in advice.reasons)


def convex(unlearner):
    """One linear layer that is trained to its optimum: what certified methods can say something of."""
    torch.manual_seed(0)
    settings = {"max_epochs": 80, "batch_size": -1, "lr": 0.5, "optimizer__weight_decay": 0.1}
    return classifier(unlearner, nn.Linear(3, 2, dtype=torch.float64), **settings).fit(X.astype(float), y)


def test_noise_of_many_requests():
    est = convex(CertifiedNewton(sigma=0.1, radius=5.0))
    epsilons = []
    while not est.retrain_recommended_ and len(epsilons) < 11:
        est.forget(X[len(epsilons) : len(epsilons) + 1])
        epsilons.append(est.retrain_recommended_.epsilon)
    assert 2 <= len(epsilons) < 11
    assert epsilons == sorted(epsilons)
    assert epsilons[-1] == est.certificate_.epsilon > 2 * est.unlearning_report_.certificate.epsilon
    assert "all requests together guarantee epsilon" in est.retrain_recommended_.reason
    assert not est.retrain().retrain_recommended_
    assert np.isnan(est.retrain_recommended_.epsilon)


def test_a_budget_that_is_nearly_spent():
    est = convex(CertifiedRemoval(epsilon=1.0, sigma=0.4, max_steps=1))
    charges = []
    for number in range(1, 40):
        try:
            est.forget(X[number : number + 1])
        except RetrainRequired:
            break
        spent = est.retrain_recommended_.budget_spent
        assert f"{spent:.0%} of the budget is spent" in est.unlearning_report_.stop_reason
        charges.append(spent - sum(charges))
        advised = bool(est.retrain_recommended_)
        assert advised == (spent + max(charges) > 1)
    assert advised  # before it was refused
    assert 1 < number < 39
    assert not est.retrain().retrain_recommended_


def test_a_bound_that_is_known():
    advice = convex(CertifiedNewton(sigma=0.0)).forget(X[:2]).retrain_recommended_
    assert 0 <= advice.distance_bound < 1
    assert np.isnan(advice.epsilon)
    assert np.isnan(advice.budget_spent)


def test_the_advice_can_be_copied_and_compared(est):
    advice = est.forget(X[:20]).retrain_recommended_
    assert pickle.loads(pickle.dumps(advice)).reasons == advice.reasons
    with pytest.raises(AttributeError):
        advice.reasons = []
