"""Features that move: predictions stay, gradients follow, and a request is carried out in the new coordinates."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.estimators._folding import ColumnMap, folded
from sk_unlearn.estimators.coordinates import NewCoordinates, shadowed
from sk_unlearn.estimators.drafts import (
    commit_drafts,
    draft_correction_at,
    draft_deletion_at,
    draft_training,
    fit_made,
)
from sk_unlearn.estimators.fitting import first_anchor
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import Retrain
from sk_unlearn.utils._twins import twin
from tests import _problems

rng = np.random.default_rng(3)
X = rng.normal(size=(80, 4)).astype(np.float32)
labels = (X[:, 0] + 0.5 * rng.normal(size=80) > 0).astype(int)
NONE = np.empty(0, dtype=np.int64)


class Residual(nn.Module):
    """Uses its input twice, so that no single layer can take a change of it."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.inner, self.outer = nn.Linear(n_features_in, n_features_in), nn.Linear(n_features_in, n_outputs)

    def forward(self, x):
        return self.outer(x + torch.tanh(self.inner(x)))


class Mlp(nn.Sequential):
    def __init__(self, n_features_in, n_outputs, *, norm=False, bias=True):
        layers = [nn.BatchNorm1d(n_features_in)] if norm else []
        super().__init__(*layers, nn.Linear(n_features_in, 6, bias=bias), nn.Tanh(), nn.Linear(6, n_outputs))


