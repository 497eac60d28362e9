"""Rows that stay in a file, from fit to the last request: the same numbers as in memory, and no copy of them."""

import copy
import os
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.base import clone
from torch.utils.data import TensorDataset

import sk_unlearn
from sk_unlearn import MLPNetClassifier, MLPNetRegressor, ShardedClassifier, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.estimators._standardise import coarse_standardisation
from sk_unlearn.exceptions import PersistenceError
from sk_unlearn.inspection import audit
from sk_unlearn.persistence import load, save
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.receipts import verify
from sk_unlearn.references import fit_many
from sk_unlearn.rows import OutsideRows, open_rows
from sk_unlearn.rows.forms import outside_rows
from sk_unlearn.unlearners import DampedNewton, FineTune, Retrain, StoCuReNU
from tests._problems import LinearLayer, Mlp, skorch_net


def data(n=120, p=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    return X, (X[:, 0] + X[:, 1] > 0).astype(int)


@pytest.fixture
def stored(tmp_path):
    """Return a function that puts rows into a file and maps them."""

    def put(X, name="rows", mode="r"):
        np.save(tmp_path / f"{name}.npy", X)
        return np.load(tmp_path / f"{name}.npy", mmap_mode=mode)

    return put


def state(est):
    tensors = [*est.net_.module_.parameters(), *est.net_.module_.buffers()]
    return np.concatenate([tensor.detach().double().numpy().ravel() for tensor in tensors])


def net(module=Mlp, **params):
    return skorch_net(module, **{"max_epochs": 4, "lr": 0.1, "batch_size": 32} | params)


ESTIMATORS = {
    "built in": lambda: UnlearnableClassifier(MLPNetClassifier(max_epochs=6), random_state=0),
    "weights": lambda: UnlearnableClassifier(MLPNetClassifier(max_epochs=6), random_state=0),
    "net": lambda: UnlearnableClassifier(net(), random_state=0),
    "regressor": lambda: UnlearnableRegressor(MLPNetRegressor(max_epochs=6), StoCuReNU(renew=False), random_state=0),
    "no rows": lambda: UnlearnableClassifier(net(), keep_training_set=False, random_state=0),
    "Retrain": lambda: UnlearnableClassifier(net(), Retrain(), random_state=0),
    "FineTune": lambda: UnlearnableClassifier(net(), FineTune(n_epochs=1), random_state=0),
    "Newton": lambda: UnlearnableClassifier(net(LinearLayer), DampedNewton(), random_state=0),
}


# What a number is stored in is none of an unlearner's business.
@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, np.float32) for name in ESTIMATORS), ("built in", np.float64), ("net", np.float64)]
)
def test_every_verb_arrives_at_the_parameters_of_rows_in_memory(name, dtype, stored):
    X, y = data()
    X = X.astype(dtype)
    pair = []
    for kind in (np.asarray, stored):
        est, weight = ESTIMATORS[name](), np.arange(len(y)) % 3 + 1.0 if name == "weights" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            est.fit(kind(X), y, weight)
            steps = [state(est)]
            if est.keep_training_set:
                est.forget(X[:4])
                est.correct(X[10:12], X_new=X[10:12] * 2)
            steps.append(state(est))
            est.partial_forget(X[20:22], y[20:22])
            if name not in ("no rows", "weights"):
                est.partial_fit(X[:3], y[:3])
            steps += [state(est), np.asarray(est.predict(kind(X)), dtype=float)]
        pair.append((steps, est))
    (memory, _), (mapped, est) = pair
    for one, other in zip(memory, mapped, strict=True):
        np.testing.assert_array_equal(one, other)
    if est.keep_training_set:
        assert isinstance(est.training_set_.X, OutsideRows)
        verify(est.receipts_)


