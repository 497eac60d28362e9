"""Rows of several parts, for modules with several arguments: dicts, tuples and tables, in every verb."""

import pickle
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetRegressor
from skorch.helper import SliceDict
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.inspection import audit
from sk_unlearn.references.many import fit_many
from sk_unlearn.unlearners import Retrain
from tests._problems import skorch_net

SECRET = 4242.4242
RNG = np.random.default_rng(0)
N = 120
NUMBERS, IDS = RNG.normal(size=(N, 4)), RNG.integers(0, 50, N)
LABELS = (NUMBERS[:, 0] > 0).astype(int)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.users, self.head = nn.Embedding(60, 3), nn.Linear(7, 2)

    def forward(self, x, ids):
        assert x.dtype == self.head.weight.dtype
        assert ids.dtype == torch.int64
        return self.head(torch.cat([x, self.users(ids).reshape(len(x), -1)], 1))


class InARow(Named):
    def forward(self, X):
        return super().forward(*X)


class Stacked(Named):
    """The same of one matrix of floats, to compare with."""

    def forward(self, X):
        return super().forward(X[:, :4], X[:, 4].long())


class Columns(Named):
    def forward(self, ids, a, b, c, d):
        return super().forward(torch.cat([a, b, c, d], 1), ids)


class AnyColumns(Columns):
    def forward(self, **columns):
        return super().forward(**columns)


def named(x, ids):
    return {"x": x, "ids": ids}


def columns(x, ids):
    return {"ids": ids, **dict(zip("abcd", x.T, strict=True))}


FORMS = {
    "dict": (Named, named),
    "dict of tensors": (Named, lambda x, ids: named(torch.tensor(x), torch.tensor(ids))),
    "SliceDict": (Named, lambda x, ids: SliceDict(**named(x, ids))),
    "int32": (Named, lambda x, ids: named(x.astype(np.float32), ids.astype(np.int32))),
    "records": (
        Named,
        lambda x, ids: np.array([*zip(x, ids, strict=True)], [("x", float, 4), ("ids", int)]),
    ),
    "tuple": (InARow, lambda x, ids: (x, ids)),
    "list": (InARow, lambda x, ids: [x, ids]),
    "pandas": (Columns, lambda x, ids: pd.DataFrame(columns(x, ids))),
    "nullable": (Columns, lambda x, ids: pd.DataFrame(columns(x, ids)).astype({"ids": "Int64", "a": "Float64"})),
    "polars": (AnyColumns, lambda x, ids: pl.DataFrame(columns(x, ids))),
}


def estimator(module, **params):
    net = skorch_net(module, max_epochs=4, lr=0.1, batch_size=32, optimizer__weight_decay=1e-3)
    return UnlearnableClassifier(net, random_state=0, **params)


def state(est):
    return np.concatenate([tensor.detach().numpy().ravel() for tensor in est.net_.module_.parameters()])


@pytest.mark.parametrize("name", FORMS)
def test_every_verb_arrives_where_one_matrix_would(name):
    module, form = FORMS[name]
    states = []
    for kind, of in ((module, form), (Stacked, lambda x, ids: np.column_stack([x, ids]))):

        def rows(part, of=of):
            return of(NUMBERS[part], IDS[part])

        est = estimator(kind).fit(rows(slice(None)), LABELS, np.arange(N) % 2 + 1.0)
        steps = [state(est)]
        assert len(est.forget(rows(slice(0, 3))).training_set_) == N - 3
        with pytest.raises(ValueError, match="3 not among the stored rows"):
            est.forget(rows(slice(0, 3)))
        est.correct(rows(slice(5, 7)), X_new=rows(slice(10, 12)))
        est.partial_forget(rows(slice(20, 22)), LABELS[20:22])
        steps.append(state(est))
        est.partial_fit(rows(slice(0, 3)), LABELS[:3])
        steps += [state(est), est.predict_proba(rows(slice(None))), est.predict(rows(slice(0, 5)))]
        states.append(steps)
    # Embeddings are known as such only where they are given whole numbers; nothing else tells the two apart.
    for one, other in zip(*states, strict=True):
        assert np.allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["dict", "tuple", "pandas"])