class TwoHeads(nn.Module):
    """Two layers read the input side by side."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.deep, self.wide = nn.Linear(n_features_in, 6), nn.Linear(n_features_in, n_outputs)
        self.out = nn.Linear(6, n_outputs)

    def forward(self, x):
        return self.wide(x) + self.out(torch.tanh(self.deep(x)))


def classifier(module=None, **settings):
    if module is None:
        return UnlearnableClassifier(random_state=0, **settings)
    return _problems.classifier(module=module, max_epochs=4, lr=0.3, batch_size=16, **settings)


def affine(estimator, scale, shift):
    present = estimator.training_set_.X
    return NewCoordinates(
        (present * scale + shift).astype(present.dtype), np.arange(4), np.array(scale), np.array(shift)
    )


SCALE, SHIFT = np.array([1.5, 0.7, 1.0, 2.0]), np.array([0.3, -1.0, 0.0, 5.0])


@pytest.mark.parametrize("module", [None, Mlp, TwoHeads], ids=["built-in", "sequential", "two heads"])
def test_predictions_stay_and_gradients_follow(module):
    est = classifier(module).fit(X, labels)
    moved = shadowed(est, affine(est, SCALE, SHIFT), NONE)
    assert not moved.is_far
    after = moved.estimator
    np.testing.assert_allclose(after.predict_proba(X * SCALE + SHIFT), est.predict_proba(X), atol=2e-5)
    exact = EmpiricalRisk(twin(after.net_), after.training_set_.X, after.training_set_.y)
    taken = after.unlearning_state_.anchor.gradient
    torch.testing.assert_close(taken, exact.gradient(exact.parameters()), atol=2e-5, rtol=1e-3)
    known = {each.place: each.sums for each in exact.layer_inputs(exact.parameters()).steady.maps}
    moved_inputs = after.unlearning_state_.anchor.inputs
    assert {each.place for each in moved_inputs.maps} == set(known)
    for each in moved_inputs.maps:
        torch.testing.assert_close(each.sums.moments, known[each.place].moments, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n_apart", [7, 60])
@pytest.mark.parametrize("module", [None, Mlp, TwoHeads], ids=["built-in", "sequential", "two heads"])
def test_some_rows_move_otherwise(module, n_apart):
    """Such as those whose missing values were filled in: what is known of all rows follows without the others."""
    est = classifier(module).fit(X, labels, sample_weight=np.random.default_rng(0).uniform(1, 2, 80))
    to = affine(est, SCALE, SHIFT)
    apart = np.sort(np.random.default_rng(1).choice(80, n_apart, replace=False))
    to.X[apart, 1] += 0.05
    moved = shadowed(est, replace(to, apart=apart), np.array([5])).estimator
    others = np.setdiff1d(np.arange(80), apart)
    np.testing.assert_allclose(moved.predict_proba(to.X[others]), est.predict_proba(X[others]), atol=1e-5)
    anchor = moved.unlearning_state_.anchor
    taken = first_anchor(moved.net_, moved.training_set_, 0, keeps_rows=True)
    torch.testing.assert_close(anchor.gradient, taken.gradient, atol=2e-6, rtol=1e-4)
    known = {each.place: each.sums for each in anchor.inputs.maps if each.steady}
    assert known
    for each in taken.inputs.maps:
        if each.place in known:
            torch.testing.assert_close(known[each.place].moments, each.sums.moments, atol=1e-4, rtol=1e-6)
    # What training left is what it left: of the move nothing counts as an error of the optimiser.
    whole = shadowed(est, to, NONE).estimator.unlearning_state_.anchor
    torch.testing.assert_close(anchor.residual, whole.residual)


def test_a_layer_of_batch_norm_takes_it():
    est = classifier(NormedMlp).fit(X, labels)
    after = shadowed(est, affine(est, SCALE, SHIFT), NONE).estimator
    np.testing.assert_allclose(after.predict_proba(X * SCALE + SHIFT), est.predict_proba(X), atol=1e-3)


class NormedMlp(Mlp):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs, norm=True)


class BiaslessMlp(Mlp):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs, bias=False)


def test_what_no_layer_can_take_is_left_and_noticed():
    est = classifier(Residual).fit(X, labels)
    change = ColumnMap(1 / SCALE, -SHIFT / SCALE)
    net = twin(est.net_, share_tensors=False)
    assert folded(net, change, X, labels) is None
    assert torch.equal(flat_parameters(net), flat_parameters(est.net_))
    assert shadowed(est, affine(est, SCALE, SHIFT), NONE).is_far
    small = shadowed(est, affine(est, 1 + 1e-4 * SCALE, 1e-4 * SHIFT), NONE)
    assert not small.is_far
    # The gradient is taken anew; what training had left is held.
    state = small.estimator.unlearning_state_
    exact = EmpiricalRisk(twin(small.estimator.net_), small.estimator.training_set_.X, labels)
    torch.testing.assert_close(state.anchor.gradient, exact.gradient(exact.parameters()))
    assert torch.equal(state.anchor.residual, est.unlearning_state_.anchor.residual)


def test_without_a_bias_a_scale_can_be_taken_and_a_shift_cannot():
    est = classifier(BiaslessMlp).fit(X, labels)
    net = twin(est.net_, share_tensors=False)
    assert folded(net, ColumnMap(SCALE, SHIFT), X, labels) is None
    assert folded(net, ColumnMap(SCALE, 0 * SHIFT), X, labels) is not None


@pytest.mark.parametrize("module", [None, Mlp, Residual], ids=["built-in", "sequential", "residual"])
def test_a_request_in_new_coordinates_is_the_same_request(module):
    """The rows that stay are known as well as after the same request in the old coordinates."""
    plain, moved = (classifier(module).fit(X, labels) for _ in range(2))
    plain.forget(X[:4])
    scale, shift = 1 + 1e-3 * SCALE, 1e-3 * SHIFT
    net, rows = moved.net_, moved.training_set_
    draft = draft_deletion_at(moved, np.arange(4), to=affine(moved, scale, shift), notes=["a step was told"])
    assert len(moved.training_set_) == 80  # nothing yet
    commit_drafts([draft])
    assert (moved.net_, moved.training_set_) == (net, rows)
    assert len(rows) == 76
    assert "a step was told" in moved.unlearning_report_.notes
    assert moved.unlearning_report_.n_erased == 4
    np.testing.assert_allclose(moved.predict_proba(X * scale + shift), plain.predict_proba(X), atol=0.03)
    moved.forget((X[4:6] * scale + shift).astype(np.float32))
    assert len(rows) == 74


def test_a_vanished_feature_is_gone_from_every_part():
    wide = np.column_stack([X, np.zeros(80)]).astype(np.float32)
    wide[:3, 4] = 0.8125  # which only rows that leave have
    est = classifier(Mlp).fit(wide, labels)
    first = est.net_.module_[0].weight.detach().clone()
    to = NewCoordinates(wide[:, :4], np.arange(4), np.ones(4), np.zeros(4))
    commit_drafts([draft_deletion_at(est, np.arange(3), to=to)])
    assert est.n_features_in_ == 4
    assert est.predict(X).shape == (80,)
    assert any("1 features that only erased rows had" in note for note in est.unlearning_report_.notes)
    assert np.float32(0.8125).tobytes() not in pickle.dumps(est.training_set_)
    initial = est.unlearning_state_.start.parameters[: first.numel()].view_as(first)
    now = est.net_.module_[0].weight
    torch.testing.assert_close(now[:, 4], initial[:, 4])
    assert not torch.allclose(first[:, 4], initial[:, 4])
    with pytest.raises(ValueError, match="5 features"):
        est.predict(wide)
    # Whatever comes later goes on at the new width.
    est.forget(X[3:5])
    est.partial_fit(X[5:9] + 1, labels[5:9])
    est.correct(X[10:11], X_new=X[10:11] + 1)
    assert pickle.loads(pickle.dumps(est)).predict(X).shape == (80,)
    est.set_params(unlearner=Retrain()).forget(X[11:12])
    assert est.predict(X).shape == (80,)


def test_a_fault_leaves_the_estimator_as_it_was():
    est = classifier(Mlp).fit(X, labels)
    before = pickle.dumps(est)
    with pytest.raises(ValueError, match="covers all"):
        draft_deletion_at(est, np.arange(80), to=affine(est, SCALE, SHIFT))
    assert pickle.dumps(est) == before


def test_far_away_coordinates_are_trained_anew():
    est = classifier(Residual).fit(X, labels)
    commit_drafts([draft_deletion_at(est, np.arange(4), to=affine(est, SCALE, SHIFT))])
    assert est.unlearning_report_.method == "Retrain"
    fresh = classifier(Residual).fit((X[4:] * SCALE + SHIFT).astype(np.float32), labels[4:])
    assert np.array_equal(est.predict_proba(X), fresh.predict_proba(X))
    assert est.unlearner is None or type(est.unlearner).__name__ != "Retrain"


def test_a_correction_and_a_pass_over_rows_that_were_made_of_others():
    digests = rng.integers(256, size=(80, 16), dtype=np.uint8)
    other = rng.integers(256, size=(2, 16), dtype=np.uint8)
    est = fit_made(classifier(Mlp), digests, X, labels)
    found = est.training_set_.match_source(digests[[7]]).positions
    to = affine(est, 1 + 1e-3 * SCALE, 1e-3 * SHIFT)
    commit_drafts([draft_correction_at(est, found, X[:1] + 9, labels[:1], source=other[:1], to=to)])
    assert np.array_equal(est.training_set_.X[7], X[0] + 9)
    assert est.training_set_.match_source(other[:1]).positions.tolist() == [7]
    rows, net = est.training_set_, est.net_
    draft, n_new = draft_training(est, X[:1] - 9, labels[:1], source=other[1:])
    commit_drafts([draft])
    assert n_new == 1
    assert (est.training_set_, est.net_) == (rows, net)
    assert rows.match_source(other[1:]).positions.tolist() == [80]
    with pytest.raises(ValueError, match="partial_fit of the pipeline"):
        est.partial_fit(X[:1] - 7, labels[:1])


def test_a_pass_in_new_coordinates_is_the_same_pass():
    digests = rng.integers(256, size=(82, 16), dtype=np.uint8)
    one, other = (fit_made(classifier(Mlp), digests[:80], X, labels) for _ in range(2))
    scale, shift = 1 + 1e-3 * SCALE, 1e-3 * SHIFT
    new = X[:2] + 1
    commit_drafts([draft_training(one, new, labels[:2], source=digests[80:])[0]])
    to = affine(other, scale, shift)
    commit_drafts([draft_training(other, new * scale + shift, labels[:2], source=digests[80:], to=to)[0]])
    np.testing.assert_allclose(other.predict_proba(X * scale + shift), one.predict_proba(X), atol=1e-3)
    assert len(other.training_set_) == len(one.training_set_) == 82


def test_regression():
    est = UnlearnableRegressor(random_state=0).fit(X, X @ [1.0, 2.0, 0.0, -1.0])
    scale, shift = 1 + 1e-3 * SCALE, 1e-3 * SHIFT
    before = est.predict(X)
    commit_drafts([draft_deletion_at(est, np.arange(2), to=affine(est, scale, shift))])
    assert np.sqrt(np.mean((est.predict(X * scale + shift) - before) ** 2)) < 0.2 * before.std()
