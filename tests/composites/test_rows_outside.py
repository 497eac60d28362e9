"""Requests to whole models, of which a part stores its rows in another form than the model was given them."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain

import sk_unlearn
from sk_unlearn.rows import open_rows
from sk_unlearn.unlearners import CuReNU
from tests import _problems

rng = np.random.default_rng(4)
X = rng.normal(size=(40, 3))
y = np.where(X[:, 0] + 0.3 * rng.normal(size=40) > 0, "yes", "no")
value = X @ [1.0, -0.5, 2.0] + 0.1 * rng.normal(size=40)


def net(**settings):
    fast = {"max_epochs": 3, "batch_size": 16, "module__n_hidden": 3, "lr": 0.3}
    return _problems.classifier(CuReNU(max_steps=2), random_state=0, **(fast | settings))


@pytest.fixture(params=["outside", "sparse"])
def rows(request, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    return open_rows(tmp_path / "rows.npy") if request.param == "outside" else csr_array(X)


@pytest.mark.parametrize("given", [True, False])
def test_parts_are_refitted_on_rows_that_are_stored_otherwise(rows, given):
    members = [("net", net(module__dtype=torch.float64)), ("linear", LogisticRegression())]
    model = VotingClassifier(members).fit(X, y)
    model.estimators_[0].fit(rows, model.le_.transform(y))
    fresh = clone(model).fit(X[2:], y[2:])
    sk_unlearn.forget(model, X[:2], y[:2], on_other="refit", retained=(rows[2:], y[2:]) if given else None)
    np.testing.assert_allclose(model.estimators_[1].predict_proba(X), fresh.estimators_[1].predict_proba(X))


def test_later_links_of_a_chain_follow_one_whose_rows_are_stored_otherwise(rows):
    both = np.column_stack([y == "yes", value > 0]).astype(int)
    model = ClassifierChain(net()).fit(X, both)
    model.estimators_[0].fit(rows, both[:, 0])
    assert [part.n_known for part in sk_unlearn.forget(model, X[:3]).parts] == [3, 3]


def test_all_parts_or_none_overwrite_a_file(tmp_path):
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path in paths:
        np.save(path, X)
    model = VotingClassifier([("a", net()), ("b", net())]).fit(X, y)
    for part, path in zip(model.estimators_, paths, strict=True):
        part.fit(open_rows(path, overwrite=True), model.le_.transform(y))
    paths[1].rename(tmp_path / "away.npy")
    with pytest.raises(FileNotFoundError):
        sk_unlearn.forget(model, X[:2])
    np.testing.assert_array_equal(np.load(paths[0]), X)
    (tmp_path / "away.npy").rename(paths[1])
    sk_unlearn.forget(model, X[:2])
    for path in paths:
        np.testing.assert_array_equal(np.load(path), np.concatenate([np.zeros((2, 3)), X[2:]]))
