"""Whose rows synthetic ones are is found from where they lie, and is not guessed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.pipeline._lineage import traced
from sk_unlearn.pipeline._segments import on_segments

over_sampling = pytest.importorskip("imblearn.over_sampling")
under_sampling = pytest.importorskip("imblearn.under_sampling")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from([np.float32, np.float64]), n=st.integers(2, 40))
def test_the_ends_of_a_segment_are_found(seed, dtype, n):
    rng = np.random.default_rng(seed)
    A = (rng.normal(size=(n, 5)) * rng.lognormal(0, 3, size=5) + rng.normal(size=5) * 10).astype(dtype)
    a, b = rng.choice(n, size=(2, 30))
    u = rng.random(30)
    S = (A[a] + u[:, None] * (A[b] - A[a])).astype(dtype)
    for k, found in enumerate(on_segments(S.astype(float), A.astype(float), float(np.finfo(dtype).eps))):
        if found is None:  # so near to one end that several rows may be the other
            continue
        numbers, shares = found
        assert set(numbers.tolist()) <= {a[k], b[k]} or min(u[k], 1 - u[k]) < 1e-4
        np.testing.assert_allclose(shares @ A[numbers], S[k], rtol=1e-5, atol=1e-5 * np.abs(A).max())
        assert shares.sum() == pytest.approx(1)


def test_what_is_not_certain_is_left_open():
    eps = float(np.finfo(float).eps)
    square = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    assert on_segments(np.array([[0.5, 0.5]]), square, eps) == [None]  # both diagonals
    assert on_segments(np.array([[0.5, 0.3]]), square, eps) == [None]  # no segment
    assert on_segments(np.array([[0.3]]), np.array([[0.0], [1], [2]]), eps) == [None]  # a line
    ((numbers, shares),) = on_segments(np.array([[0.25, 0.0]]), np.concatenate([square, square[:1]]), eps)
    assert sorted(numbers.tolist()) == [0, 1, 4]  # equal rows are one
    assert dict(zip(numbers.tolist(), shares.tolist(), strict=True)) == {0: 0.375, 4: 0.375, 1: 0.25}
    ((numbers, shares),) = on_segments(np.array([[0.3]]), np.array([[0.0], [1]]), eps)
    assert sorted(numbers.tolist()) == [0, 1]
    assert on_segments(np.ones((1, 2)), np.empty((0, 2)), eps) == [None]  # no rows of that class
    line = np.column_stack([np.arange(800.0), np.zeros(800)])
    assert on_segments(np.array([[400.5, 0.0]]), np.concatenate([line, [[0.0, 1]]]), eps) == [None]  # far too many


def test_it_is_what_the_sampler_did():
    """The draws of SMOTE, drawn again by hand."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), np.arange(60) % 5 == 0
    sampler = over_sampling.SMOTE(random_state=7)
    X_out, y_out = sampler.fit_resample(X, y)
    lineage = traced(sampler, X, y, X_out, y_out)
    few = np.flatnonzero(y)
    neighbours = sampler.nn_k_.kneighbors(X[few], return_distance=False)[:, 1:]
    random = np.random.RandomState(7)
    draws = random.randint(low=0, high=neighbours.size, size=len(X_out) - 60)
    steps = random.uniform(size=len(draws))
    rows, columns = draws // 5, draws % 5
    for k, (row, column, step) in enumerate(zip(rows, columns, steps, strict=True)):
        shares = np.zeros(60)
        shares[few[row]] += 1 - step
        shares[few[neighbours[row, column]]] += step
        np.testing.assert_allclose(lineage.shares[[60 + k]].toarray()[0], shares, atol=1e-9)


def test_the_built_in_network_does_not_see_rows_that_were_left_out():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 3)) * [1, 10, 100]
    y = np.where(rng.random(120) < 0.2, "few", "many")
    sampler = under_sampling.RandomUnderSampler(random_state=0)
    pipe = make_pipeline(sampler, UnlearnableClassifier(random_state=0)).fit(X, y)
    drawn = clone(sampler)
    plain = UnlearnableClassifier(random_state=0).fit(*drawn.fit_resample(X, y))
    np.testing.assert_allclose(pipe.predict_proba(X), plain.predict_proba(X), atol=1e-6)
    left_out = np.setdiff1d(np.arange(120), drawn.sample_indices_)
    pipe.forget(X[left_out[:3]])
    np.testing.assert_allclose(pipe.predict_proba(X), plain.predict_proba(X), atol=1e-6)
