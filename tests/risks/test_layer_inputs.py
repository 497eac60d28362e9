"""What rows put into the linear maps of a module."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.risks.layer_inputs import InputChange
from tests._problems import skorch_net


class Given(nn.Module):
    """A module whose forward pass is given."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.forward_ = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, X):
        return self.forward_(self, X)


def inputs_of(forward, X, chunk_size=7, **parts):
    """What rows put into each map, by the name of its weight and the first of the entries of axis 0 it belongs to."""
    torch.manual_seed(0)
    net = skorch_net(Given(forward, **parts)).initialize()
    risk = EmpiricalRisk(net, X, np.arange(len(X)) % 2, chunk_size=chunk_size)
    value, gradient, found = risk.value_gradient_and_inputs(flat_parameters(net))
    unwatched = risk.value_and_gradient(flat_parameters(net))
    assert value == unwatched[0]
    assert torch.equal(gradient, unwatched[1])
    names = [name for name, _ in net.module_.named_parameters()]
    return {(names[each.place.parameter], each.place.first): each for each in found.maps}, names, risk


def values(n=30, p=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, p)).astype(np.float32)


def test_a_dense_layer_over_raw_inputs_has_its_second_moments():
    X = values()
    found, names, _ = inputs_of(lambda m, X: m.b(m.a(X).relu()), X, a=nn.Linear(4, 6), b=nn.Linear(6, 2))
    rows = torch.from_numpy(np.column_stack([X, np.ones(len(X))])).double()
    first, second = found["a.weight", 0], found["b.weight", 0]
    torch.testing.assert_close(first.sums.moments, rows.T @ rows)
    assert (first.steady, names[first.bias]) == (True, "a.bias")
    # What a hidden layer makes of rows changes with its parameters: only what is zero everywhere can be told.
    assert (second.steady, second.sums.moments) == (False, None)
    assert 0 < int(second.sums.uses.min()) < len(X)


def _of(each):
    return each.sums.moments if each.steady else each.sums.uses


def test_sums_over_rows_add_up():
    X = values()
    parts = {"a": nn.Linear(4, 6), "b": nn.Linear(6, 2)}
    _, _, risk = inputs_of(lambda m, X: m.b(m.a(X).relu()), X, **parts)
    w = risk.parameters()
    some, others, all_rows = (
        EmpiricalRisk(risk.net, each, np.zeros(len(each), dtype=np.int64)).layer_inputs(w)
        for each in (X[:11], X[11:], X)
    )
    for whole, difference in zip(some.plus(others).maps, all_rows.maps, strict=True):
        torch.testing.assert_close(_of(whole), _of(difference))
    for left, wanted in zip(all_rows.minus(others).maps, some.maps, strict=True):
        torch.testing.assert_close(_of(left), _of(wanted))


def test_an_embedding_counts_its_rows_but_for_the_padding():
    X = np.array([[0, 1], [1, 3], [3, 3]])
    for part in (nn.Embedding(5, 2, padding_idx=0), nn.EmbeddingBag(5, 2, padding_idx=0, sparse=True, mode="sum")):
        reduced = (lambda m, X: m.e(X).sum(1)) if isinstance(part, nn.Embedding) else (lambda m, X: m.e(X))
        found, _, _ = inputs_of(reduced, X, e=part)
        assert found["e.weight", 0].sums.uses.tolist() == [0, 2, 0, 3, 0]


def test_a_wide_input_has_means_and_squares():
    X = values(p=300)
    found, _, _ = inputs_of(lambda m, X: m.a(X), X, a=nn.Linear(300, 2))
    sums = found["a.weight", 0].sums
    exact = X.astype(np.float64)
    np.testing.assert_allclose(sums.moments[0, :-1], exact.sum(0))
    np.testing.assert_allclose(sums.moments[1], [*np.square(exact).sum(0), len(X)])