def test_no_part_of_an_erased_row_is_left(name):
    module, form = FORMS[name]
    x, ids = NUMBERS.copy(), IDS.copy()
    x[7], ids[7] = SECRET, 55
    est = (
        estimator(module)
        .set_params(estimator__lr=1e-7, estimator__optimizer__weight_decay=0.0)
        .fit(form(x, ids), LABELS)
    )
    secrets = [np.float32(SECRET).tobytes(), np.float64(SECRET).tobytes(), np.int64(55).tobytes()]
    assert any(secret in pickle.dumps(est.training_set_) for secret in secrets[:2])
    est.forget(form(x[7:8], ids[7:8]))
    assert not any(secret in pickle.dumps(est) for secret in secrets[:2])
    assert 55 not in est.training_set_.raw_X[est.training_set_.raw_X.dtype.names[name != "pandas"]]
    assert not est.training_set_.raw_X[7:8].tobytes().strip(b"\0")
    assert SECRET not in pickle.loads(pickle.dumps(est)).training_set_.X.tolist()


def test_the_data_type_of_each_part_is_its_own():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 1, dtype=torch.float64)

        def forward(self, x, mask, image):
            assert (x.dtype, mask.dtype, image.shape[1:]) == (torch.float64, torch.bool, (2, 2))
            return self.layer(x * mask) + image.sum((1, 2))[:, None]

    parts = {"x": NUMBERS.astype(np.float32), "mask": NUMBERS > 0, "image": RNG.normal(size=(N, 2, 2))}
    net = skorch_net(Mixed, NeuralNetRegressor, max_epochs=2)
    est = UnlearnableRegressor(net, random_state=0).fit(parts, NUMBERS[:, 0])
    est.forget({name: part[:2] for name, part in parts.items()})
    assert len(est.training_set_) == N - 2
    assert est.predict(parts).shape == (N,)


def test_a_table_for_a_module_of_one_matrix_stays_a_matrix():
    class Lenient(Stacked):
        def forward(self, X, ids=None):
            return super().forward(X)

    table = pd.DataFrame(np.column_stack([NUMBERS, IDS]), columns=[*"abcd", "ids"])
    for module in (Stacked, Lenient):
        est = estimator(module).fit(table, LABELS).forget(table[:3])
        assert est.training_set_.X.shape == (N - 3, 5)
        assert est.n_features_in_ == 5


def test_polars_tables_go_where_pandas_ones_do():
    table = pd.DataFrame(np.column_stack([NUMBERS, IDS]), columns=[*"abcd", "ids"])
    pair = [
        estimator(Stacked).fit(of(table), kind(LABELS), sample_id=kind(IDS)).forget(of(table[:3]))
        for of, kind in ((pd.DataFrame, pd.Series), (pl.from_pandas, pl.Series))
    ]
    assert np.array_equal(*map(state, pair))
    # scikit-learn 1.6 does not see the names of polars 2.
    names = getattr(StandardScaler().fit(pl.from_pandas(table)), "feature_names_in_", None)
    assert np.array_equal(getattr(pair[1], "feature_names_in_", None), names)
    pair[1].forget(sample_id=pl.Series([int(IDS[10])]))
    pair[1].correct(pl.from_pandas(table[20:21]), X_new=pl.from_pandas(table[21:22]), y_new=pl.Series([1]))
    assert len(pair[1].predict(pl.from_pandas(table))) == N


def test_a_list_of_arrays_of_one_shape_is_a_list_of_rows():
    est = estimator(Stacked).fit([*np.column_stack([NUMBERS, IDS])], LABELS)
    assert est.training_set_.X.shape == (N, 5)


