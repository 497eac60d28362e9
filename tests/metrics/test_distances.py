import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sk_unlearn.metrics import (
    distance_ratio,
    distance_ratio_interval,
    gap_closed,
    jensen_shannon,
    kl_divergence,
    retrain_distance,
    rms_distance,
    total_variation,
    tug_of_war_score,
)

MATRIX_METRICS = (jensen_shannon, kl_divergence, total_variation)


class FixedClassifier(ClassifierMixin, BaseEstimator):
    """Predicts the probabilities it was given, whatever the rows."""

    def __init__(self, probabilities, classes=(0, 1)):
        self.probabilities = probabilities
        self.classes = classes

    @property
    def classes_(self):
        return np.asarray(self.classes)

    def predict_proba(self, X):
        return np.asarray(self.probabilities)[: len(X)]

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class FixedRegressor(RegressorMixin, BaseEstimator):
    def __init__(self, values):
        self.values = values

    def predict(self, X):
        return np.asarray(self.values)[: len(X)]


class WithNet(ClassifierMixin, BaseEstimator):
    """Has a module where a fitted unlearnable estimator has one, and a frozen parameter in it."""

    def __init__(self, weight, frozen=0.0):
        self.weight = weight
        self.frozen = frozen

    def fit(self, X, y):
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(torch.tensor(self.weight))
        module.bias = torch.nn.Parameter(torch.tensor([1.0]))
        module.frozen = torch.nn.Parameter(torch.tensor(self.frozen), requires_grad=False)
        self.net_ = type("Net", (), {"module_": module})()
        self.classes_ = np.unique(y)
        return self


@st.composite
def probability_matrices(draw, n_matrices=2):
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    # Zeros, tiny and ordinary weights; the 1 in a drawn column keeps a row from being all zero.
    weights = st.one_of(st.just(0.0), st.just(1e-300), st.floats(1e-9, 1.0))
    matrices = []
    for _ in range(n_matrices):
        w = draw(arrays(np.float64, shape, elements=weights))
        w[np.arange(shape[0]), draw(arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))] = 1.0
        matrices.append(w / w.sum(axis=1, keepdims=True))
    return matrices


def random_probabilities(rng, n_rows=50, n_classes=7):
    p = rng.dirichlet(np.full(n_classes, 0.3), size=n_rows)
    p[rng.random(p.shape) < 0.2] = 0
    p[:, 0] += 0.01
    return p / p.sum(axis=1, keepdims=True)


# --------------------------------------------------------------------------------------------------------------- arrays


def test_closed_forms():
    p, q = [[1.0, 0.0]], [[0.0, 1.0]]
    assert jensen_shannon(p, q) == np.log(2)
    assert kl_divergence(p, q) == np.inf
    assert total_variation(p, q) == 1.0
    # m = (3/4, 1/4): ½ ln(4/3) + ½ (½ ln(2/3) + ½ ln 2)
    half = [[0.5, 0.5]]
    assert jensen_shannon(p, half) == pytest.approx(0.5 * np.log(4 / 3) + 0.25 * np.log(2 / 3) + 0.25 * np.log(2))
    assert kl_divergence(p, half) == pytest.approx(np.log(2), abs=1e-15)
    assert total_variation(p, half) == 0.5


def test_mean_runs_over_rows():
    p, q = [[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]
    assert jensen_shannon(p, q) == pytest.approx(np.log(2) / 2)
    assert total_variation(p, q) == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scipy(seed):
    rng = np.random.default_rng(seed)
    p, q = random_probabilities(rng), random_probabilities(rng)
    assert jensen_shannon(p, q) == pytest.approx(np.mean(jensenshannon(p, q, axis=1) ** 2), abs=1e-10)
    q = np.maximum(q, 1e-4)
    q /= q.sum(axis=1, keepdims=True)
    assert kl_divergence(p, q) == pytest.approx(np.mean(entropy(p, q, axis=1)), abs=1e-10)


def test_js_of_close_rows_keeps_its_digits():
    # JS(p, p + δ) → Σ δ² / (8 p): far below what a difference of two divergences resolves.
    p, delta = np.array([[0.3, 0.7]]), np.array([[1e-7, -1e-7]])
    assert jensen_shannon(p, p + delta) == pytest.approx(np.sum(delta**2 / (8 * p)), rel=1e-2)


def test_float32_softmax_rows_are_accepted():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(100, 10)).astype(np.float32) * 5
    p = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    half = torch.softmax(torch.from_numpy(logits), dim=1).half().numpy()
    assert jensen_shannon(p, p) == 0
    assert 0 < jensen_shannon(p, half) < 1e-6