@pytest.mark.parametrize("p", [200, 300])
def test_many_inputs_are_summed_a_few_at_a_time(p):
    X = values(n=2**20 // p + 500, p=p)
    found, _, _ = inputs_of(lambda m, X: m.a(X), X, chunk_size=len(X), a=nn.Linear(p, 2))
    each = found["a.weight", 0]
    exact = X.astype(np.float64)
    squares = each.sums.moments.diagonal()[:-1] if p == 200 else each.sums.moments[1][:-1]
    np.testing.assert_allclose(squares, np.square(exact).sum(0))
    np.testing.assert_allclose(each.sums.moments[-1 if p == 200 else 0, :-1], exact.sum(0), atol=1e-9)
    assert each.sums.moments[-1, -1] == len(X)


def test_a_convolution_has_the_second_moments_of_its_channels():
    X = np.random.default_rng(0).normal(size=(20, 3, 5, 5)).astype(np.float32)
    found, _, _ = inputs_of(lambda m, X: m.a(X).mean((2, 3)), X, a=nn.Conv2d(3, 2, 3, padding=1))
    pixels = torch.from_numpy(np.moveaxis(X, 1, -1).reshape(-1, 3)).double()
    torch.testing.assert_close(found["a.weight", 0].sums.moments[:3, :3], pixels.T @ pixels)
    assert found["a.weight", 0].bias is None


@pytest.mark.parametrize("sizes", [{}, {"kdim": 3, "vdim": 5}])
def test_attention_has_what_enters_each_of_its_projections(sizes):
    k, v = sizes.get("kdim", 4), sizes.get("vdim", 4)
    X = np.abs(values(p=2 * (4 + k + v)))

    def forward(m, X):
        query, key, value = X.reshape(len(X), 2, -1).split([4, k, v], dim=2)
        return m.a(query, key, value)[0].mean(1)[:, :2]

    found, names, _ = inputs_of(forward, X, a=nn.MultiheadAttention(4, 2, batch_first=True, **sizes))
    weights = [each for each in names if "proj_weight" in each]
    keys = [(name, 0) for name in weights] if sizes else [("a.in_proj_weight", first) for first in (0, 4, 8)]
    assert sorted(found) == sorted(keys)
    tokens = X.reshape(-1, 4 + k + v)
    for key, part in zip(keys, np.split(tokens, [4, 4 + k], axis=1), strict=True):
        np.testing.assert_allclose(found[key].sums.moments.diagonal()[:-1], np.square(part.astype(np.float64)).sum(0))
        assert found[key].bias == (None if sizes else names.index("a.in_proj_bias"))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer_has_the_inputs_of_all_steps(kind):
    X = values(p=12).reshape(-1, 3, 4)
    part = kind(4, 2, num_layers=2, bidirectional=True, batch_first=True)
    found, _, _ = inputs_of(lambda m, X: m.a(X)[0].mean(1)[:, :2], X, a=part)
    assert sorted(found) == [("a.weight_ih_l0", 0), ("a.weight_ih_l0_reverse", 0)]
    for each in found.values():
        np.testing.assert_allclose(each.sums.moments.diagonal()[:-1], np.square(X.astype(np.float64)).sum((0, 1)))


def outer_use(m, X):
    return m.e(X).sum(1) @ m.e.weight.T


class Scaled(nn.Linear):
    def forward(self, X):
        return functional.linear(X, self.weight * 2, self.bias)


@pytest.mark.parametrize(
    ("forward", "part"),
    [
        (outer_use, nn.Embedding(4, 3)),
        (lambda m, X: functional.linear(m.e(X).sum(1), m.e.weight), nn.Embedding(4, 3)),
        (lambda m, X: m.e(X.float()), Scaled(2, 2)),
        (lambda m, X: m.e(X.float()) + m.e.weight.square().sum(), nn.Linear(2, 2)),
        (lambda m, X: m.e(X.float()), torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))),
        (lambda m, X: functional.linear(X.float(), m.e.weight[:2]), nn.Linear(2, 5)),
    ],
)
def test_a_weight_that_is_used_otherwise_too_is_left_out(forward, part):
    found, _, _ = inputs_of(forward, np.array([[0, 1], [1, 3], [3, 3]]), e=part)
    assert not found


