"""What cannot be taken as rows, targets, weights or identifiers: errors that name the argument and quote nothing."""

import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from tests import _problems
from tests._problems import parameters

# Recognised in a message whatever digits are cut off.
SECRET = 4242.4242
rng = np.random.default_rng(3)
X = rng.normal(size=(30, 3))
X[0] = SECRET
labels = np.where(X[:, 1] > 0, "b", "a")
score = X[:, 2] * 2


def classifier(**settings):
    return _problems.classifier(max_epochs=2, **settings)


def regressor(**settings):
    return _problems.regressor(max_epochs=2, **settings)


@pytest.fixture(scope="module")
def fitted():
    return {"classifier": classifier().fit(X, labels, sample_id=range(30)), "regressor": regressor().fit(X, score)}


BAD_ROWS = {
    "one row": (X[0], "1D array.*Reshape your data"),
    "one row as a series": (pd.Series(X[0]), "2-dimensional container"),
    "a number": (np.array(SECRET), "scalar array.*Reshape your data"),
    "NaN": ([[SECRET, np.nan, 0]], "contains NaN"),
    "None": ([[SECRET, None, 0]], "contains NaN"),
    "infinite": ([[SECRET, np.inf, 0]], "contains infinity"),
    "overflow": ([[SECRET, 1e300, 0]], "float32.*cannot hold, in 1 of 1 rows"),
    "huge": ([[SECRET, 10**400, 0]], "too large"),
    "masked": (np.ma.array(X[:1], mask=[[0, 1, 0]]), "masked entries: fill them"),
    "list of masked": ([np.ma.array(X[0], mask=[0, 1, 0])], "masked entries: fill them"),
    "sparse NaN": (scipy.sparse.csr_matrix([[SECRET, np.nan, 0]]), "contains NaN"),
    "sparse infinite": (scipy.sparse.csc_array([[SECRET, np.inf, 0]]), "contains infinity"),
    "sparse overflow": (scipy.sparse.coo_matrix([[SECRET, 1e300, 0]]), "float32.*cannot hold, in 1 of 1 rows"),
    "sparse complex": (scipy.sparse.csr_matrix(X[:1] + 1j), "Complex data not supported; pass real numbers"),
    "sparse columns": (scipy.sparse.csr_matrix(X[:1, :2]), "has 2 features, but .* is expecting 3"),
    "complex": (X[:1] + 1j, "Complex data not supported; pass real numbers"),
    "list of complex": ([[SECRET, 1j, 0]], "Complex data not supported; pass real numbers"),
    "text": (np.array([["4242", "a", "b"]]), "strings"),
    "text among numbers": (
        np.array([[1, "x4242", 2]], dtype=object),
        "could not convert string to float; pass numbers",
    ),
    "text in a frame": (pd.DataFrame([["x4242", 1, 2]]), "string"),
    "dates": (np.array([["4242", "2021", "2022"]], dtype="datetime64[Y]"), "real numbers, got dtype datetime64"),
    "objects": (np.array([[{}, SECRET, 2]], dtype=object), "not 'dict'"),
    "ragged": ([[SECRET, 1], [2]], "differ in length"),
    "columns": (X[:1, :2], "has 2 features, but .* is expecting 3"),
    "too deep": (X[:1, :, None], r"rows of shape \(3, 1\)"),
    "no rows": (X[:0], "is empty|0 sample"),
}
VERBS = {
    "X_del": lambda est, X, y: est.forget(X),
    "X": lambda est, X, y: est.partial_forget(X, y[:1]),
    "X ": lambda est, X, y: est.predict(X),
    "X  ": lambda est, X, y: est.partial_fit(X, y[:1]),
    "X_old": lambda est, X, y: est.correct(X, y_new=y[:1]),
    "X_new": lambda est, X, y: est.correct(globals()["X"][:1], X_new=X),
}


@pytest.mark.parametrize("what", BAD_ROWS)
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_rows(fitted, kind, what):
    bad, message = BAD_ROWS[what]
    est, y = fitted[kind], labels if kind == "classifier" else score
    before = parameters(est)
    for name, verb in VERBS.items():
        with pytest.raises((ValueError, TypeError), match=f"(?s){message}") as caught:
            verb(est, bad, y)
        assert re.search(rf"\b{name.strip()}\b", str(caught.value))
        assert "4242" not in str(caught.value)
        assert caught.value.__context__ is None
    assert len(est.training_set_) == 30
    assert np.array_equal(parameters(est), before)


@pytest.mark.parametrize("what", sorted(BAD_ROWS.keys() - {"columns", "sparse columns", "too deep", "no rows"}))
def test_rows_of_fit(what):
    bad, message = BAD_ROWS[what]
    with pytest.raises((ValueError, TypeError), match=f"(?s){message}") as caught:
        classifier().fit(bad, ["a"])
    assert re.search(r"\bX\b", str(caught.value))
    assert "4242" not in str(caught.value)