@given(probability_matrices())
def test_js_is_symmetric_and_bounded(matrices):
    p, q = matrices
    assert jensen_shannon(p, q) == jensen_shannon(q, p)
    assert 0 <= jensen_shannon(p, q) <= np.log(2)


@given(probability_matrices())
def test_zero_for_equal_and_only_for_equal(matrices):
    p, q = matrices
    for metric in MATRIX_METRICS:
        assert metric(p, p) == 0
        if np.abs(p - q).max() > 1e-6:
            assert metric(p, q) > 0


@given(probability_matrices(n_matrices=3))
def test_triangle_inequalities(matrices):
    p, q, r = (m[:1] for m in matrices)
    assert total_variation(p, r) <= total_variation(p, q) + total_variation(q, r) + 1e-12
    # The square root of JS is a metric; its rounding error is the square root of that of JS.
    assert jensen_shannon(p, r) ** 0.5 <= jensen_shannon(p, q) ** 0.5 + jensen_shannon(q, r) ** 0.5 + 1e-7


@given(probability_matrices())
def test_pinsker(matrices):
    p, q = (m[:1] for m in matrices)
    assert 2 * total_variation(p, q) ** 2 <= kl_divergence(p, q) + 1e-12


@pytest.mark.parametrize("metric", MATRIX_METRICS)
def test_classes_are_paired_by_name(metric):
    """A retrained model lacks an erased class, and columns stand in the order that each model has them in."""
    p = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    q = np.array([[0.6, 0.4], [0.3, 0.7]])
    wide = np.array([[0.4, 0.0, 0.6], [0.7, 0.0, 0.3]])
    assert metric(q, p, classes=(["c", "a"], ["a", "b", "c"])) == metric(wide, p)
    one = FixedClassifier(p, ["a", "b", "c"]), FixedClassifier(q[:, ::-1], ["a", "c"])
    name = {jensen_shannon: "js", kl_divergence: "kl", total_variation: "total_variation"}[metric]
    expected = retrain_distance(*one, np.zeros((2, 1)), name)
    assert metric(q, p, classes=(["c", "a"], ["a", "b", "c"])) == pytest.approx(expected, rel=1e-12)
    assert metric(p, p, classes=(["a", "b", "c"], ["a", "b", "c"])) == 0
    with pytest.raises(
        ValueError, match=r"p has 3 columns and q has 2. .* classes=\(model.classes_, retrained.classes_\)"
    ):
        metric(p, q)
    with pytest.raises(ValueError, match="classes must be a pair, the classes of p's columns and those of q's"):
        metric(p, q, classes=["a", "b", "c"])
    for wrong in (["a", "b"], ["a", "b", "b"], [["a", "b", "c"]]):
        with pytest.raises(ValueError, match="classes must name each of the 3 columns of p once"):
            metric(p, q, classes=(wrong, ["a", "c"]))


def test_rms_distance():
    assert rms_distance([0.0, 0.0], [3.0, 4.0]) == pytest.approx(np.sqrt(12.5))
    assert rms_distance([[1.0, 2.0]], [[1.0, 4.0]]) == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize("metric", MATRIX_METRICS)
@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        ([[0.5, 0.5]], [[0.2, 0.3, 0.5]], "p has 2 columns and q has 3"),
        ([0.5, 0.5], [0.5, 0.5], r"p must have shape \(n_rows, n_classes\), got \(2,\)"),
        ([[0.5, 0.5]], [[1.5, -0.5]], "q must hold probabilities, got a negative value, -0.5"),
        ([[0.5, 0.4]], [[0.5, 0.5]], "row of p must sum to 1, got a row that sums to 0.9"),
        ([[0.5, 0.5]], [[np.nan, 0.5]], "q must be finite"),
        (np.empty((0, 2)), np.empty((0, 2)), "p must hold at least one row"),
    ],
)
def test_matrix_errors(metric, p, q, message):
    with pytest.raises(ValueError, match=message):
        metric(p, q)


def test_rms_errors():
    with pytest.raises(ValueError, match="a and b must have the same shape"):
        rms_distance([1.0, 2.0], [[1.0], [2.0]])
    with pytest.raises(ValueError, match="b must be finite"):
        rms_distance([1.0], [np.inf])


# ----------------------------------------------------------------------------------------------------------- estimators


@pytest.mark.parametrize(
    ("distance", "metric"), [("js", jensen_shannon), ("kl", kl_divergence), ("total_variation", total_variation)]
)
def test_retrain_distance_compares_probabilities(distance, metric):
    p, q = [[0.9, 0.1], [0.4, 0.6]], [[0.8, 0.2], [0.3, 0.7]]
    own, reference = FixedClassifier(p), FixedClassifier(q)
    # "kl" is KL(reference ‖ estimator).
    assert retrain_distance(own, reference, np.zeros((2, 1)), distance) == pytest.approx(metric(q, p), abs=1e-15)