def test_the_file_is_neither_written_to_nor_read_again(stored, tmp_path):
    X, y = data()
    est = UnlearnableClassifier(net(), random_state=0).fit(stored(X, mode="r+"), y)
    before = (tmp_path / "rows.npy").read_bytes()
    est.forget(X[[3, 7]])
    assert (tmp_path / "rows.npy").read_bytes() == before
    with pytest.raises(ValueError, match="1 not among the stored rows"):
        est.forget(X[3:4])
    [(name, left)] = est.training_set_.outside()
    assert name == str(tmp_path / "rows.npy")
    np.testing.assert_array_equal(left, [3, 7])
    told = [note for note in est.unlearning_report_.notes if "erasing them there is for you" in note]
    assert len(told) == 1
    assert told[0].startswith(f"2 of the rows stay in {name}")
    assert told[0] in est.receipts_[-1].notes
    # Erased by the user, too: nothing changes for the estimator.
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r+")
    rows[left] = 0
    rows.flush()
    np.testing.assert_array_equal(est.forget(X[:1]).training_set_.X[:3].toarray(), X[[1, 2, 4]].astype(np.float32))


def test_a_second_file_of_further_rows_stays_outside_too(stored, tmp_path):
    X, y = data()
    est = UnlearnableClassifier(net(), random_state=0).fit(stored(X[:80], "first"), y[:80])
    est.partial_fit(stored(X[80:], "second"), y[80:])
    memory = UnlearnableClassifier(net(), random_state=0).fit(X[:80], y[:80]).partial_fit(X[80:], y[80:])
    for each in (est, memory):
        each.forget(X[[5, 100]])
    np.testing.assert_array_equal(state(est), state(memory))
    first, second = est.training_set_.outside()
    assert first[0].endswith("first.npy")
    assert second[0].endswith("second.npy")
    np.testing.assert_array_equal(first[1], [5])
    np.testing.assert_array_equal(second[1], [20])


def test_no_copy_of_the_rows_is_made(stored):
    rng = np.random.default_rng(0)
    X, y = rng.random(size=(100_000, 200), dtype=np.float32), rng.integers(0, 2, 100_000)
    mapped, gone = stored(X), X[:3].copy()
    size = X.nbytes
    del X
    est = UnlearnableClassifier(net(LinearLayer, max_epochs=1, batch_size=1024), random_state=0)
    clone(est).fit(gone, [0, 1, 0]).forget(gone[:1])  # what is imported on the way is not counted
    tracemalloc.start()
    try:
        est.fit(mapped, y)
        est.forget(gone)
        est.predict(mapped[:1000])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 2


def test_copies_and_files_refer_to_the_rows(stored, tmp_path):
    X, y = data()
    est = UnlearnableClassifier(net(), random_state=0).fit(stored(X), y).forget(X[:2])
    save(est, tmp_path / "model.skops")
    loaded = load(tmp_path / "model.skops", trusted=["sk_unlearn.rows.mapped.MappedFile", Mlp])
    copies = [pickle.loads(pickle.dumps(est)), loaded]
    est.forget(X[5:8])
    for each in copies:
        np.testing.assert_array_equal(state(each.forget(X[5:8])), state(est))
        assert X[50].astype(np.float32).tobytes() not in pickle.dumps(each)
    (tmp_path / "rows.npy").unlink()
    gone = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(gone.predict(X), est.predict(X))
    with pytest.raises(FileNotFoundError, match="is not there: put it back, or fit anew"):
        gone.forget(X[20:21])


@pytest.mark.parametrize("sharded", [False, True])
def test_an_old_copy_of_rows_that_were_overwritten_since_is_not_brought_up_to_date(sharded, tmp_path):
    X, y = data()
    est = UnlearnableClassifier(net(), random_state=0)
    if sharded:
        est = ShardedClassifier(est, n_shards=2, random_state=0)
    for overwrite in (False, True):
        np.save(tmp_path / "rows.npy", X)
        est.fit(open_rows(tmp_path / "rows.npy", overwrite=overwrite), y)
        save(est, tmp_path / "old.skops")
        est.forget(X[:3])
        options = {"log": est.receipts_, "replay": True}
        trusted = ["sk_unlearn.rows.mapped.MappedFile", Mlp]
        if overwrite:
            with pytest.raises(PersistenceError, match="3 rows that the log says were erased are not among its rows"):
                load(tmp_path / "old.skops", trusted=trusted, **options)
        else:
            again = load(tmp_path / "old.skops", trusted=trusted, **options)
            np.testing.assert_array_equal(again.predict_proba(X), est.predict_proba(X))


