import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from sk_unlearn import MLPNetClassifier, UnlearnableClassifier
from sk_unlearn.metrics import distance_ratio, jensen_shannon, memorisation_strata
from sk_unlearn.references import fit_many


class Says(ClassifierMixin, BaseEstimator):
    """Gives the probabilities that it was given, of class 1; a row is its number."""

    def __init__(self, p):
        self.p = np.asarray(p)
        self.classes_ = np.array([0, 1])

    def predict_proba(self, X):
        p = self.p[np.asarray(X)[:, 0].astype(int)]
        return np.column_stack([1 - p, p])


class Predicts(RegressorMixin, BaseEstimator):
    def __init__(self, values):
        self.values = np.asarray(values, dtype=float)

    def predict(self, X):
        return self.values[np.asarray(X)[:, 0].astype(int)]


def test_by_hand():
    rng = np.random.default_rng(0)
    original, after, *others = rng.uniform(0.05, 0.95, size=(6, 7))
    X, y = np.arange(7)[:, None], np.ones(7, dtype=int)
    found = memorisation_strata(Says(after), Says(original), list(map(Says, others)), X, y)
    assert [each.name for each in found] == ["high", "middle", "low"]
    assert [each.n_rows for each in found] == [3, 2, 2]

    def expected(model, beside):
        memorised = original - np.mean(beside, axis=0)
        parts = np.array_split(np.argsort(-memorised), 3)
        return memorised, parts, [distance_ratio(Says(model), list(map(Says, beside)), X[part]) for part in parts]

    memorised, parts, ratios = expected(after, others)
    assert [each.memorisation for each in found] == pytest.approx([memorised[part].mean() for part in parts])
    assert [each.ratio for each in found] == pytest.approx(ratios)
    for k in range(4):
        alone = expected(others[k], others[:k] + others[k + 1 :])[2]
        assert [each.reference_ratios[k] for each in found] == pytest.approx(alone)


def test_regressors():
    rng = np.random.default_rng(1)
    original, after, *others = rng.normal(size=(5, 6))
    X, y = np.arange(6)[:, None], rng.normal(size=6)
    found = memorisation_strata(Predicts(after), Predicts(original), list(map(Predicts, others)), X, y)
    better = np.mean((np.array(others) - y) ** 2, axis=0) - (original - y) ** 2
    parts = np.array_split(np.argsort(-better), 3)
    assert [each.memorisation for each in found] == pytest.approx([better[part].mean() for part in parts])
    beside = list(map(Predicts, others))
    assert [e.ratio for e in found] == pytest.approx(
        [distance_ratio(Predicts(after), beside, X[p], "rms") for p in parts]
    )


def test_what_was_learnt_by_heart_is_in_the_high_one():
    """Some erased rows have labels that nobody could guess: there a model that forgot nothing stands out."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 8))
    y = (X[:, 0] > 0).astype(int)
    y[:20] = 1 - y[:20]
    erased, net = slice(0, 60), MLPNetClassifier(weight_decay=1e-3)
    original = UnlearnableClassifier(net, random_state=0).fit(X, y)
    assert np.mean(original.predict(X[:20]) == y[:20]) > 0.6
    one, *others = fit_many(UnlearnableClassifier(net), X[60:], y[60:], seeds=range(1, 6))
    high, _, low = memorisation_strata(original, original, others, X[erased], y[erased])
    assert high.memorisation > 0.3 > abs(low.memorisation)
    assert high.ratio > 2 * max(high.reference_ratios)
    assert high.ratio > 2 * low.ratio
    fair = memorisation_strata(one, original, others, X[erased], y[erased])
    assert all(each.ratio < 2 * max(each.reference_ratios) for each in fair)


def test_a_class_that_retrained_models_do_not_know(digits):
    rows = digits.X[digits.gone], digits.y[digits.gone]
    high, *_ = memorisation_strata(digits.default, digits.original, digits.retrained, *rows)
    assert high.memorisation == pytest.approx(1, abs=1e-2)
    assert np.isfinite(high.ratio)


def test_no_difference():
    X, y = np.arange(3)[:, None], np.ones(3, dtype=int)
    same = Says([0.2, 0.4, 0.6])
    assert all(np.isnan(each.ratio) for each in memorisation_strata(same, same, [same] * 3, X, y))
    assert jensen_shannon(same.predict_proba(X), same.predict_proba(X)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": [Says([0.5] * 5)] * 2}, "references must hold at least 3 retrained models, got 2"),
        ({"X": np.zeros((2, 1)), "y": [1, 1]}, "X and y must hold the same number of rows, at least 3; got 2 and 2"),
    ],
)
def test_arguments(change, message):
    model = Says([0.5] * 5)
    given = {"estimator": model, "original": model, "references": [model] * 3, "X": np.zeros((5, 1)), "y": [1] * 5}
    with pytest.raises(ValueError, match=message):
        memorisation_strata(**given | change)