BAD_TARGETS = {
    "None": ([None], "not seen", "contains NaN"),
    "NaN": ([np.nan], "not seen", "contains NaN"),
    "unknown": (["4242"], r"not seen, in 1 of 1 rows .*fitted on are \['a', 'b'\]", "strings"),
    "number": ([SECRET], "not seen", "stored, but with another label"),
    "short": ([], "has 0 rows but belongs to 1", "0 sample"),
    "long": (["a", "b"], "has 2 rows but belongs to 1", "strings"),
    "long of numbers": ([1.0, SECRET], "not seen", "has 2 rows but belongs to 1"),
    "wide": ([[SECRET, 1]], r"should be a 1d array, got an array of shape \(1, 2\)", "has targets of shape"),
    "a label": ("a", "1d array", "strings"),
    "a value": (SECRET, "1d array", "got a single value"),
    "ragged": ([["a"], ["a", "b"]], "not seen", "differ in length"),
    "complex": ([SECRET + 1j], "not seen", "Complex data not supported; pass real numbers"),
    "masked": (np.ma.array([SECRET], mask=[True]), "masked entries", "masked entries"),
    "sparse": (scipy.sparse.csr_matrix([[SECRET]]), "toarray", "toarray"),
    "dates": (np.array(["4242"], dtype="datetime64[Y]"), "not seen", "got dtype datetime64"),
    "overflow": ([1e300], "not seen", "float32.*cannot hold"),
}


@pytest.mark.parametrize("what", BAD_TARGETS)
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_targets(fitted, kind, what):
    bad, *messages = BAD_TARGETS[what]
    message, est = messages[kind == "regressor"], fitted[kind]
    verbs = {"y_del": lambda: est.forget(X[:1], bad), "y": lambda: est.partial_forget(X[:1], bad)}
    if what != "number":
        verbs |= {"y_old": lambda: est.correct(X[:1], y_old=bad, X_new=X[:1] / 2)}
        verbs |= {"y_new": lambda: est.correct(X[:1], y_new=bad)}
    else:
        del verbs["y"]
    for name, verb in verbs.items():
        with pytest.raises((ValueError, TypeError), match=message) as caught:
            verb()
        assert re.search(rf"\b{name}\b", str(caught.value))
        assert "4242" not in str(caught.value)
    assert len(est.training_set_) == 30


@pytest.mark.parametrize("what", ["None", "NaN", "a value", "ragged", "complex", "masked", "sparse", "dates"])
def test_targets_of_fit(what):
    bad, _, message = BAD_TARGETS[what]
    for est in (regressor(),) if what in {"dates", "None"} else (regressor(), classifier()):
        with pytest.raises((ValueError, TypeError), match=message) as caught:
            est.fit(X[:1], bad)
        assert re.search(r"\by\b", str(caught.value))
        assert "4242" not in str(caught.value)
    with pytest.raises(ValueError, match="y has 29 rows but belongs to 30"):
        classifier().fit(X, labels[1:])
    with pytest.raises(ValueError, match="requires y to be passed"):
        classifier().fit(X, None)


@pytest.mark.parametrize(
    "weight",
    [-np.ones(30), np.full(30, np.nan), [SECRET], ["x4242"] * 30, np.full(30, 1j), np.ones((30, 1)), [[1], [1, 2]],
     np.ma.array(np.full(30, SECRET), mask=[True] + [False] * 29), scipy.sparse.csr_matrix(np.ones((30, 1)))],
    ids=["negative", "NaN", "short", "text", "complex", "wide", "ragged", "masked", "sparse"],
)  # fmt: skip
def test_weights(weight):
    with pytest.raises((ValueError, TypeError), match="sample_weight") as caught:
        classifier().fit(X, labels, weight)
    assert "4242" not in str(caught.value)


def test_sparse_targets_are_values_that_are_refused():
    est = classifier().fit(X, labels)
    with pytest.raises(ValueError, match=r"y_del.*toarray"):
        est.forget(X[:1], scipy.sparse.csr_matrix([[1.0]]))


def test_numbers_and_their_texts_are_different_labels():
    est = classifier().fit(X, np.where(X[:, 1] > 0, "1", "0"))
    for bad in ([1], [0], np.array([1]), ["1", 0]):
        with pytest.raises(ValueError, match="y_del holds labels that fit has not seen"):
            est.forget(X[: len(bad)], bad)
    est = classifier().fit(X, (X[:, 1] > 0).astype(int))
    with pytest.raises(ValueError, match="not seen"):
        est.forget(X[:1], [str(int(X[0, 1] > 0))])
    est.forget(X[:1], [float(X[0, 1] > 0)])
    assert len(est.training_set_) == 29


