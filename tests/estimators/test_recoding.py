"""Codes that move up take the rows of embeddings along: nothing that is predicted changes, to the last bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sk_unlearn.estimators._recoding import recoded, recoded_values
from sk_unlearn.estimators.coordinates import NewCoordinates, shadowed
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.utils._twins import twin
from tests import _problems

N, WIDTH = 6, 3
NONE = np.empty(0, dtype=np.int64)


class Tables(nn.Module):
    """Two columns of codes, each with a table, and numbers beside them."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.first, self.second = nn.Embedding(N, WIDTH), nn.Embedding(N + 2, WIDTH)
        self.out = nn.Linear(2 * WIDTH + n_features_in - 2, n_outputs)

    def forward(self, X):
        codes = X[:, :2].long()
        parts = [self.first(codes[:, 0]), self.second(codes[:, 1]), X[:, 2:].to(self.out.weight.dtype)]
        return self.out(torch.tanh(torch.cat(parts, dim=1)))


class Bag(Tables):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs)
        self.first = nn.EmbeddingBag(N, WIDTH)

    def forward(self, X):
        codes = X[:, :2].long()
        parts = [self.first(codes[:, :1]), self.second(codes[:, 1]), X[:, 2:].to(self.out.weight.dtype)]
        return self.out(torch.cat(parts, dim=1))


class Shared(Tables):
    """One table for both columns."""

    def forward(self, X):
        codes = X[:, :2].long()
        parts = [self.second(codes[:, 0]), self.second(codes[:, 1]), X[:, 2:].to(self.out.weight.dtype)]
        return self.out(torch.cat(parts, dim=1))


class Numeric(Tables):
    """Uses a code as a number, too."""

    def forward(self, X):
        return super().forward(X) + X[:, :1].to(self.out.weight.dtype)


class Padded(Tables):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs)
        self.first = nn.Embedding(N, WIDTH, padding_idx=0)


def problem(dtype, seed=0):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.integers(0, N, 60), rng.integers(0, N, 60), rng.integers(-3, 4, (60, 2))]).astype(dtype)
    return X, (X[:, 0] + X[:, 2] > 3).astype(int)


def fitted(module, dtype=np.float32, **settings):
    X, y = problem(dtype)
    return _problems.classifier(module=module, max_epochs=3, lr=0.3, batch_size=16, **settings).fit(X, y), X, y


def new_codes(X, orders):
    result = X.copy()
    for column, order in orders.items():
        result[:, column] = recoded_values(X[:, column], order)
    return result


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from([np.float32, np.int64]))
def test_any_order_of_codes(seed, dtype):
    est, X, y = fitted(Tables, dtype)
    rng = np.random.default_rng(seed)
    orders = {0: rng.permutation(N), 1: rng.permutation(N)}
    net = twin(est.net_, share_tensors=False)
    recoding = recoded(net, orders, X, y)
    expected, after = est.net_.module_, net.module_
    for rows in (X, problem(dtype, 1)[0]):
        there = expected(torch.from_numpy(rows))
        assert torch.equal(there, after(torch.from_numpy(new_codes(rows, orders))))
    # Gradients follow their rows.
    risks = [EmpiricalRisk(twin(est.net_), X, y), EmpiricalRisk(twin(net), new_codes(X, orders), y)]
    before, now = (risk.gradient(risk.parameters()) for risk in risks)
    torch.testing.assert_close(recoding.flat(before), now)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize("module", [Tables, Bag])
def test_an_estimator_in_new_codes_knows_what_it_knew(module, dtype):
    est, X, _ = fitted(module, dtype)
    order = np.array([0, 1, 5, 2, 3, 4])
    Z = new_codes(X, {0: order})
    to = NewCoordinates(Z, np.arange(4), np.ones(4), np.zeros(4), None, [order, None, None, None])
    moved = shadowed(est, to, NONE)
    assert not moved.is_far
    after = moved.estimator
    np.testing.assert_array_equal(after.predict_proba(Z), est.predict_proba(X))
    state = after.unlearning_state_
    exact = EmpiricalRisk(twin(after.net_), after.training_set_.X, after.training_set_.y)
    torch.testing.assert_close(state.anchor.gradient, exact.gradient(exact.parameters()), atol=1e-6, rtol=1e-4)
    known = {each.place: each.sums for each in exact.layer_inputs(exact.parameters()).maps}
    assert {each.place for each in state.anchor.inputs.maps} == set(known)
    for each in state.anchor.inputs.maps:
        if each.sums.uses is not None:
            assert torch.equal(each.sums.uses, known[each.place].uses)
    # Each row began where it began.
    size = N * WIDTH
    began, begins = (each.unlearning_state_.start.parameters[:size].view(N, WIDTH) for each in (est, after))
    assert torch.equal(begins[torch.from_numpy(order)], began)
    assert est.training_set_.X is not after.training_set_.X


@pytest.mark.parametrize("module", [Shared, Numeric, Padded, _problems.Mlp])
def test_what_is_not_looked_up_by_that_column_alone_is_left(module):
    est, X, y = fitted(module)
    net = twin(est.net_, share_tensors=False)
    order = np.array([5, 0, 1, 2, 3, 4])
    assert recoded(net, {0: order}, X, y) is None
    assert recoded(net, {0: order, 1: order}, X, y) is None
    for one, other in zip(est.net_.module_.parameters(), net.module_.parameters(), strict=True):
        assert torch.equal(one, other)


def test_more_codes_than_the_table_has_rows():
    est, X, y = fitted(Tables)
    assert recoded(twin(est.net_, share_tensors=False), {0: np.roll(np.arange(N + 1), 1)}, X, y) is None
    values = np.array([0.0, 2.0, -1.0, np.nan, 0.5, 9.0])
    np.testing.assert_array_equal(recoded_values(values, np.array([1, 2, 0])), [1, 0, -1, np.nan, 0.5, 9])


class Wide(Tables):
    """Numbers by themselves, codes behind a layer of their own."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs)
        self.out, self.wide = nn.Linear(WIDTH, n_outputs), nn.Linear(n_features_in - 2, n_outputs)

    def forward(self, X):
        return self.out(self.first(X[:, 0].long())) + self.wide(X[:, 2:])


@pytest.mark.parametrize("module", [Bag, Wide, Tables])
def test_a_scale_of_numbers_beside_codes_is_taken_exactly(module):
    rng = np.random.default_rng(3)
    X, y = problem(np.float32)
    X[:, 2:] = rng.normal(size=(60, 2))
    est = _problems.classifier(module=module, max_epochs=3, lr=0.3, batch_size=16).fit(X, y)
    order, scale, shift = np.array([0, 1, 5, 2, 3, 4]), np.array([1, 1, 1.5, 0.7]), np.array([0, 0, 0.3, -2.0])
    Z = (new_codes(X, {0: order}) * scale + shift).astype(np.float32)
    moved = shadowed(est, NewCoordinates(Z, np.arange(4), scale, shift, None, [order, None, None, None]), NONE)
    after = moved.estimator
    assert moved.is_far == (module is Tables)  # which bends the numbers before a layer could take their scale
    if moved.is_far:
        return
    np.testing.assert_allclose(after.predict_proba(Z), est.predict_proba(X), atol=1e-6)
    exact = EmpiricalRisk(twin(after.net_), after.training_set_.X, after.training_set_.y)
    anchor = after.unlearning_state_.anchor
    torch.testing.assert_close(anchor.gradient, exact.gradient(exact.parameters()), atol=1e-6, rtol=1e-4)
    # What training had left is held, in the new coordinates.
    torch.testing.assert_close(anchor.residual, anchor.gradient)