REFUSED = {
    "lengths": ({"x": NUMBERS, "ids": IDS[:-1]}, r"X\['ids'\] has 119 rows and X\['x'\] 120"),
    "NaN": ({"x": NUMBERS * np.nan, "ids": IDS}, r"X\['x'\].*contains NaN"),
    "text": ({"x": NUMBERS, "ids": np.array(["u4242"] * N)}, r"X\['ids'\]"),
    "masked": ({"x": np.ma.array(NUMBERS, mask=NUMBERS > 1), "ids": IDS}, r"X\['x'\] has masked entries"),
    "number": ({"x": NUMBERS, "ids": 3}, r"X\['ids'\]"),
    "overflow": ({"x": NUMBERS * 1e300, "ids": IDS}, r"X\['x'\] has numbers that float32"),
    "no parts": ({}, "no parts"),
    "name": ({"x": NUMBERS, 3: IDS}, "no name of an argument"),
    "missing": ({"x": NUMBERS}, r"The net fails .*X\['x'\] float32 of shape \(4,\)"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_parts_that_are_refused(what):
    bad, message = REFUSED[what]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        estimator(Named).fit(bad, LABELS)
    assert "4242" not in str(caught.value)


REFUSED_LATER = {
    "missing": ({"x": NUMBERS[:1]}, r"X_del must have the parts 'x', 'ids', as in fit; got 'x'\."),
    "other": ({"x": NUMBERS[:1], "ids": IDS[:1], "z": IDS[:1]}, "got 'ids', 'x', 'z'"),
    "matrix": (NUMBERS[:1], "got a ndarray"),
    "tuple": ((NUMBERS[:1], IDS[:1]), "got 2 arrays"),
    "shape": ({"x": NUMBERS[:1, :3], "ids": IDS[:1]}, r"X_del\['x'\] has rows of shape \(3,\).*fitted on \(4,\)"),
    "fraction": ({"x": NUMBERS[:1], "ids": IDS[:1] + 0.5}, r"X_del\['ids'\] has numbers that int64"),
    "lengths": ({"x": NUMBERS[:1], "ids": IDS[:2]}, r"X_del\['ids'\] has 2 rows and X_del\['x'\] 1"),
    "empty": ({}, "X_del is empty"),
}


@pytest.mark.parametrize("what", REFUSED_LATER)
def test_parts_that_are_not_those_of_fit(what):
    bad, message = REFUSED_LATER[what]
    est = estimator(Named).fit({"x": NUMBERS, "ids": IDS}, LABELS)
    before = state(est)
    with pytest.raises(ValueError, match=message):
        est.forget(bad)
    assert np.array_equal(state(est), before)
    assert len(est.training_set_) == N


def test_parts_for_an_estimator_of_one_matrix_are_refused():
    est = estimator(Stacked).fit(np.column_stack([NUMBERS, IDS]), LABELS)
    for bad in ({"x": NUMBERS[:1], "ids": IDS[:1]}, (NUMBERS[:1], IDS[:1])):
        with pytest.raises((ValueError, TypeError), match=re.compile("X_del")):
            est.forget(bad)


def test_names_may_come_in_any_order():
    est = estimator(Named).fit({"x": NUMBERS, "ids": IDS}, LABELS)
    assert len(est.forget({"ids": IDS[:2], "x": NUMBERS[:2]}).training_set_) == N - 2


def test_yardsticks_take_parts():
    parts = {"x": NUMBERS, "ids": IDS}
    est = estimator(Named)
    models = fit_many(est, parts, LABELS, [np.arange(60), np.arange(20, N)], seeds=[0, 1])
    assert [len(model.training_set_) for model in models] == [60, 100]
    fitted = est.fit(parts, LABELS)
    gone, kept = ({name: part[rows] for name, part in parts.items()} for rows in (slice(0, 6), slice(60, N)))
    assert audit(fitted.forget(gone), gone, LABELS[:6], kept, LABELS[60:], n_references=3).n_still_stored == 0


def test_a_net_that_was_trained_elsewhere():
    net = estimator(Columns).fit(pd.DataFrame(columns(NUMBERS, IDS)), LABELS).net_
    table = pl.DataFrame(columns(NUMBERS, IDS))
    est = UnlearnableClassifier.from_fitted(net, table, LABELS)
    assert len(est.forget(table[:3]).training_set_) == N - 3


def test_training_anew_takes_parts():
    est = estimator(Named, unlearner=Retrain()).fit({"x": NUMBERS, "ids": IDS}, LABELS)
    est.forget({"x": NUMBERS[:3], "ids": IDS[:3]})
    assert np.array_equal(state(est), state(estimator(Named).fit({"x": NUMBERS[3:], "ids": IDS[3:]}, LABELS[3:])))