def test_a_cached_training_is_of_the_rows_as_they_are(stored, tmp_path):
    X, y = data()
    rows = stored(X, mode="r+")
    est = UnlearnableClassifier(net(), random_state=0, memory=str(tmp_path / "cache"))
    first = state(clone(est).fit(rows, y))
    np.testing.assert_array_equal(state(clone(est).fit(rows, y)), first)
    rows[:] = X[::-1]
    rows.flush()
    np.testing.assert_array_equal(
        state(clone(est).fit(rows, y)), state(UnlearnableClassifier(net(), random_state=0).fit(X[::-1].copy(), y))
    )


def test_workers_of_joblib_bring_their_rows_along():
    X, y = data(2_000, 20)  # which joblib maps from a file of its own, and deletes that
    est = UnlearnableClassifier(net(LinearLayer, max_epochs=1), random_state=0)
    [fitted] = Parallel(n_jobs=2, max_nbytes=1000)(delayed(est.fit)(X, y) for _ in range(1))
    assert isinstance(fitted.training_set_.X, np.ndarray)
    assert len(fitted.forget(X[:2]).training_set_) == len(X) - 2


def test_invalid_rows_in_a_file_are_refused_as_in_memory(stored):
    X, y = data()
    est = UnlearnableClassifier(net(), random_state=0)
    X[100, 2] = np.nan
    with pytest.raises(ValueError, match="X contains NaN"):
        est.fit(stored(X), y)
    X[100, 2] = 1e60
    with pytest.raises(ValueError, match=r"X has numbers that float32, .* cannot hold, in 1 of 120 rows"):
        est.fit(stored(X), y)
    with pytest.raises(ValueError, match="y has 10 rows but belongs to 120"):
        est.fit(stored(data()[0]), y[:10])
    est.fit(stored(data()[0]), y)
    with pytest.raises(ValueError, match="5 features"):
        est.predict(stored(data()[0][:, 1:]))


def test_whole_numbers_that_a_net_cannot_tell_apart(stored):
    X = np.random.default_rng(0).integers(2**24, 2**24 + 4, size=(60, 2))
    y = np.arange(60) % 2
    found = []
    for rows in (X, stored(X)):
        with pytest.warns(UserWarning, match="rows of X become equal") as warned:
            UnlearnableClassifier(net(max_epochs=1), random_state=0).fit(rows, y)
        found.append(str(warned[0].message))
    assert found[0] == found[1]


def test_the_constants_of_the_built_in_network_are_those_of_rows_in_memory(stored):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 7)) * np.logspace(-3, 3, 7) + rng.normal(size=7)
    for weight in (None, rng.integers(0, 3, 500).astype(float)):
        assert coarse_standardisation(outside_rows(stored(X)), weight) == coarse_standardisation(X, weight)


def test_an_audit_reads_them(stored):
    (X, y), (X_test, y_test) = data(160), data(40, seed=1)
    mapped = stored(X)
    est = UnlearnableClassifier(net(), random_state=0).fit(mapped, y)
    memory = UnlearnableClassifier(net(), random_state=0).fit(X, y)
    reports = []
    for each in (est, memory):
        before = pickle.loads(pickle.dumps(each))
        each.forget(X[:8])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reports.append(audit(each, X[:8], y[:8], X_test, y_test, before=before, n_references=3))
    assert reports[0].n_erased == reports[1].n_erased == 8
    assert reports[0].verdict == reports[1].verdict


def test_pipelines_keep_what_they_make_of_them(stored):
    X, y = data()
    pipe = make_pipeline("passthrough", UnlearnableClassifier(net(), random_state=0)).fit(stored(X), y)
    assert len(pipe.forget(X[:2])[-1].training_set_) == len(X) - 2


