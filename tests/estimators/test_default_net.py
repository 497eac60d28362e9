"""The built-in network: its constants are those of the rows that count, also after a request."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from sk_unlearn import MLPNetClassifier, MLPNetRegressor, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.estimators._standardise import coarse_standardisation
from sk_unlearn.estimators.default_net import default_net
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import Retrain, RewindToDelete, Status, StoCuReNU, Unlearner, UnlearningResult

X, y = (part[::3] for part in load_iris(return_X_y=True))
A, b = (part[:60] for part in load_diabetes(return_X_y=True))
CONSTANTS = ("input_shift", "input_scale", "output_shift", "output_scale")


class Stays(Unlearner):
    """Leaves the parameters to whoever comes after it."""

    def unlearn(self, problem):
        return UnlearningResult(problem.parameters.clone(), Status.STALLED, "by decree", target=problem.residual)


def wide(X):
    """Which rows :func:`stretched` makes large: more than half, for no fewer stretch a scale far."""
    return np.arange(len(X)) % 5 < 3


def stretched(X, y=None):
    """Data with rows that stretch the scale of two columns, and of the target, a million times."""
    X = X.copy()
    X[np.ix_(wide(X), [0, 2])] *= 1e6
    if y is None:
        return X
    y = y.copy()
    y[wide(X)] *= 1e6
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
    ("unlearner", "dtype"),
    [
        (Stays(), np.float32), (Stays(), np.float64), (StoCuReNU(renew=False), np.float32), (None, np.float32),
        (Retrain(), np.float32),
    ],
)  # fmt: skip
def test_a_scale_that_rows_stretched_is_that_of_the_others_without_them(unlearner, dtype):
    data, gone = stretched(X).astype(dtype), wide(X)
    est = classifier(unlearner).fit(data, y)
    assert constants(est.net_)["input_scale"][0] > 1e4
    before = est.predict_proba(data)
    est.forget(data[gone])
    expected = retrained_constants(data[~gone], y[~gone], classifier=True)
    for name, values in constants(est.net_).items():
        np.testing.assert_array_equal(values, expected[name])
        # A clone, a look at the settings and a further training find the same.
        assert est.net_.get_params()[f"module__{name}"] == expected[name].tolist()
    notes = [note for note in est.unlearning_report_.notes if "shift or scale of 2 inputs" in note]
    trained_anew = unlearner is None or isinstance(unlearner, Retrain)  # the default does where training was so short
    assert len(notes) == (not trained_anew)
    if isinstance(unlearner, Stays):
        np.testing.assert_allclose(est.predict_proba(data[~gone]), before[~gone], atol=1e-5)
    est.forget(X[8:10].astype(dtype))  # goes on from there
    assert np.isfinite(est.predict_proba(data)).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_outputs_and_their_penalty_too(weighted):
    data, target = stretched(A, b)
    stay = ~wide(A)
    weight = np.arange(1.0, 1 + len(b)) / 100 if weighted else None
    spec = MLPNetRegressor(weight_decay=0.01)
    est = UnlearnableRegressor(spec, Stays(), random_state=0).fit(data, target, sample_weight=weight)
    before, groups = est.predict(data[stay]), est.net_.optimizer_.param_groups
    est.forget(data[~stay])
    rest = data[stay], target[stay], None if weight is None else weight[stay]
    expected = retrained_constants(*rest, classifier=False)
    for name, values in constants(est.net_).items():
        np.testing.assert_array_equal(values, expected[name])
    decay = vars(spec.for_rows(*rest))["optimizer__weight_decay"]
    assert vars(est.net_)["optimizer__weight_decay"] == decay
    assert est.net_.optimizer_.param_groups is groups
    assert [group["weight_decay"] for group in groups] == [decay]
    np.testing.assert_allclose(est.predict(data[stay]), before, rtol=1e-6)
    assert any("1 outputs" in note for note in est.unlearning_report_.notes)
    # What the next request starts from is what there is.
    est.forget(data[3:4])
    risk = EmpiricalRisk(est.net_, est.training_set_.X, est.training_set_.y, est.training_set_.sample_weight)
    anchor = est.unlearning_state_.anchor
    if anchor is not None:
        torch.testing.assert_close(anchor.gradient, risk.gradient(flat_parameters(est.net_)), rtol=1e-3, atol=1e-3)


def test_rows_that_a_correction_or_nobody_trained_on():
    data, rows = stretched(X), wide(X)
    est = classifier(Stays()).fit(data, y)
    est.correct(data[rows], X_new=X[rows])
    for name, values in constants(est.net_).items():
        np.testing.assert_array_equal(values, retrained_constants(X, y, classifier=True)[name])
    # One of weight zero has no part in training, nor in the constants.
    weight = np.where(rows, 0.0, 1.0)
    est = classifier(Stays()).fit(data, y, sample_weight=weight)
    before = constants(est.net_)
    np.testing.assert_equal(before, retrained_constants(data[~rows], y[~rows], classifier=True))
    est.forget(data[rows])
    assert est.unlearning_report_.notes == []
    np.testing.assert_equal(constants(est.net_), before)


def test_a_request_that_fails_changes_no_constant():
    class Fails(Unlearner):
        def unlearn(self, problem):
            return UnlearningResult(problem.parameters * np.nan, Status.COMPLETED, "nan")

    est = classifier(Fails()).fit(stretched(X), y)
    before, settings = constants(est.net_), copy.deepcopy(est.net_.get_params())
    with pytest.raises(FloatingPointError):
        est.forget(stretched(X)[wide(X)])
    np.testing.assert_equal(constants(est.net_), before)
    assert est.net_.get_params()["module__input_scale"] == settings["module__input_scale"]


def test_of_many_rows_only_those_that_carry_spread_cost_a_pass():
    rng = np.random.default_rng(0)
    many = rng.normal(size=(4000, 80)).astype(np.float32)
    many[:2400] *= 1e5
    est = classifier(Stays(), estimator=MLPNetClassifier(max_epochs=2)).fit(many, many[:, 1] > 0)
    large = constants(est.net_)["input_scale"]
    est.forget(many[-1:])
    assert 0 < est.unlearning_state_.spread_gone < 0.01
    np.testing.assert_array_equal(constants(est.net_)["input_scale"], large)
    est.forget(many[:2400])
    assert est.unlearning_state_.spread_gone == 0
    np.testing.assert_array_equal(constants(est.net_)["input_scale"], np.ones(80))
    # Rows that matter little each matter together.
    gone = [est.forget(many[k : k + 1]).unlearning_state_.spread_gone for k in range(2400, 2410)]
    assert gone[0] > 0
    assert 0 in gone


def test_what_was_recorded_under_the_old_constants_keeps_them():
    est = classifier(RewindToDelete()).fit(stretched(X), y)
    before = constants(est.net_)
    est.forget(stretched(X)[wide(X)])
    np.testing.assert_equal(constants(est.net_), before)
    (note,) = (note for note in est.unlearning_report_.notes if "shift or scale" in note)
    assert "They stay" in note
    assert "Retrain()" in note


def test_without_rows_it_is_said():
    data, gone = stretched(X), wide(X)
    est = classifier(keep_training_set=False).fit(data, y)
    est.partial_forget(data[gone], y[gone])
    (note,) = (note for note in est.unlearning_report_.notes if "Shift and scale of" in note)
    assert "fit again" in note
    est = classifier(keep_training_set=False).fit(data, y)
    est.partial_forget(X[8:9], y[8:9])
    assert not any("Shift and scale" in note for note in est.unlearning_report_.notes)


# ------------------------------------------------------------------------------------------------------- one outlier


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["normal", "skewed", "rare category", "mostly zero", "counts"])
def test_an_outlier_stretches_no_scale(kind, weighted):
    rng = np.random.default_rng(0)
    column = {
        "normal": rng.normal(3, 2, 300),
        "skewed": np.exp(2 * rng.normal(size=300)),
        "rare category": (np.arange(300) < 3).astype(float),
        "mostly zero": np.where(np.arange(300) < 24, np.exp(9 + rng.normal(size=300)), 0),
        "counts": rng.poisson(0.3, 300).astype(float),
    }[kind]
    weight = rng.uniform(0.5, 2, 300) if weighted else None
    (shift,), (scale,) = coarse_standardisation(column[:, None], weight)
    column[0] = 1e6 * column.max()
    (moved,), (stretched,) = coarse_standardisation(column[:, None], weight)
    assert scale / 2 <= stretched <= 4 * scale
    assert abs(moved - shift) <= 2 * scale


def test_without_outliers_they_are_mean_and_deviation():
    rng = np.random.default_rng(0)
    A = np.column_stack([rng.normal(3, 2, 999), rng.random(999) < 0.01, rng.uniform(-9, 9, 999), np.full(999, 7.3)])
    weight = rng.integers(0, 4, 999)
    counted = np.repeat(A, weight, axis=0)
    shift, scale = coarse_standardisation(A, weight.astype(float))
    assert (shift, scale) == coarse_standardisation(counted, None)
    np.testing.assert_array_equal(scale[:3], np.exp2(np.round(np.log2(counted.std(0)[:3]))))
    assert (np.abs(shift - counted.mean(0)) <= np.divide(scale, 2)).all()
    assert scale[3] == 1


@pytest.mark.parametrize("columns", [slice(None), 3])
def test_an_outlier_leaves_the_others_a_model(columns):
    X, y = load_breast_cancer(return_X_y=True)
    train = np.arange(len(y)) % 2 == 0
    data = X[train].astype(np.float32)
    data[7, columns] *= 1e6
    est = UnlearnableClassifier(random_state=0).fit(data, y[train])
    assert est.score(X[~train], y[~train]) > 0.94