def test_a_weight_of_two_layers_has_the_inputs_of_both():
    X = values()
    found, _, _ = inputs_of(
        lambda m, X: m.a(X) + functional.linear(X[:, [1, 0, 3, 2]], m.a.weight), X, a=nn.Linear(4, 2)
    )
    both = np.square(X.astype(np.float64)).sum(0) + np.square(X[:, [1, 0, 3, 2]].astype(np.float64)).sum(0)
    each = found["a.weight", 0]
    np.testing.assert_allclose(each.sums.moments.diagonal()[:-1], both)
    # The bias belongs to one of them only.
    assert each.bias is None


def test_a_weight_over_rows_and_over_features_is_left_out():
    X = values()
    found, _, _ = inputs_of(lambda m, X: m.a(m.a(X))[:, :2], X, a=nn.Linear(4, 4))
    assert not found


def test_what_is_cut_off_from_parameters_may_depend_on_them_all_the_same():
    X = values()
    parts = {"a": nn.Linear(4, 6), "b": nn.Linear(6, 2)}
    found, _, _ = inputs_of(lambda m, X: m.b(m.a(X).detach().relu()), X, **parts)
    assert [each.steady for each in found.values()] == [True, False]


def prompted(m, X):
    return m.a(X) + m.b(m.prompt).mean() + m.c(m.grid.expand(len(X), -1)) + m.e(torch.arange(2)).sum(0)


def test_what_no_row_has_a_part_in_is_used_by_all_of_them():
    """A learnt prompt, a constant, positions: how often they are used says nothing of rows."""
    prompt, grid = nn.Parameter(torch.ones(3)), nn.Buffer(torch.ones(2))
    parts = {"a": nn.Linear(4, 2), "b": nn.Linear(3, 2), "c": nn.Linear(2, 2), "e": nn.Embedding(5, 2)}
    found, _, _ = inputs_of(prompted, values(), **parts, prompt=prompt, grid=grid)
    assert list(found) == [("a.weight", 0)]


def written(m, X):
    padded = torch.zeros(len(X), 5)
    padded[:, :4].copy_(X)
    return m.a(padded)


def assigned(m, X):
    padded = torch.zeros(len(X), 5)
    padded[:, :4] = X
    return m.a(padded)


@pytest.mark.parametrize(
    "forward",
    [written, assigned, lambda m, X: m.a(torch.tensor([[*row, 0.0] for row in X.tolist()]))],
)
def test_rows_are_followed_into_tensors_that_were_made_without_them(forward):
    found, _, _ = inputs_of(forward, values(), a=nn.Linear(5, 2))
    assert list(found) == [("a.weight", 0)]


def test_learnt_queries_leave_keys_and_values_alone():
    queries = nn.Parameter(torch.randn(1, 2, 4))
    found, _, _ = inputs_of(
        lambda m, X: m.a(m.q.expand(len(X), -1, -1), X[:, None], X[:, None])[0].mean(1)[:, :2], values(),
        a=nn.MultiheadAttention(4, 2, batch_first=True), q=queries,
    )  # fmt: skip
    assert sorted(found) == [("a.in_proj_weight", 4), ("a.in_proj_weight", 8)]


def test_rows_that_draw_have_no_sums():
    X = values()
    net = skorch_net(Given(lambda m, X: m.a(X + torch.rand_like(X)), a=nn.Linear(4, 2))).initialize()
    risk = EmpiricalRisk(net, X, np.arange(len(X)) % 2)
    assert risk.value_gradient_and_inputs(flat_parameters(net))[2] is None