def test_pipelines_refuse_rows_that_stay_outside(tmp_path):
    X, y = data()
    np.save(tmp_path / "rows.npy", X)
    for verb in ("fit", "partial_fit"):
        pipe = make_pipeline("passthrough", UnlearnableClassifier(net(), random_state=0))
        with pytest.raises(TypeError, match=r"steps of a pipeline are fitted on rows in memory: pass X\.toarray\(\)"):
            getattr(pipe, verb)(open_rows(tmp_path / "rows.npy"), y)
    # Those of a request are few.
    assert len(pipe.fit(X, y).forget(open_rows(tmp_path / "rows.npy")[:2])[-1].training_set_) == len(X) - 2


def test_one_request_for_a_whole_model(stored):
    X, y = data()
    est = UnlearnableClassifier(net(), random_state=0).fit(stored(X), y)
    sk_unlearn.forget(est, X[:2])
    assert len(est.training_set_) == len(X) - 2


def test_items_of_a_data_set_are_read_and_masked():
    X, y = data()
    items = TensorDataset(torch.tensor(X, dtype=torch.float32), torch.tensor(y))
    est = UnlearnableClassifier(net(), random_state=0).fit(open_rows(items, name="my images"), y).forget(X[:3])
    memory = UnlearnableClassifier(net(), random_state=0).fit(X, y).forget(X[:3])
    np.testing.assert_array_equal(state(est), state(memory))
    np.testing.assert_array_equal(est.predict(open_rows(items)), memory.predict(X))
    [(name, left)] = est.training_set_.outside()
    assert name == "my images"
    np.testing.assert_array_equal(left, [0, 1, 2])
    assert any(note.startswith("3 of the rows stay in my images,") for note in est.receipts_[-1].notes)


def test_columns_of_a_parquet_file_from_fit_to_the_last_request(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    X, y = data()
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({str(k): column for k, column in enumerate(X.T)}), path, row_group_size=50)
    pair = []
    for rows in (X, open_rows(path)):
        est = UnlearnableClassifier(net(), random_state=0).fit(rows, y).forget(X[:2])
        est.correct(X[5:6], X_new=X[5:6] + 1).partial_fit(X[:1], y[:1])
        pair.append(est)
    memory, outside = pair
    np.testing.assert_array_equal(state(outside), state(memory))
    assert any(note.startswith(f"2 of the rows stay in {path},") for note in outside.receipts_[0].notes)
    save(outside, tmp_path / "model.skops")
    loaded = load(tmp_path / "model.skops", trusted=["sk_unlearn.rows.parquet.ParquetRows", Mlp])
    for each in (loaded, memory):
        each.forget(X[7:9])
    np.testing.assert_array_equal(state(loaded), state(memory))


def test_a_file_that_is_overwritten_on_request(tmp_path):
    X, y = data()
    path = tmp_path / "rows.npy"
    np.save(path, X)
    est = UnlearnableClassifier(net(), random_state=0).fit(open_rows(path, overwrite=True), y)
    memory = UnlearnableClassifier(net(), random_state=0).fit(X, y)
    expected = X.copy()

    def stays():
        np.testing.assert_array_equal(np.load(path), expected)
        np.testing.assert_array_equal(state(est), state(memory))

    with pytest.raises(ValueError, match="not among the stored rows"):
        est.forget(X[:2] + 1)
    pickle.loads(pickle.dumps(est)).request_forget(X[:1])
    for copied in (copy.deepcopy(est), copy.copy(est)):
        copied.forget(X[:1])
    clone(est).fit(est.training_set_.X, y).forget(X[:1])
    [shadow] = fit_many(clone(est), open_rows(path, overwrite=True), y, seeds=[0])
    shadow.forget(X[:1])
    stays()
    for each in (est, memory):
        each.forget(X[[3, 7]])
    expected[[3, 7]] = 0
    stays()
    assert f"2 of the rows were overwritten with zeros in {path}." in est.receipts_[-1].notes
    assert X[3].tobytes() not in path.read_bytes()
    for each in (est, memory):
        each.correct(X[10:11], y_new=1 - y[10:11])
    stays()
    for each in (est, memory):
        each.correct(X[11:12], X_new=X[11:12] * 2)
        each.request_forget(X[12:13])
    expected[11] = 0
    stays()
    for each in (est, memory):
        each.settle()
    expected[12] = 0
    stays()
    with pytest.raises(ValueError, match="keep_training_set=False keeps no rows, so that none could be overwritten"):
        UnlearnableClassifier(net(), keep_training_set=False).fit(open_rows(path, overwrite=True), y)


