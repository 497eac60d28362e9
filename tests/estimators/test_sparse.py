"""Sparse rows, from fit to the last request: the same numbers as dense ones, a batch dense at a time, nothing left."""

import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetRegressor
from skorch.dataset import ValidSplit
from torch import nn

import sk_unlearn
from sk_unlearn import MLPNetClassifier, MLPNetRegressor, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.estimators._standardise import coarse_standardisation
from sk_unlearn.inspection import audit
from sk_unlearn.metrics import make_retrain_scorer
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.pipeline import make_pipeline as make_forgetful
from sk_unlearn.receipts import verify
from sk_unlearn.references.many import fit_many
from sk_unlearn.rows import SparseRows
from sk_unlearn.unlearners import DampedNewton, FineTune, Retrain, StoCuReNU
from tests._problems import LinearLayer, Mlp, skorch_net

SECRET = 4242.4242
FORMATS = [sp.csr_matrix, sp.csc_array, sp.dok_matrix]


def data(n=120, p=20, seed=0):
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n, p)) < 0.2, rng.normal(size=(n, p)), 0.0)
    return X, (X[:, 0] + X[:, 1] > 0).astype(int)


def state(est):
    tensors = [*est.net_.module_.parameters(), *est.net_.module_.buffers()]
    return np.concatenate([tensor.detach().double().numpy().ravel() for tensor in tensors])


class Normed(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features_in, 8), nn.BatchNorm1d(8), nn.Linear(8, n_outputs))

    def forward(self, X):
        return self.body(X)


def net_classifier(module=Mlp, **params):
    settings = {"max_epochs": 4, "lr": 0.1, "batch_size": 32, "optimizer__weight_decay": 1e-3}
    return skorch_net(module, **settings | params)