def test_masks_that_mask_nothing_are_no_obstacle():
    est = regressor().fit(np.ma.array(X), np.ma.array(score)).forget(np.ma.array(X[:1]))
    assert len(est.training_set_) == 29


def test_classes_of_a_fitted_classifier_may_not_change():
    est = classifier().fit(X, labels)
    before = parameters(est)
    for classes in (["a", "b", "c"], ["a"], [0, 1]):
        with pytest.raises(ValueError, match=r"classes differs from the labels .*\['a', 'b'\]"):
            est.partial_fit(X, labels, classes=classes)
    assert np.array_equal(parameters(est), before)
    est.partial_fit(X + 1, labels, classes=["b", "a"])
    assert len(est.training_set_) == 60


def test_the_third_argument_of_a_regressors_partial_fit_is_the_weight():
    weight = np.linspace(1, 2, 30)
    est = regressor().partial_fit(X, score, weight).partial_fit(X + 1, score, weight)
    np.testing.assert_array_equal(est.training_set_.sample_weight, np.tile(weight, 2))
    with pytest.raises(TypeError, match="classes"):
        est.partial_fit(X, score, classes=[0, 1])


# ------------------------------------------------------------------------------------------------- whole numbers


class Looked(nn.Module):
    """One that looks its rows up, and so takes whole numbers."""

    def __init__(self, n_outputs):
        super().__init__()
        self.table = nn.Embedding(50, 4)
        self.output = nn.Linear(4, n_outputs)

    def forward(self, X):
        return self.output(self.table(X).mean(dim=1))


ages = np.random.default_rng(4).permutation(np.arange(10, 46))[:, None] % np.array([50, 7])


def test_a_fraction_is_not_cut_to_the_whole_number_that_is_stored():
    est = classifier(module=Looked).fit(ages, labels[np.arange(36) % 30])
    assert est.training_set_.X.dtype == np.int64
    other = ages[:1] + 0.9
    requests = {
        "X_del": lambda: est.forget(other),
        "X_old": lambda: est.correct(other, y_new=["a"]),
        "X_new": lambda: est.correct(ages[:1], X_new=other),
        "X": lambda: est.partial_forget(other, ["a"]),
        "X ": lambda: est.partial_fit(other, ["a"]),
        "X  ": lambda: est.predict(other),
    }
    for name, request in requests.items():
        with pytest.raises(ValueError, match=rf"^{name.strip()} has numbers that int64, .* in 1 of 1 rows.*floats"):
            request()
    for value in (2.0**63, -(2.0**70)):
        with pytest.raises(ValueError, match="X_del has numbers that int64"):
            est.forget([[value, 1.0]])
    with pytest.raises(ValueError, match="X_del has numbers that int64"):
        est.forget(np.array([[2**63 + 5, 1]], dtype=np.uint64))
    assert len(est.training_set_) == 36
    est.forget(ages[:1].astype(float)).predict(ages.astype(float))
    assert len(est.training_set_) == 35


@pytest.mark.parametrize("make", [regressor, lambda: UnlearnableRegressor(random_state=0)])
def test_a_table_of_integers_is_no_table_of_integers_for_ever(make):
    est = make().fit(ages, ages[:, 0].astype(float))
    assert est.training_set_.X.dtype.kind == "f"
    with pytest.raises(ValueError, match="1 of 1 rows cannot be found"):
        est.forget(ages[:1] + 0.9)
    est.partial_fit(ages[:1] + 0.9, [0.5]).forget(ages[:1] + 0.9)
    assert len(est.training_set_) == 36
    est.forget(ages[:1])
    assert len(est.training_set_) == 35
    assert np.ptp(est.predict(ages[:1] + np.linspace(0, 0.9, 5)[:, None])) > 0