@pytest.mark.parametrize("sharded", [False, True])
def test_further_rows_of_a_file_are_overwritten_too(sharded, tmp_path):
    X, y = data()
    kind = ShardedClassifier if sharded else UnlearnableClassifier
    est, memory = (kind(UnlearnableClassifier(net()) if sharded else net(), random_state=0) for _ in range(2))
    for name, rows in (("first", X[:80]), ("second", X[80:])):
        np.save(tmp_path / f"{name}.npy", rows)
    first, second = (open_rows(tmp_path / f"{name}.npy", overwrite=True) for name in ("first", "second"))
    est.fit(first, y[:80]).partial_fit(second, y[80:]).forget(X[[5, 100]])
    for name, rows, number in (("first", X[:80], 5), ("second", X[80:], 20)):
        expected = rows.copy()
        expected[number] = 0
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), expected)
    memory.fit(X[:80], y[:80])
    with pytest.raises(ValueError, match="open it without overwrite and erase them there, or fit on rows of a file"):
        memory.partial_fit(second, y[80:])
    assert len(memory.training_set_) == 80
    before = pickle.dumps(est)
    with pytest.raises(ValueError, match="X_new comes into memory, so that its rows, once erased, would stay"):
        est.correct(X[:2], X_new=second[:2])
    assert pickle.dumps(est) == before


def test_a_disk_that_fails_after_the_request_is_told_of(tmp_path, monkeypatch):
    X, y = data()
    np.save(tmp_path / "rows.npy", X)
    est = UnlearnableClassifier(net(), random_state=0).fit(open_rows(tmp_path / "rows.npy", overwrite=True), y)

    def failing(descriptor):
        raise OSError("input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match=r"The request was carried out, but .* could not be confirmed"):
        est.forget(X[:2])
    assert len(est.receipts_) == 1
    assert X[0].tobytes() not in pickle.dumps(est)
    with pytest.raises(ValueError, match="not among the stored rows"):
        est.forget(X[:2])


def test_further_rows_of_a_parquet_file_become_zeros_in_its_scratch_file(tmp_path):
    parquet, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    X, y = data()
    np.save(tmp_path / "first.npy", X[:80])
    parquet.write_table(pa.table({str(k): column for k, column in enumerate(X[80:].T)}), tmp_path / "second.parquet")
    est = UnlearnableClassifier(net(), random_state=0).fit(open_rows(tmp_path / "first.npy"), y[:80])
    est.partial_fit(open_rows(tmp_path / "second.parquet"), y[80:])
    (tmp_path / "second.parquet").unlink()
    source = est.training_set_.sources[1]
    np.testing.assert_array_equal(source.read(slice(20, 21)), X[100:101])
    est.forget(X[[100]])
    with pytest.raises(FileNotFoundError, match="is not there"):  # where alone the row is left
        source.read(slice(20, 21))


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_row_of_a_file_that_came_twice_goes_with_the_last(sharded, anew, tmp_path):
    X, y = data()
    path, person = tmp_path / "rows.npy", np.arange(120)
    np.save(path, X)
    est = ShardedClassifier(UnlearnableClassifier(net()), 3) if sharded else UnlearnableClassifier(net())
    rows = open_rows(path, overwrite=True)
    est.set_params(random_state=0).fit(rows[:100], y[:100], sample_id=person[:100])
    again = open_rows(path, overwrite=True) if anew else rows
    est.partial_fit(again[90:], y[90:], sample_id=person[90:] + 1000)
    est.forget(sample_id=[95])
    np.testing.assert_array_equal(np.load(path), X)
    assert not sum(len(numbers) for _, numbers in est.training_set_.outside())
    est.forget(sample_id=[1095])
    X[95] = 0
    np.testing.assert_array_equal(np.load(path), X)
