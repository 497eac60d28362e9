"""The built-in network: its constants are those of the rows that count, also after a request."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.estimators.default_net import default_net
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import Retrain, RewindToDelete, Status, Unlearner, UnlearningResult

X, y = (part[::3] for part in load_iris(return_X_y=True))
A, b = (part[:60] for part in load_diabetes(return_X_y=True))
CONSTANTS = ("input_shift", "input_scale", "output_shift", "output_scale")


class Stays(Unlearner):
    """Leaves the parameters to whoever comes after it."""

    def unlearn(self, problem):
        return UnlearningResult(problem.parameters.clone(), Status.STALLED, "by decree", target=problem.residual)


def wrecked(X, y=None):
    """Data with one row that stretches the scale of two columns, and of the target, a million times."""
    X = X.copy()
    X[7, [0, 2]] *= 1e6
    if y is None:
        return X
    y = y.copy()
    y[7] *= 1e6
    return X, y


def constants(net):
    named = dict(net.module_.named_buffers())
    return {name: named[name].double().numpy() for name in CONSTANTS if named.get(name) is not None}


def retrained_constants(X, y, weight=None, *, classifier):
    net = default_net(X, y, weight, classifier=classifier)
    dtype = np.float32 if X.dtype == np.float32 else np.float64
    return {name: np.asarray(value, dtype) for name in CONSTANTS if (value := vars(net).get(f"module__{name}"))}


def classifier(unlearner=None, **settings):
    return UnlearnableClassifier(unlearner=unlearner, random_state=0, **settings)


@pytest.mark.parametrize(
    ("unlearner", "dtype"), [(Stays(), np.float32), (Stays(), np.float64), (None, np.float32), (Retrain(), np.float32)]
)
def test_a_scale_that_one_row_wrecked_is_that_of_the_others_without_it(unlearner, dtype):
    data = wrecked(X).astype(dtype)
    est = classifier(unlearner).fit(data, y)
    assert constants(est.net_)["input_scale"][0] > 1e4
    before = est.predict_proba(data)
    est.forget(data[7:8])
    expected = retrained_constants(np.delete(data, 7, 0), np.delete(y, 7), classifier=True)
    for name, values in constants(est.net_).items():
        np.testing.assert_array_equal(values, expected[name])
        # A clone, a look at the settings and a further training find the same.
        assert est.net_.get_params()[f"module__{name}"] == expected[name].tolist()
    notes = [note for note in est.unlearning_report_.notes if "shift or scale of 2 inputs" in note]
    assert len(notes) == (not isinstance(unlearner, Retrain))
    if isinstance(unlearner, Stays):
        np.testing.assert_allclose(est.predict_proba(data[:5]), before[:5], atol=1e-5)
    est.forget(X[8:10].astype(dtype))  # goes on from there
    assert np.isfinite(est.predict_proba(data)).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_outputs_and_their_penalty_too(weighted):
    data, target = wrecked(A, b)
    weight = np.arange(1.0, 1 + len(b)) / 100 if weighted else None
    est = UnlearnableRegressor(unlearner=Stays(), random_state=0).fit(data, target, sample_weight=weight)
    before, groups = est.predict(data[20:30]), est.net_.optimizer_.param_groups
    est.forget(data[7:8])
    left = None if weight is None else np.delete(weight, 7)
    rest = np.delete(data, 7, 0), np.delete(target, 7), left
    expected = retrained_constants(*rest, classifier=False)
    for name, values in constants(est.net_).items():
        np.testing.assert_array_equal(values, expected[name])
    decay = vars(default_net(*rest, classifier=False))["optimizer__weight_decay"]
    assert vars(est.net_)["optimizer__weight_decay"] == decay
    assert est.net_.optimizer_.param_groups is groups
    assert [group["weight_decay"] for group in groups] == [decay]
    np.testing.assert_allclose(est.predict(data[20:30]), before, rtol=1e-6)
    assert any("1 outputs" in note for note in est.unlearning_report_.notes)
    # What the next request starts from is what there is.
    est.forget(data[8:9])
    risk = EmpiricalRisk(est.net_, est.training_set_.X, est.training_set_.y, est.training_set_.sample_weight)
    anchor = est.unlearning_state_.anchor
    if anchor is not None:
        torch.testing.assert_close(anchor.gradient, risk.gradient(flat_parameters(est.net_)), rtol=1e-3, atol=1e-3)


def test_rows_that_a_correction_or_nobody_trained_on():
    data = wrecked(X)
    est = classifier(Stays()).fit(data, y)
    est.correct(data[7:8], X_new=X[7:8])
    for name, values in constants(est.net_).items():
        np.testing.assert_array_equal(values, retrained_constants(X, y, classifier=True)[name])
    # One of weight zero has no part in training, nor in the constants.
    weight = np.ones(len(y))
    weight[7] = 0
    est = classifier(Stays()).fit(data, y, sample_weight=weight)
    before = constants(est.net_)
    est.forget(data[7:8])
    assert est.unlearning_report_.notes == []
    np.testing.assert_equal(constants(est.net_), before)


def test_a_request_that_fails_changes_no_constant():
    class Fails(Unlearner):
        def unlearn(self, problem):
            return UnlearningResult(problem.parameters * np.nan, Status.COMPLETED, "nan")

    est = classifier(Fails()).fit(wrecked(X), y)
    before, settings = constants(est.net_), copy.deepcopy(est.net_.get_params())
    with pytest.raises(FloatingPointError):
        est.forget(wrecked(X)[7:8])
    np.testing.assert_equal(constants(est.net_), before)
    assert est.net_.get_params()["module__input_scale"] == settings["module__input_scale"]


def test_of_many_rows_only_those_that_carry_spread_cost_a_pass():
    rng = np.random.default_rng(0)
    many = rng.normal(size=(4000, 80)).astype(np.float32)
    many[5] *= 1e5
    est = classifier(Stays()).fit(many, many[:, 1] > 0)
    wide = constants(est.net_)["input_scale"]
    est.forget(many[6:7])
    assert 0 < est.unlearning_state_.spread_gone < 0.01
    np.testing.assert_array_equal(constants(est.net_)["input_scale"], wide)
    est.forget(many[5:6])
    assert est.unlearning_state_.spread_gone == 0
    np.testing.assert_array_equal(constants(est.net_)["input_scale"], np.ones(80))
    # Rows that matter little each matter together.
    gone = [est.forget(many[k : k + 1]).unlearning_state_.spread_gone for k in range(10, 20)]
    assert gone[0] > 0
    assert 0 in gone


def test_what_was_recorded_under_the_old_constants_keeps_them():
    est = classifier(RewindToDelete()).fit(wrecked(X), y)
    before = constants(est.net_)
    est.forget(wrecked(X)[7:8])
    np.testing.assert_equal(constants(est.net_), before)
    (note,) = (note for note in est.unlearning_report_.notes if "shift or scale" in note)
    assert "They stay" in note
    assert "Retrain()" in note


def test_without_rows_it_is_said():
    est = classifier(keep_training_set=False).fit(wrecked(X), y)
    est.partial_forget(wrecked(X)[7:8], y[7:8])
    (note,) = (note for note in est.unlearning_report_.notes if "Shift and scale of 2 columns" in note)
    assert "fit again" in note
    est.partial_forget(X[8:9], y[8:9])
    assert not any("Shift and scale" in note for note in est.unlearning_report_.notes)
