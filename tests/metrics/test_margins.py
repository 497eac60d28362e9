import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from sklearn.linear_model import LogisticRegression

from sk_unlearn.metrics import klom, klom_score, row_margins
from tests.metrics.test_distances import FixedClassifier


def test_a_margin_is_a_logit_less_those_of_the_others():
    Z, y = np.random.default_rng(0).normal(size=(9, 4)), np.arange(9) % 4
    model = FixedClassifier(softmax(Z, axis=1), (0, 1, 2, 3))
    expected = [z[c] - logsumexp(np.delete(z, c)) for z, c in zip(Z, y, strict=True)]
    np.testing.assert_allclose(row_margins(model, Z, y), expected, rtol=1e-9)
    assert row_margins(model, Z[:1], [7])[0] < -27  # a label that is not known


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.integers(2, 9))
def test_bounds(seed, n_models, n_bins):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n_models, 5))
    found = klom(a, b, n_bins=n_bins)
    assert (found >= 0).all()
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(klom(a, a, n_bins=n_bins), 0)
    # Neither the unit nor the order of the models counts.
    np.testing.assert_allclose(klom(3 * a[::-1] + 1, 3 * b + 1, n_bins=n_bins), found, atol=1e-6)


def test_many_models_come_near_the_divergence_of_their_distributions():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(20_000, 1)), rng.normal(0.5, 1, size=(20_000, 1))
    assert klom(a, b, n_bins=40)[0] == pytest.approx(0.5**2 / 2, rel=0.1)


def test_by_hand():
    # Bins of width one: 0 and 1 in one histogram, 2 and 3 in the other; half a count is added to each of four.
    found = klom([[0.0], [1.2]], [[2.5], [4.0]], n_bins=4)
    p, q = np.array([1.5, 1.5, 0.5, 0.5]) / 4, np.array([0.5, 0.5, 1.5, 1.5]) / 4
    assert found[0] == pytest.approx((p * np.log(p / q)).sum())
    assert klom([[1.0], [1.0]], [[1.0], [1.0]])[0] == 0  # no width at all


def test_score_is_a_quantile():
    rng = np.random.default_rng(1)
    X, y = np.zeros((20, 1)), np.arange(20) % 3
    one, other = ([FixedClassifier(rng.dirichlet(np.ones(3), size=20), (0, 1, 2)) for _ in range(6)] for _ in "ab")
    each = klom([row_margins(m, X, y) for m in one], [row_margins(m, X, y) for m in other], n_bins=5)
    assert klom_score(one, other, X, y, n_bins=5) == pytest.approx(np.quantile(each, 0.95))
    assert klom_score(one, other, X, y, n_bins=5, quantile=0.5) == pytest.approx(np.median(each))


@pytest.mark.parametrize(
    ("a", "b", "more", "message"),
    [
        (np.zeros((1, 3)), np.zeros((2, 3)), {}, r"margins must have shape .* at least 2 models, got \(1, 3\)"),
        (np.zeros((2, 3)), np.zeros(3), {}, r"reference_margins must have shape .*, got \(3,\)"),
        (np.zeros((2, 3)), np.zeros((2, 4)), {}, "must be of the same rows, got 3 and 4 columns"),
        (np.zeros((2, 3)), np.zeros((2, 3)), {"n_bins": 1}, "n_bins must be an int of at least 2, got 1"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), {}, "margins must be finite"),
    ],
)
def test_arguments(a, b, more, message):
    with pytest.raises(ValueError, match=message):
        klom(a, b, **more)
    for y in ([0], 0, [0, 1, 2]):
        with pytest.raises(ValueError, match=r"y must have shape \(2,\), as X has rows"):
            row_margins(LogisticRegression().fit([[0], [1]], [0, 1]), [[0], [1]], y)
    with pytest.raises(ValueError, match="quantile must lie in"):
        klom_score([], [], np.zeros((1, 1)), [0], quantile=2)
