"""A set of retrained models in a folder: what comes back, what is refused, and what is left of rows."""

import copy
import json
import os
import signal
import sys

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

import sk_unlearn
from sk_unlearn import UnlearnableClassifier, references
from sk_unlearn.exceptions import PersistenceError
from sk_unlearn.pipeline import make_pipeline

ERASED, KEPT = slice(0, 10), slice(10, 60)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(60, 3))
    return X, (X[:, 0] > 0).astype(int)


@pytest.fixture(scope="module")
def est(data):
    return UnlearnableClassifier(random_state=0).fit(*data)


@pytest.fixture(scope="module")
def models(data):
    X, y = data
    return references.fit_many(UnlearnableClassifier(), X[KEPT], y[KEPT], seeds=[4, 5, 6])


@pytest.fixture
def folder(tmp_path, models):
    references.save(models, tmp_path / "set")
    return tmp_path / "set"


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".skops")


@pytest.mark.parametrize("rows", [False, True])
def test_what_was_saved_comes_back(models, data, tmp_path, rows):
    references.save(models, tmp_path / "new" / "set", rows=rows)
    loaded = references.load(tmp_path / "new" / "set")
    assert loaded.seeds == [4, 5, 6]
    assert loaded.version == sk_unlearn.__version__
    for old, new in zip(models, loaded, strict=True):
        np.testing.assert_array_equal(old.predict_proba(data[0]), new.predict_proba(data[0]))
        assert hasattr(new, "training_set_") == rows
        assert hasattr(old, "training_set_")


def test_pipelines(data, tmp_path):
    X, y = data
    pipes = [
        make_pipeline(StandardScaler(), UnlearnableClassifier(random_state=seed)).fit(X[KEPT], y[KEPT])
        for seed in (1, 2)
    ]
    references.save(pipes, tmp_path)
    loaded = references.load(tmp_path)
    assert loaded.seeds == [1, 2]
    np.testing.assert_array_equal(loaded[1].predict_proba(X), pipes[1].predict_proba(X))


def test_the_folder_holds_no_row(models, est, data, tmp_path):
    X, y = data
    references.save(models, tmp_path, X_del=X[ERASED], y_del=y[ERASED], key=est.receipt_key_)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for dtype in (np.float32, np.float64):
        for row in X.astype(dtype):
            assert row.tobytes() not in content
    assert est.receipt_key_ not in content
    assert est.receipt_key_.hex().encode() not in content


def test_rows_that_were_left_out_are_known_by_the_key_alone(models, est, data, tmp_path):
    X, y = data
    references.save(models, tmp_path, X_del=X[ERASED], y_del=y[ERASED], key=est.receipt_key_)
    loaded = references.load(tmp_path)
    assert loaded.n_not_left_out(X[2:6], est.receipt_key_) == 0
    assert loaded.n_not_left_out(X[8:13], est.receipt_key_) == 3
    other = copy.deepcopy(est).fit(X, y)
    assert loaded.n_not_left_out(X[2:6], other.receipt_key_) is None
    references.save(models, tmp_path)
    assert references.load(tmp_path).n_not_left_out(X[2:6], est.receipt_key_) is None


def test_models_that_know_the_rows_are_not_saved_as_without_them(models, est, data, tmp_path):
    X, y = data
    with pytest.raises(ValueError, match=r"models\[3\] stores 10 rows of X_del"):
        references.save([*models, est], tmp_path, X_del=X[ERASED], y_del=y[ERASED], key=est.receipt_key_)
    with pytest.raises(ValueError, match=r"pass key=est\.receipt_key_"):
        references.save(models, tmp_path, X_del=X[ERASED])
    with pytest.raises(ValueError, match="models is empty"):
        references.save([], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_set_replaces_the_one_before(models, folder):
    old = files(folder)
    (folder / "notes.txt").write_text("mine")
    (folder / f".{old[0]}.part").write_text("of a save that was killed")
    references.save(models[:2], folder)
    assert len(files(folder)) == 2
    assert not set(files(folder)) & set(old)
    assert references.load(folder).seeds == [4, 5]
    assert (folder / "notes.txt").read_text() == "mine"
    assert not (folder / f".{old[0]}.part").exists()


class PressesCtrlC:
    """A setting that a model is written with."""

    def __getstate__(self):
        os.kill(os.getpid(), signal.SIGINT)
        return {}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_while_a_set_is_saved_leaves_the_old_one(models, folder):
    old = files(folder)
    last = copy.deepcopy(models[2])
    last.verbose = PressesCtrlC()
    with pytest.raises(KeyboardInterrupt):
        references.save([*models[:2], last], folder)
    assert files(folder) == old
    assert references.load(folder).seeds == [4, 5, 6]
    references.save(models[:2], folder)  # nothing is locked


def test_a_save_that_fails_leaves_the_old_set(models, folder):
    old = files(folder)
    broken = copy.deepcopy(models[1])
    broken.verbose = lambda: 0
    with pytest.raises(PersistenceError, match="a lambda"):
        references.save([models[0], broken], folder)
    assert files(folder) == old
    assert references.load(folder).seeds == [4, 5, 6]


def test_missing(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        references.load(tmp_path / "nowhere")
    os.unlink(folder / files(folder)[1])
    with pytest.raises(PersistenceError, match="1 of 3 files of the references are missing"):
        references.load(folder)
    os.unlink(folder / "references.json")
    with pytest.raises(PersistenceError, match=r"holds no references\.json"):
        references.load(folder)


def test_damaged_and_foreign_files(models, folder):
    names = files(folder)
    data = (folder / names[2]).read_bytes()
    for content in (data[:-100], (folder / names[0]).read_bytes(), b""):
        (folder / names[2]).write_bytes(content)
        with pytest.raises(PersistenceError, match=r"The file of references\[2\] is damaged, or not the one"):
            references.load(folder)
    (folder / names[2]).write_bytes(data)
    manifest = (folder / "references.json").read_text()
    for content in (manifest.replace('"seed": 4', '"seed": 7'), manifest[:-5], "[]", "{}", "\x00"):
        (folder / "references.json").write_text(content)
        with pytest.raises(PersistenceError, match=r"references\.json is damaged, or is no list of references"):
            references.load(folder)
    (folder / "references.json").write_text(json.dumps(json.loads(manifest) | {"format": 2, "version": "9.0.0"}))
    with pytest.raises(PersistenceError, match=r"written by version 9\.0\.0"):
        references.load(folder)
    references.save(models, folder)
    assert len(references.load(folder)) == 3