ESTIMATORS = {
    "built in": lambda: UnlearnableClassifier(MLPNetClassifier(max_epochs=6), random_state=0),
    "weights": lambda: UnlearnableClassifier(MLPNetClassifier(max_epochs=6), random_state=0),
    "net": lambda: UnlearnableClassifier(net_classifier(), random_state=0),
    "batch norm": lambda: UnlearnableClassifier(net_classifier(Normed), random_state=0),
    "held out": lambda: UnlearnableClassifier(net_classifier(LinearLayer, train_split=ValidSplit(5)), random_state=0),
    "regressor": lambda: UnlearnableRegressor(MLPNetRegressor(max_epochs=6), StoCuReNU(renew=False), random_state=0),
    "no rows": lambda: UnlearnableClassifier(net_classifier(), keep_training_set=False, random_state=0),
    "Retrain": lambda: UnlearnableClassifier(net_classifier(), Retrain(), random_state=0),
    "shorter": lambda: UnlearnableClassifier(net_classifier(max_epochs=8), Retrain(share=0.5), random_state=0),
    "FineTune": lambda: UnlearnableClassifier(net_classifier(), FineTune(n_epochs=1), random_state=0),
    "Newton": lambda: UnlearnableClassifier(net_classifier(), DampedNewton(), random_state=0),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_verb_arrives_at_the_parameters_of_dense_rows(name):
    """Bit by bit: batches are the same arrays, and so are the rounded constants of the built-in network."""
    X, y = data()
    pair = []
    for kind in (np.asarray, sp.csr_matrix):
        est, weight = ESTIMATORS[name](), np.arange(len(y)) % 3 + 1.0 if name == "weights" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a shortened training says what it does
            est.fit(kind(X), y, weight)
            steps = [state(est)]
            if est.keep_training_set:
                est.forget(kind(X[:4]))
                est.correct(kind(X[10:12]), X_new=kind(X[10:12] * 2))
            steps.append(state(est))
            est.partial_forget(kind(X[20:22]), y[20:22])
            if name not in ("no rows", "weights"):
                est.partial_fit(kind(X[:3]), y[:3])
            steps += [state(est), np.asarray(est.predict(kind(X)), dtype=float)]
        pair.append((steps, est))
    (dense, _), (sparse, est) = pair
    assert all(np.array_equal(*each) for each in zip(dense, sparse, strict=True))
    if est.keep_training_set:
        assert isinstance(est.training_set_.X, SparseRows)


@pytest.mark.parametrize("kind", FORMATS)
def test_dense_and_sparse_queries_find_each_other(kind):
    X, y = data()
    # Every number in two halves, backwards, with zeros that are written out.
    row, column = np.nonzero(X)
    values = np.concatenate([X[row, column][::-1] / 2, X[row, column] / 2, [0.0, -0.0]])
    places = np.concatenate([row[::-1], row, [0, 1]]), np.concatenate([column[::-1], column, [5, 5]])
    messy = sp.coo_matrix((values, places), shape=X.shape)
    for fitted, asked in ((kind(X), X[:3]), (X, kind(X[:3])), (messy, X[:3]), (kind(X), messy.tocsr()[:3])):
        est = UnlearnableClassifier(net_classifier(max_epochs=1), random_state=0).fit(fitted, y)
        assert len(est.forget(asked).training_set_) == len(X) - 3
        with pytest.raises(ValueError, match="3 not among the stored rows"):
            est.forget(asked)


def test_whole_numbers_are_numbers():
    X, y = data()
    counts = np.rint(X * 3).astype(np.int64)
    dense = UnlearnableClassifier(net_classifier(), random_state=0).fit(counts, y)
    sparse = UnlearnableClassifier(net_classifier(), random_state=0).fit(sp.csr_matrix(counts), y)
    assert np.array_equal(state(dense), state(sparse))
    assert sparse.training_set_.X.dtype == np.float32
    large = np.eye(4, 20, dtype=np.int64) * 2**25 + np.eye(4, 20, 1, dtype=np.int64)
    large = sp.csr_matrix(np.concatenate([large, large[:2] + np.eye(2, 20, dtype=np.int64)]))
    est = UnlearnableClassifier(net_classifier(max_epochs=1), random_state=0)
    with pytest.warns(UserWarning, match="2 rows of X become equal"):
        est.fit(large, [0, 1, 0, 1, 0, 1])


def test_nothing_of_an_erased_row_is_left():
    X, y = data()
    X[7] = 0
    X[7, [3, 11, 17]] = SECRET
    est = UnlearnableClassifier(net_classifier(lr=1e-6, optimizer__weight_decay=0), random_state=0)
    est.fit(sp.csr_matrix(X), y)
    secrets = [np.float32(SECRET).tobytes(), np.float64(SECRET).tobytes()]
    assert any(secret in pickle.dumps(est) for secret in secrets)
    held = est.training_set_.raw_X
    est.forget(sp.csr_matrix(X[7:8]))
    assert not any(secret in pickle.dumps(est) for secret in secrets)
    assert np.diff(held.csr.indptr)[7] == 0
    assert held.csr.nnz == np.count_nonzero(X) - 3
    est.correct(X[:1], X_new=sp.csr_matrix(np.eye(1, 20) * SECRET))
    assert any(secret in pickle.dumps(est) for secret in secrets)
    est.forget(np.eye(1, 20) * SECRET)
    assert not any(secret in pickle.dumps(est) for secret in secrets)


@pytest.mark.parametrize("weighted", [False, True])
def test_constants_of_columns_are_those_of_dense_ones(weighted):
    rng = np.random.default_rng(1)
    X = np.where(rng.random((300, 60)) < rng.random(60) ** 2, rng.normal(size=(300, 60)) * 10 + rng.normal(size=60), 0)
    X[:, 0], X[:, 1], X[:, 2], X[0, 3] = 0, 1, rng.random(300) < 0.3, 1e6
    weight = rng.integers(0, 4, 300).astype(float) if weighted else None
    assert coarse_standardisation(SparseRows(X), weight) == coarse_standardisation(X, weight)


def documents(n, p, per_row, seed=0):
    rng = np.random.default_rng(seed)
    columns = np.minimum((rng.pareto(0.7, n * per_row) * 20).astype(int), p - 1)
    X = sp.csr_matrix((rng.random(n * per_row, dtype=np.float32), (np.repeat(np.arange(n), per_row), columns)), (n, p))
    share = np.asarray(X[:, :40].sum(1)).ravel()
    return X, (share > np.median(share)).astype(int)


@pytest.mark.parametrize("name", ["built in", "linear"])
def test_memory_is_that_of_a_batch(name):
    """In float64, in which the built-in network takes them, the rows would take 160 MB dense."""
    X, y = documents(4000, 5000, 20)
    X = X.astype(np.float64)
    net = MLPNetClassifier(max_epochs=1, module__width=4, module__depth=1, weight_decay=1e-4)
    if name == "linear":
        net = net_classifier(LinearLayer, max_epochs=1)
    est = UnlearnableClassifier(net, random_state=0)
    tracemalloc.start()  # NumPy's arrays; PyTorch's are those of a batch
    try:
        est.fit(X, y).forget(X[:5]).partial_forget(X[5:7], y[5:7])
        est.predict(X)
        with pytest.raises(ValueError, match="miss a stored row by rounding"):
            est.forget(X[20:21] * (1 + 1e-6))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    assert len(est.training_set_) == 3993


def test_text_and_categories_go_through_pipelines():
    rng = np.random.default_rng(0)
    words = np.array([f"word{k}" for k in range(300)])
    texts = [" ".join(rng.choice(words, 12)) for _ in range(80)]
    y = np.arange(80) % 2
    est = UnlearnableClassifier(MLPNetClassifier(max_epochs=2), random_state=0)
    # Norms are summed in another order by transform than by fit, which changes last digits.
    pipe = make_pipeline(TfidfVectorizer(norm=None), est).fit(texts, y)
    pipe[-1].forget(pipe[:-1].transform(texts[:2]))
    assert len(pipe[-1].training_set_) == 78
    assert pipe.predict(texts).shape == (80,)
    table = np.column_stack([rng.integers(0, 60, 80), rng.integers(0, 60, 80), rng.normal(size=80)])
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), [0, 1]), (StandardScaler(), [2]))
    pipe = make_pipeline(columns, UnlearnableClassifier(MLPNetClassifier(max_epochs=2), random_state=0)).fit(table, y)
    assert isinstance(pipe[-1].training_set_.X, SparseRows)
    pipe[-1].forget(pipe[:-1].transform(table[:2]))
    assert len(pipe[-1].training_set_) == 78


