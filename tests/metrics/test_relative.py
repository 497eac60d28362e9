import copy

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.metrics import jensen_shannon, relative_distance
from sk_unlearn.references import fit_many
from tests.metrics.test_distances import FixedClassifier

X, y = load_iris(return_X_y=True)


def fixed(seed, n=30, classes=(0, 1, 2)):
    return FixedClassifier(np.random.default_rng(seed).dirichlet(np.ones(len(classes)), size=n), classes)


def test_by_hand():
    own, original, *others = (fixed(seed) for seed in range(5))
    found = relative_distance(own, original, others, X[:30])
    P = [each.predict_proba(X[:30]) for each in (own, original, *others)]
    assert found.to_original == pytest.approx(jensen_shannon(P[0], P[1]), rel=1e-12)
    assert found.to_retrained == pytest.approx(np.mean([jensen_shannon(P[0], p) for p in P[2:]]), rel=1e-12)
    assert found.difference == pytest.approx(found.to_retrained - found.to_original)
    assert found.low < found.difference < found.high


def test_sides():
    others = [fixed(seed) for seed in (2, 3)]
    assert relative_distance(fixed(0), fixed(0), others, X[:30]).verdict == "farther"
    between = FixedClassifier(np.mean([each.probabilities for each in others], axis=0), (0, 1, 2))
    assert relative_distance(between, fixed(0), others, X[:30]).verdict == "closer"
    nobody = relative_distance(fixed(0, 4), fixed(1, 4), [fixed(2, 4), fixed(3, 4)], X[:4])
    assert nobody.verdict == "undecided"


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Rows are drawn from a population in which both distances are the same: 90 % of intervals hold zero."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        rows = [rng.dirichlet(np.ones(3), size=40) for _ in range(2)]
        same = [FixedClassifier(rows[1], (0, 1, 2))] * 2
        found = relative_distance(
            FixedClassifier(rng.dirichlet(np.ones(3), size=40), (0, 1, 2)), FixedClassifier(rows[0], (0, 1, 2)),
            same, X[:40], level=0.9, n_bootstrap=200,
        )  # fmt: skip
        held += found.low <= 0 <= found.high
    assert 165 <= held <= 195  # the binomial's .1 % and 99.9 %: 170 to 190, and the bootstrap is a little narrow


def test_an_erased_class():
    """Retrained models lack it, and a class of probability 0 stands in its place."""
    gone = y == 0
    table = pd.DataFrame(X, columns=list("abcd"))
    original = UnlearnableClassifier(random_state=0).fit(table, y)
    retrained = fit_many(UnlearnableClassifier(), table[~gone], y[~gone], seeds=[1, 2, 3])
    forgot = copy.deepcopy(original).forget(table[gone])
    assert relative_distance(forgot, original, retrained, table[gone]).verdict == "closer"
    assert relative_distance(original, original, retrained, table[gone]).verdict == "farther"


def test_regressors():
    rows = np.arange(20.0)[:, None]
    own, original, *others = (LinearRegression().fit(rows, slope * rows[:, 0]) for slope in (1, 3, 1.1, 0.9))
    found = relative_distance(own, original, others, rows)
    assert found.to_retrained == pytest.approx(0.01 * np.mean(rows**2))
    assert found.to_original == pytest.approx(4 * np.mean(rows**2))
    assert found.verdict == "closer"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": []}, "references must hold at least 2 retrained models, got 0"),
        ({"level": 1.0}, r"level must lie in \(0, 1\), got 1.0"),
        ({"n_bootstrap": 0}, "n_bootstrap must be at least 1, got 0"),
        ({"X": X[:1]}, "X must hold at least 2 rows, got 1"),
    ],
)
def test_arguments(change, message):
    given = {"estimator": fixed(0), "original": fixed(1), "references": [fixed(2), fixed(3)], "X": X[:30]} | change
    with pytest.raises(ValueError, match=message):
        relative_distance(**given)