@pytest.mark.parametrize("width", [5, 300])
def test_rows_and_gradients_are_what_they_are_without_it(width):
    """Rows in float64 are summed as they are, without a copy."""
    torch.manual_seed(0)
    X = np.random.default_rng(0).normal(size=(12, width))
    net = skorch_net(nn.Sequential(nn.Linear(width, 3), nn.Tanh(), nn.Linear(3, 2)).double()).initialize()
    risk = EmpiricalRisk(net, X.copy(), np.arange(12) % 2)
    w = flat_parameters(net)
    value, gradient, inputs = risk.value_gradient_and_inputs(w)
    assert inputs is not None
    np.testing.assert_array_equal(risk.X, X)
    plain = risk.value_and_gradient(w)
    assert value == pytest.approx(plain[0], rel=1e-12)
    torch.testing.assert_close(gradient, plain[1])


# ------------------------------------------------------------------------------------ some rows in place of all of them


class Routed(nn.Module):
    """Sends some rows through a layer of their own; two hidden units are on for rows with a large first column only."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
        self.own = nn.Linear(8, 2)
        with torch.no_grad():
            self.first.weight[:2] = torch.tensor([1.0, 0, 0, 0])
            self.first.bias[:2] = -50

    def forward(self, X):
        hidden = self.norm(self.first(X)).relu()
        out, special = self.second(hidden), X[:, 1] > 100
        if bool(special.any()):
            out[special] = out[special] + self.own(hidden[special])
        return out


def requested(X, n_gone):
    """What a request for the first rows changes, with all sums known and where only some rows are looked at."""
    torch.manual_seed(0)
    net = skorch_net(Routed()).initialize()
    y = np.arange(len(X)) % 2
    risk, erased, retained = (EmpiricalRisk(net, X[k], y[k]) for k in (slice(None), slice(n_gone), slice(n_gone, None)))
    w = flat_parameters(net)
    known, gone = risk.layer_inputs(w), erased.layer_inputs(w)
    passes = []

    def take():
        passes.append(len(X))
        return risk.layer_inputs(w)

    rows = np.random.default_rng(0).choice(retained.n_rows, size=300, replace=False)
    short = InputChange(known.steady, gone, None, take, lambda: retained.layer_inputs(w, rows))
    return InputChange(known, gone), short, passes


def directions(change):
    """The dead part of a matrix for each map."""
    found = {}
    for each in change.dead():
        p = len(each.directions.energy)
        found[each.map.place] = each.directions.part(torch.eye(p, dtype=torch.float64))
    return found


@pytest.mark.parametrize(
    ("name", "n_passes", "n_maps"),
    [
        ("nothing rare", 0, 0),
        ("a column of their own", 0, 1),  # which is raw input, whose sums are known
        ("units of their own", 1, 1),
        ("units and one retained row", 1, 0),
        ("a layer of their own", 1, 1),
        ("a layer and one retained row", 1, 0),
    ],
)
def test_some_rows_tell_what_all_rows_would(name, n_passes, n_maps):
    X = values(3000, seed=1)
    X[:, 2] = 0 if "column" in name else X[:, 2]
    column = {"column": 2, "units": 0, "layer": 1}
    for kind, at in column.items():
        if kind in name:
            X[:3, at] = 1 if kind == "column" else 200
            if "one retained row" in name:
                X[2500, at] = 200
    whole, short, passes = requested(X, 3)
    wanted, found = directions(whole), directions(short)
    assert len(passes) == n_passes
    assert len(wanted) == n_maps
    assert wanted.keys() == found.keys()
    for place in wanted:
        torch.testing.assert_close(found[place], wanted[place], rtol=0, atol=1e-12)


def test_what_lies_behind_running_statistics_moves_with_them():
    """Its moments are known until rows leave."""
    found, _, risk = inputs_of(
        lambda m, X: m.b(m.norm(m.a(X))) + m.c(m.fixed(X)), values(),
        a=nn.Linear(4, 3), norm=nn.BatchNorm1d(3, affine=False), fixed=nn.BatchNorm1d(4, affine=False),
        b=nn.Linear(3, 2), c=nn.Linear(4, 2),
    )  # fmt: skip
    assert [found[name, 0].steady for name in ("a.weight", "b.weight", "c.weight")] == [True, False, False]
    assert found["c.weight", 0].sums.moments is not None
    assert len(risk.layer_inputs(risk.parameters()).steady.maps) == 1