def test_yardsticks_take_sparse_rows():
    X, y = data(80)
    X = sp.csr_matrix(X)
    est = UnlearnableClassifier(net_classifier(max_epochs=2), random_state=0)
    models = fit_many(est, X, y, [np.arange(60), np.arange(20, 80)], seeds=[0, 1])
    one = UnlearnableClassifier(net_classifier(max_epochs=2), random_state=1).fit(X[20:], y[20:])
    assert np.array_equal(state(models[1]), state(one))
    fitted = est.fit(X[:60], y[:60]).forget(X[:6])
    report = audit(fitted, X[:6], y[:6], X[60:], y[60:], n_references=3)
    assert report.n_still_stored == 0
    assert np.isfinite(make_retrain_scorer(request=4, n_references=2)(fitted, X[60:], y[60:]))
    search = ForgetSearchCV(est, {"unlearner": [StoCuReNU(), DampedNewton()]}, cv=2, n_references=2)
    assert search.fit(X, y).best_params_
    grid = GridSearchCV(est, {"estimator__lr": [0.1, 0.2]}, cv=2).fit(X, y)
    assert grid.best_estimator_.predict(X).shape == (80,)


def test_a_net_trained_elsewhere_and_saved_training():
    X, y = data()
    net = net_classifier(nn.Linear(20, 2)).initialize()
    est = UnlearnableClassifier.from_fitted(net, sp.csr_matrix(X), y)
    assert len(est.forget(X[:3]).training_set_) == 117


def test_training_that_is_kept_is_found_again(tmp_path):
    X, y = data()
    X = sp.csr_matrix(X)
    first, again, other = (
        UnlearnableClassifier(net_classifier(), memory=str(tmp_path), random_state=0).fit(rows, y)
        for rows in (X, X.tocoo(), X * 2)
    )
    assert np.array_equal(state(first), state(again))
    assert not np.array_equal(state(first), state(other))


class Rows(torch.utils.data.Dataset):
    """A data set class of the user's, which skorch gives the rows as they come."""

    def __init__(self, X, y=None):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], torch.tensor(0) if self.y is None else self.y[i]


def test_a_data_set_class_of_the_net_is_given_dense_rows_one_by_one():
    X, y = data()
    pair = [
        UnlearnableRegressor(skorch_net(LinearLayer, NeuralNetRegressor, dataset=Rows, max_epochs=2), random_state=0)
        .fit(kind(X), y.astype(np.float32))
        .forget(X[:3])
        for kind in (np.asarray, sp.csr_array)
    ]
    assert np.array_equal(*map(state, pair))


@pytest.mark.parametrize("alone", [False, True], ids=["shared", "alone"])
def test_a_pipeline_forgets_sparse_rows_as_it_does_dense_ones(alone):
    rng = np.random.default_rng(0)
    table = rng.integers(0, 6, (90, 2))
    table[0] = 9 if alone else table[1]  # a category that goes with its row
    y = (table[:, 0] > 2).astype(int)
    pair = []
    for is_sparse in (False, True):
        est = UnlearnableClassifier(net_classifier(), random_state=0)
        pipe = make_forgetful(OneHotEncoder(sparse_output=is_sparse, handle_unknown="ignore"), est).fit(table, y)
        pipe.forget(table[:1])
        assert isinstance(pipe[-1].training_set_.X, SparseRows) == is_sparse
        pair.append((state(pipe[-1]), pipe.predict_proba(table)))
    for dense, sparse in zip(*pair, strict=True):
        assert np.allclose(dense, sparse, rtol=1e-6, atol=1e-6)


def test_files_receipts_and_waiting_requests_take_sparse_rows(tmp_path):
    X, y = data()
    est = UnlearnableClassifier(net_classifier(), random_state=0).fit(sp.csr_matrix(X), y)
    est.forget(X[:2]).correct(X[3:5], X_new=X[5:7])
    sk_unlearn.save(est, tmp_path / "model.skops")
    loaded = sk_unlearn.load(tmp_path / "model.skops", trusted=["tests._problems.Mlp"])
    for each in (est, loaded):
        each.request_forget(sp.csr_matrix(X[10:12]))
        assert len(each.settle().training_set_) == 116
        assert verify(each.receipts_) == 3
    assert np.array_equal(state(est), state(loaded))