@pytest.mark.parametrize("given", [np.int64, np.float64, np.uint32])
def test_rows_that_whole_numbers_told_apart_are_counted(given):
    numbered = np.column_stack([np.arange(30) + 2**24, np.arange(30) % 2]).astype(given)
    message = r"15 rows of X become equal to others in float32.*Name rows by sample_id"
    with pytest.warns(UserWarning, match=message):
        est = classifier().fit(np.concatenate([numbered, numbered[:1] * 0])[:30] // [1, 2], labels)
    with pytest.warns(UserWarning, match=message):
        est.partial_fit(numbered // [1, 2], labels)
    classifier(module__dtype=torch.float64).fit(numbered, labels)
    classifier().fit(numbered % 2**24, labels)


def test_even_float64_has_an_end():
    numbered = np.column_stack([np.arange(30) + 2**53, np.ones(30, dtype=int)])
    with pytest.warns(UserWarning, match="15 rows of X become equal to others in float64"):
        UnlearnableClassifier(random_state=0).fit(numbered, labels)


def test_measurements_that_are_rounded_raise_no_warning():
    classifier().fit(X + 1e-12 * np.arange(30)[:, None], labels)


def test_rows_that_miss_by_rounding_are_told_from_unknown_ones(fitted):
    est = UnlearnableClassifier(random_state=0).fit(X, labels)
    rounded = np.array([[float(f"{value:.6g}") for value in row] for row in X[1:4]])
    with pytest.raises(ValueError, match=r"X_del: 4 of 4 .* 3 of them miss a stored row by rounding alone") as caught:
        est.forget(np.concatenate([rounded, X[:1] + 1]))
    assert "sample_id" in str(caught.value)
    assert len(est.training_set_) == 30


@pytest.mark.parametrize("rounded", ["rows", "targets", "both"])
def test_rows_handed_in_that_miss_by_rounding_are_refused(rounded):
    """Their stored copies would stay, and nobody would know."""
    est = UnlearnableRegressor(random_state=0).fit(X, score)
    near_X = X[1:3].astype(np.float32) if rounded != "targets" else X[1:3]
    near_y = score[1:3].astype(np.float32) if rounded != "rows" else score[1:3]
    with pytest.raises(ValueError, match=r"2 of 3 rows of X.*by rounding alone \(the first at index 1\)"):
        est.partial_forget(np.concatenate([X[3:4], near_X]), np.concatenate([score[3:4], near_y]))
    assert len(est.training_set_) == 30
    est.partial_forget(X[1:3] + 0.1, score[1:3])
    assert est.unlearning_report_.n_erased == 2
    assert len(est.training_set_) == 30


def test_images_in_another_shape_are_told_the_shape_and_how_one_goes_in_alone():
    images = rng.normal(size=(12, 1, 4, 5)).astype(np.float32)
    est = UnlearnableClassifier(nn.Sequential(nn.Flatten(), nn.Linear(20, 2)), random_state=0)
    est.fit(images, np.arange(12) % 2)
    cure = r"has rows of shape \(4, 5\); the estimator was fitted on \(1, 4, 5\)\. One row alone goes in as "
    for given in (images[0], images[0].tolist(), torch.tensor(images[0])):
        with pytest.raises(ValueError, match="X_del " + cure + r"X_del\[None\]"):
            est.forget(given)
    with pytest.raises(ValueError, match="X " + cure + r"X\[None\]"):
        est.predict(images[0])
    with pytest.raises(ValueError, match="X_new " + cure + r"X_new\[None\]"):
        est.correct(images[:1], X_new=images[0])
    with pytest.raises(
        ValueError, match=r"X_del has rows of shape \(20,\); the estimator was fitted on \(1, 4, 5\)\.$"
    ):
        est.forget(images[:1].reshape(1, 20))
    assert len(est.forget(images[0][None]).training_set_) == 11


@pytest.mark.parametrize("size", [1e300, 1e160])
def test_numbers_too_large_to_compute_with_are_named_and_change_nothing(size):
    table = rng.normal(size=(30, 3))
    est = UnlearnableRegressor(nn.Linear(3, 1).double(), random_state=0).fit(table, table.sum(1))
    before = parameters(est).copy()
    with pytest.raises(FloatingPointError, match="not finite: X_new and y_new must not hold numbers far larger"):
        est.correct(table[:1], y_new=[size])
    with pytest.raises(FloatingPointError, match="not finite: X_new and y_new must not hold numbers far larger"):
        est.correct(table[:1], X_new=np.full((1, 3), size))
    with pytest.raises(FloatingPointError, match="not finite: X and y must not hold numbers far larger"):
        est.partial_forget(table[:1] + 1, [size])
    np.testing.assert_array_equal(parameters(est), before)
    assert len(est.training_set_) == 30
    assert est.unlearning_history_ == []


def test_the_number_of_weights_is_told_with_the_cure():
    with pytest.raises(
        ValueError, match=r"sample_weight has shape \(1,\) and must have \(30,\): pass one weight for each row"
    ):
        classifier().fit(X, labels, sample_weight=[1.0])


def test_what_a_newcomer_passes_first_is_answered_with_what_to_do():
    table = pd.DataFrame({"age": [20.0, 30.0, 40.0, 50.0], "town": ["Ulm", "Bonn", "Ulm", "Bonn"]})
    with pytest.raises(ValueError, match=r"pass numbers\. .* sk_unlearn\.pipeline\.make_pipeline"):
        UnlearnableClassifier().fit(table, [0, 1, 0, 1])
    est = classifier().fit(X, labels, sample_id=range(30))
    for identifier in (3, [3]):
        with pytest.raises(ValueError, match=r"(?s)Expected 2D array.* Identifiers are passed as sample_id=\["):
            est.forget(identifier)