def test_default_distance_is_js():
    own, reference = FixedClassifier([[1.0, 0.0]]), FixedClassifier([[0.0, 1.0]])
    assert retrain_distance(own, reference, np.zeros((1, 1))) == np.log(2)


def test_classes_are_aligned_by_label_on_the_union():
    own = FixedClassifier([[0.2, 0.3, 0.5]], classes=("a", "c", "d"))
    reference = FixedClassifier([[0.4, 0.1, 0.5]], classes=("d", "b", "a"))
    X = np.zeros((1, 1))
    #                        a    b    c    d
    p, q = np.array([[0.2, 0.0, 0.3, 0.5]]), np.array([[0.5, 0.1, 0.0, 0.4]])
    assert retrain_distance(own, reference, X) == pytest.approx(jensenshannon(p[0], q[0]) ** 2)
    assert retrain_distance(own, reference, X, "total_variation") == pytest.approx(0.4)


def test_kl_is_finite_when_the_reference_lacks_a_class():
    own = FixedClassifier([[0.1, 0.6, 0.3]], classes=(0, 1, 2))
    reference = FixedClassifier([[0.25, 0.75]], classes=(0, 2))
    expected = 0.25 * np.log(0.25 / 0.1) + 0.75 * np.log(0.75 / 0.3)
    assert retrain_distance(own, reference, np.zeros((1, 1)), "kl") == pytest.approx(expected)


def test_accuracy_is_the_share_of_disagreements():
    own = FixedClassifier(np.eye(2)[[0, 0, 1, 1]], classes=("no", "yes"))
    reference = FixedClassifier(np.eye(2)[[0, 1, 0, 1]], classes=("no", "yes"))
    # Both are right on half of the rows if the truth is constant: no difference of accuracies would see this.
    assert retrain_distance(own, reference, np.zeros((4, 1)), "accuracy") == 0.5


def test_rms_of_regressors():
    own, reference = FixedRegressor([1.0, 2.0]), FixedRegressor([1.0, 5.0])
    assert retrain_distance(own, reference, np.zeros((2, 1)), "rms") == pytest.approx(3 / np.sqrt(2))


def test_parameters_counts_trainable_ones_and_needs_no_rows():
    own = WithNet([[3.0, 0.0]], frozen=9.0).fit(None, [0, 1])
    reference = WithNet([[0.0, 4.0]], frozen=-9.0).fit(None, [0, 1])
    assert retrain_distance(own, reference, None, "parameters") == 5.0


def test_pipelines():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    y = (X[:, 0] > 0).astype(int)
    own = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(X, y)
    reference = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    expected = jensen_shannon(own.predict_proba(X), reference.predict_proba(X))
    assert retrain_distance(own, reference, X) == pytest.approx(expected, rel=1e-12)

    nets = [make_pipeline(StandardScaler(), WithNet([w])).fit(X, y) for w in (1.0, 3.5)]
    assert retrain_distance(*nets, X, "parameters") == 2.5


def test_distance_ratio_by_hand():
    own = FixedRegressor([0.0])
    references = [FixedRegressor([v]) for v in (1.0, 2.0, 4.0)]
    # Distances to the references 1, 2, 4; among them 1, 2, 3.
    assert distance_ratio(own, references, np.zeros((1, 1)), "rms") == pytest.approx((7 / 3) / 2)


def test_distance_ratio_averages_both_orders_of_kl():
    p, q, r = [[0.5, 0.5]], [[0.9, 0.1]], [[0.3, 0.7]]
    floor = (kl_divergence(q, r) + kl_divergence(r, q)) / 2
    own = (kl_divergence(q, p) + kl_divergence(r, p)) / 2
    ratio = distance_ratio(FixedClassifier(p), [FixedClassifier(q), FixedClassifier(r)], np.zeros((1, 1)), "kl")
    assert ratio == pytest.approx(own / floor)


def test_distance_ratio_of_a_retrained_model_is_about_one():
    rng = np.random.default_rng(0)
    models = [FixedRegressor(rng.normal(size=5000)) for _ in range(5)]
    assert distance_ratio(models[0], models[1:], np.zeros((5000, 1)), "rms") == pytest.approx(1, abs=0.05)


def test_distance_ratio_errors():
    own, X = FixedRegressor([0.0]), np.zeros((1, 1))
    with pytest.raises(ValueError, match=r"references must hold at least 2 models .*, got 1"):
        distance_ratio(own, [FixedRegressor([1.0])], X, "rms")
    with pytest.raises(ValueError, match="references must differ from each other"):
        distance_ratio(own, [FixedRegressor([1.0])] * 2, X, "rms")
    opposite = [FixedClassifier([[1.0, 0.0]]), FixedClassifier([[0.0, 1.0]])]
    with pytest.raises(ValueError, match="finite amount, got a mean 'kl' distance of inf"):
        distance_ratio(FixedClassifier([[0.5, 0.5]]), opposite, X, "kl")


def test_tug_of_war_by_hand():
    def predicting(n_ones):
        return FixedClassifier(np.eye(2)[[1] * n_ones + [0] * (10 - n_ones)])

    X, y = np.zeros((10, 1)), np.ones(10, dtype=int)
    # Accuracies on 10, 5 and 4 rows: 0.3, 0.6, 0.75 against 0.4, 0.8, 1.0.
    score = tug_of_war_score(predicting(3), predicting(4), X, y, X[:5], y[:5], X[:4], y[:4])
    assert score == pytest.approx(0.9 * 0.8 * 0.75)
    assert tug_of_war_score(predicting(4), predicting(4), X, y, X[:5], y[:5], X[:4], y[:4]) == 1
    # The sign of a gap does not matter, and gaps do not cancel.
    assert tug_of_war_score(predicting(4), predicting(3), X, y, X[:5], y[:5], X[:4], y[:4]) == pytest.approx(score)


def test_tug_of_war_names_the_empty_set():
    own, X, y = FixedClassifier([[0.5, 0.5]]), np.zeros((1, 1)), np.zeros(1, dtype=int)
    with pytest.raises(ValueError, match="X_retained and y_retained must hold at least one row"):
        tug_of_war_score(own, own, X, y, X[:0], y[:0], X, y)


def test_the_distance_is_that_of_the_kind_of_model():
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(30, 2)), np.arange(30) % 2
    for kind, by, other in ((LogisticRegression, "js", "kl"), (LinearRegression, "rms", None)):
        own, *others = (make_pipeline(StandardScaler(), kind()).fit(X[k:20], y[k:20]) for k in range(5))
        for measure in (
            lambda *by, own=own, others=others: retrain_distance(own, others[0], X, *by),
            lambda *by, own=own, others=others: distance_ratio(own, others, X, *by),
            lambda *by, own=own, others=others: distance_ratio_interval(own, others, X, *by),
            lambda *by, own=own, others=others: gap_closed(own, others[0], others[1:], X, *by),
        ):
            assert measure() == measure(None) == measure(by)
            if other:
                assert measure() != measure(other)


def test_retrain_distance_errors():
    X = np.zeros((4, 2))
    classifier, regressor = FixedClassifier(np.eye(2)[[0, 1, 0, 1]]), FixedRegressor(np.zeros(4))
    for distance in ("js", "kl", "total_variation"):
        with pytest.raises(ValueError, match="FixedRegressor has no predict_proba; use distance='rms'"):
            retrain_distance(regressor, regressor, X, distance)
    with pytest.raises(ValueError, match="FixedRegressor is a regressor; use distance='rms'"):
        retrain_distance(regressor, regressor, X, "accuracy")
    with pytest.raises(ValueError, match="FixedClassifier is not one; use distance='js'"):
        retrain_distance(classifier, classifier, X, "rms")
    with pytest.raises(ValueError, match=r"distance must be one of 'js', .*, got 'l2'"):
        retrain_distance(classifier, classifier, X, "l2")
    svc = LinearSVC().fit(np.arange(8).reshape(4, 2), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="LinearSVC has no predict_proba; use distance='accuracy'"):
        retrain_distance(svc, svc, X)
    pipe = make_pipeline(StandardScaler(), LinearRegression()).fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"net_ .* got LinearRegression without one"):
        retrain_distance(pipe, pipe, X, "parameters")
    own, reference = WithNet([1.0, 2.0]).fit(None, [0, 1]), WithNet([1.0]).fit(None, [0, 1])
    with pytest.raises(ValueError, match="two nets of the same shape"):
        retrain_distance(own, reference, None, "parameters")


def test_a_diverged_model_is_named():
    diverged, sound = FixedClassifier([[np.nan, np.nan]]), FixedClassifier([[0.5, 0.5]])
    with pytest.raises(ValueError, match=r"predict_proba\(X\) of FixedClassifier must be finite"):
        retrain_distance(diverged, sound, np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"predict\(X\) of FixedRegressor must be finite"):
        retrain_distance(FixedRegressor([np.inf]), FixedRegressor([0.0]), np.zeros((1, 1)), "rms")
