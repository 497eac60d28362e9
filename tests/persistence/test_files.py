"""Damaged, foreign, forged and newer files are refused, before anything in them is run."""

import copy
import hashlib
import io
import json
import os
import pickle
import re
import stat
import sys
import threading
import warnings
import zipfile

import numpy as np
import pytest
import skops.io
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetClassifier
from torch import nn

import sk_unlearn
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.exceptions import InconsistentVersionWarning, PersistenceError
from sk_unlearn.persistence import untrusted_types
from sk_unlearn.persistence._rebuild import constant, generator, sparse, tensor, typed_storage

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 2)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)


NO_ARCHIVE = re.escape("no archive that sk_unlearn.save writes")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, X):
        return self.layer(X)


@pytest.fixture(scope="module")
def est():
    net = NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0, train_split=None)
    return UnlearnableClassifier(net, random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def data(est, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "model.skops"
    sk_unlearn.save(est, path)
    return path.read_bytes()


def written(path, data):
    path.write_bytes(data)
    return path


def resealed(data, change, line=None, compression=zipfile.ZIP_STORED):
    """The file as somebody forges it who knows how it is made: members changed, and a checksum that fits."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
        comment = archive.comment[:-64]
    changed = change(members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in changed.items():
            archive.writestr(name, content)
        archive.comment = (line or comment) + b"0" * 64
    body = buffer.getvalue()[:-64]
    return body + hashlib.sha256(body).hexdigest().encode()


def with_program(data, change):
    """The file with another program in it."""

    def changed(members):
        (name,) = (each for each in members if each.endswith(".bin"))
        program = json.loads(members[name])
        return {**members, name: json.dumps(change(program) or program)}

    return resealed(data, changed)


# ------------------------------------------------------------------------------------------------------------- damage


def test_every_flipped_bit_is_seen(data, tmp_path):
    path = tmp_path / "model.skops"
    n = len(data)
    directory = data.rindex(b"PK\x05\x06")
    places = [*range(8), *range(8 * directory, 8 * n), *np.random.default_rng(1).integers(8 * n, size=300)]
    for place in places:
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(PersistenceError, match=r"damaged|none that|pickle"):
            sk_unlearn.load(written(path, damaged), trusted=[Net])


def test_every_truncation_is_seen(data, tmp_path):
    for n in [*range(64), *range(len(data) - 200, len(data)), *np.random.default_rng(1).integers(len(data), size=100)]:
        with pytest.raises(PersistenceError):
            sk_unlearn.load(written(tmp_path / "model.skops", data[:n]), trusted=[Net])
    for more in (b"\0", data, b"\n"):
        with pytest.raises(PersistenceError):
            sk_unlearn.load(written(tmp_path / "model.skops", data + more), trusted=[Net])


FOREIGN = [
    (b"", "is empty"),
    (b"age,income\n1,2\n", "is none that sk_unlearn.save writes. Check the path."),
    (pickle.dumps([1]), "is a pickle"),
    (skops.io.dumps([1]), "skops' own"),
    (b"PK\x03\x04 and no more", "cut off"),
]


@pytest.mark.parametrize(("content", "message"), FOREIGN)
def test_foreign_files(content, message, tmp_path):
    for read in (sk_unlearn.load, untrusted_types):
        with pytest.raises(PersistenceError, match=message):
            read(written(tmp_path / "model.skops", content))


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        sk_unlearn.load(tmp_path / "none.skops")


@pytest.mark.parametrize(
    ("line", "refused"), [("1 version=9.0.0", True), ("2 version=0.0.1", True), ("1 version=0.0.1", False)]
)
def test_newer_files(line, refused, data, tmp_path):
    path = written(tmp_path / "model.skops", resealed(data, dict, line=f"sk_unlearn format={line} sha256=".encode()))
    if refused:
        with pytest.raises(PersistenceError, match="Install that version or a later one"):
            sk_unlearn.load(path, trusted=[Net])
    else:
        sk_unlearn.load(path, trusted=[Net])


def test_warns_of_another_version(data, tmp_path):
    own = f'["{sk_unlearn.__version__}"]'
    changed = with_program(data, lambda program: json.loads(json.dumps(program).replace(own, '["0.0.7"]')))
    with pytest.warns(InconsistentVersionWarning, match="0.0.7"):
        sk_unlearn.load(written(tmp_path / "model.skops", changed), trusted=[Net])


# -------------------------------------------------------------------------------------------------------------- trust


def test_own_classes_have_to_be_named(data, est, tmp_path):
    path = written(tmp_path / "model.skops", data)
    name = f"{Net.__module__}.Net"
    assert untrusted_types(path) == [name]
    with pytest.raises(PersistenceError, match=re.escape(f"trusted=['{name}']")):
        sk_unlearn.load(path)
    for trusted in ([name], [Net], (name,), {name}):
        loaded = sk_unlearn.load(path, trusted=trusted)
        np.testing.assert_array_equal(loaded.predict_proba(X), est.predict_proba(X))
    for wrong in (True, name, 3):
        with pytest.raises(TypeError, match="trusted must be a list of names"):
            sk_unlearn.load(path, trusted=wrong)


def test_a_class_that_is_gone_is_named(data, tmp_path):
    name = f"{Net.__module__}.Net"

    def renamed(program):
        program["names"] = [
            [kind, module, "Gone" if qualname == "Net" else qualname] for kind, module, qualname in program["names"]
        ]

    path = written(tmp_path / "model.skops", with_program(data, renamed))
    with pytest.raises(PersistenceError, match="Gone cannot be imported here"):
        sk_unlearn.load(path, trusted=[name.replace("Net", "Gone")])


def test_trees_have_to_be_named(tmp_path):
    path = tmp_path / "tree.skops"
    tree = DecisionTreeClassifier(random_state=0).fit(X, y)
    sk_unlearn.save(tree, path)
    assert untrusted_types(path) == ["sklearn.tree._tree.Tree"]
    loaded = sk_unlearn.load(path, trusted=untrusted_types(path))
    np.testing.assert_array_equal(loaded.predict_proba(X), tree.predict_proba(X))


def test_functions_have_to_be_named(tmp_path):
    path = tmp_path / "function.skops"
    for function in (os.system, np.load, pickle.loads, eval):
        sk_unlearn.save(FunctionTransformer(function), path)
        assert len(untrusted_types(path)) == 1
    sk_unlearn.save([FunctionTransformer(np.log1p), FunctionTransformer(nn.functional.relu)], path)
    assert untrusted_types(path) == []


MALICIOUS = [
    ["rebuild", "os", "system"],
    ["class", "subprocess", "Popen"],
    ["rebuild", "builtins", "eval"],
    ["rebuild", "builtins", "getattr"],
    ["class", "numpy", "memmap"],
    ["class", "numpy.lib._datasource", "DataSource"],
    ["class", "pandas", "HDFStore"],
    ["function", "numpy", "load"],
    ["rebuild", "numpy", "load"],
    ["rebuild", "torch", "load"],
    ["rebuild", "sk_unlearn", "load"],
    ["function", "sk_unlearn.persistence.files", "load"],
    ["function", "sklearn.datasets", "fetch_openml"],
    ["class", "joblib.memory", "Memory"],
    ["class", "skorch.callbacks.training", "Checkpoint"],
    ["class", "sklearn.base", "os.system"],
    ["class", "sklearn.tests.test_base", "MyEstimator"],
]


@pytest.mark.parametrize("name", MALICIOUS, ids=lambda name: ".".join(name))
def test_a_forged_file_runs_nothing(name, data, tmp_path):
    """It names a program of the attacker's choice, under a checksum that fits."""
    trace = tmp_path / "trace"

    def attack(program):
        return {
            "names": [*program["names"], name],
            "operations": [["call", len(program["names"]), [[f"touch {trace}"]]], *program["operations"]],
            "root": program["root"],
        }

    path = written(tmp_path / "model.skops", with_program(data, attack))
    with pytest.raises(PersistenceError, match=r"not trusted|not what the file says|cannot be imported"):
        sk_unlearn.load(path, trusted=[Net])
    assert not trace.exists()


def test_names_that_lead_elsewhere_are_not_followed(tmp_path, data):
    """Through what a trusted module has imported."""
    for name in (
        ["class", "sklearn.pipeline", "Bunch"],
        ["class", "sklearn.base", "re.Pattern"],
        ["function", "torch.nn.functional", "warnings.warn"],
    ):
        path = written(
            tmp_path / "model.skops", with_program(data, lambda program, name=name: program["names"].append(name))
        )
        with pytest.raises(PersistenceError, match=r"not what the file says|not trusted"):
            sk_unlearn.load(path, trusted=[Net])


@pytest.mark.parametrize("kind", ["state", "attributes", "items", "extend", "fill"])
@pytest.mark.parametrize(
    "victim", [["class", "torch.nn.modules.linear", "Linear"], ["function", "torch.nn.functional", "relu"]]
)
def test_a_forged_file_changes_nothing_that_others_use(kind, victim, data, tmp_path):
    """No class, function or constant gets new attributes."""
    before = dict(vars(nn.Linear)), dict(vars(nn.functional.relu))

    def attack(program):
        n = len(program["operations"])
        content = {"items": [], "extend": [], "fill": []}.get(kind, n + 3)
        program["operations"] += [
            [victim[0], len(program["names"])],
            ["dict"],
            ["items", n + 1, [[["forward"], ["changed"]]]],
            ["tuple", [[None], n + 1]],
            [kind, n, content],
        ]
        program["names"].append(victim)

    with pytest.raises(PersistenceError, match="changes a value that it did not make"):
        sk_unlearn.load(written(tmp_path / "model.skops", with_program(data, attack)), trusted=[Net])
    assert before == (dict(vars(nn.Linear)), dict(vars(nn.functional.relu)))


def nested(depth):
    return lambda members: {**members, "schema.json": "[" * depth + "]" * depth}


def lying(members):
    """An array that says that it is large."""
    name = next(each for each in members if each.endswith(".npy"))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    return {**members, name: header.getvalue()}


def asking(members):
    """A schema that has skops make something else than plain data."""
    schema = json.loads(members["schema.json"])
    schema["content"]["more"] = {
        "__class__": "OneHotEncoder",
        "__module__": "sklearn.preprocessing._encoders",
        "__loader__": "ObjectNode",
        "__id__": 1,
    }
    return {**members, "schema.json": json.dumps(schema)}


@pytest.mark.parametrize(
    "change", [nested(10**5), lying, asking, lambda members: {"schema.json": "{}"}, lambda members: {}]
)
def test_archives_that_are_none_of_ours(change, data, tmp_path):
    path = written(tmp_path / "model.skops", resealed(data, change))
    with pytest.raises(PersistenceError, match=NO_ARCHIVE):
        sk_unlearn.load(path, trusted=[Net])


def test_an_archive_that_unpacks_to_more_is_refused(data, tmp_path):
    bomb = resealed(data, lambda members: {**members, "zeros.bin": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(PersistenceError, match=NO_ARCHIVE):
        sk_unlearn.load(written(tmp_path / "model.skops", bomb), trusted=[Net])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's of the second name
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("schema.json", "{}")
            archive.writestr("schema.json", "{}")
            archive.comment = data[data.rindex(b"sk_unlearn format") :]
    body = buffer.getvalue()[:-64]
    twice = body + hashlib.sha256(body).hexdigest().encode()
    with pytest.raises(PersistenceError, match=NO_ARCHIVE):
        sk_unlearn.load(written(tmp_path / "model.skops", twice), trusted=[Net])


@pytest.mark.parametrize(
    "operation",
    [
        ["jump", 3],
        ["tuple", [10**6]],
        ["tuple", [-1]],
        ["call", 10**6, []],
        ["array", 10**6],
        ["state", 0, [1]],
        ["method", 0, "__class__"],
        ["items", 0, 3],
        [],
        3,
    ],
)
def test_operations_that_are_none_of_ours(operation, data, tmp_path):
    path = written(
        tmp_path / "model.skops", with_program(data, lambda program: program["operations"].insert(1, operation))
    )
    with pytest.raises(PersistenceError):
        sk_unlearn.load(path, trusted=[Net])


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (["function", 0], "uses a name for what it was not written down for"),
        (["enum", 0, "first"], "takes a class for what it is not"),
    ],
)
def test_names_are_used_for_what_they_are(operation, message, data, tmp_path):
    """The first name is that of the estimator's class."""
    changed = with_program(data, lambda program: program["operations"].insert(0, operation))
    with pytest.raises(PersistenceError, match=message):
        sk_unlearn.load(written(tmp_path / "model.skops", changed), trusted=[Net])


MEMORY = torch.zeros(3).untyped_storage()


@pytest.mark.parametrize(
    "build",
    [
        lambda: tensor(typed_storage(MEMORY, torch.float32), 0, (4,), (1,)),
        lambda: tensor(typed_storage(MEMORY, torch.float32), -1, (2,), (1,)),
        lambda: constant("nn"),
        lambda: sparse("random_array", (2, 2), np.ones(1), np.zeros(1, int), np.zeros(1, int)),
        lambda: sparse("csr_array", (2, 2), np.ones(1), np.array([5]), np.array([0, 1, 1])),
    ],
    ids=["beyond", "before", "module", "maker", "column"],
)
def test_arguments_that_reach_further_are_refused(build):
    with pytest.raises(ValueError, match=r"beyond its memory|no data type|no sparse array|ind"):
        build()


def test_a_generator_of_a_device_that_is_not_here_begins_anew():
    assert generator(np.zeros(16, np.uint8), "cuda:99").device.type == "cpu"


def test_states_that_hold_pickles_are_refused(data, tmp_path):
    """Skorch's own state of a net has a pickle in it, and would load it."""

    def attack(program):
        (net,) = (n for n, (_, _, name) in enumerate(program["names"]) if name == "NeuralNetClassifier")
        n = len(program["operations"])
        pickled = pickle.dumps(print).hex()
        program["operations"] += [
            ["new", net, [], []],
            ["bytes", pickled],
            ["dict"],
            ["items", n + 2, [[["device"], ["cpu"]], [["__cuda_dependent_attributes__"], n + 1]]],
            ["state", n, n + 2],
        ]

    with pytest.raises(PersistenceError, match="a state that it cannot have"):
        sk_unlearn.load(written(tmp_path / "model.skops", with_program(data, attack)), trusted=[Net])


def test_skops_reads_it_as_plain_data(data):
    """Whoever opens it with skops gets arrays and bytes, and nothing is untrusted."""
    assert skops.io.get_untrusted_types(data=data) == []
    held = skops.io.loads(data)
    assert held.keys() == {"program", "arrays"}
    assert all(isinstance(array, np.ndarray) for array in held["arrays"])


def test_a_sealed_program_without_names_is_none_of_ours(data, tmp_path):
    path = written(tmp_path / "model.skops", with_program(data, lambda program: {"root": 0}))
    for read in (sk_unlearn.load, untrusted_types):
        with pytest.raises(PersistenceError, match="sealed, but was not written by"):
            read(path)


def test_without_skops_it_says_what_to_install(data, est, tmp_path, monkeypatch):
    path = written(tmp_path / "model.skops", data)
    monkeypatch.setitem(sys.modules, "skops.io", None)
    for act in (lambda: sk_unlearn.load(path), lambda: sk_unlearn.save(est, path)):
        with pytest.raises(ImportError, match="pip install skops"):
            act()
    assert path.read_bytes() == data


def test_a_damaged_object_under_a_whole_seal_is_an_error_of_ours(data, tmp_path):
    changed = with_program(data, lambda program: program["operations"].pop(1) and None)
    with pytest.raises(PersistenceError):
        sk_unlearn.load(written(tmp_path / "model.skops", changed), trusted=[Net])


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_what_was_on_a_gpu_is_put_on_the_cpu(data, est, tmp_path):
    """The file as a machine with a GPU writes it: tensors, generators and the net are said to be there."""
    changed = with_program(data, lambda program: json.loads(json.dumps(program).replace('["cpu"]', '["cuda:0"]')))
    assert changed.count(b"cuda:0") >= 3
    loaded = sk_unlearn.load(written(tmp_path / "model.skops", changed), trusted=[Net])
    assert loaded.net_.device == "cpu"
    for one in (loaded, est):
        np.testing.assert_array_equal(one.predict_proba(X), est.predict_proba(X))
    np.testing.assert_array_equal(
        loaded.forget(X[:2]).predict_proba(X), copy.deepcopy(est).forget(X[:2]).predict_proba(X)
    )


# ------------------------------------------------------------------------------------------------------------ on disk


def test_permissions_and_links_are_kept(tmp_path):
    real, link = tmp_path / "real.skops", tmp_path / "link.skops"
    sk_unlearn.save(LogisticRegression(), real)
    real.chmod(0o600)
    link.symlink_to(real)
    sk_unlearn.save(LogisticRegression(C=2.0), link)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert sk_unlearn.load(real).C == sk_unlearn.load(str(link)).C == 2.0
    with pytest.raises(FileNotFoundError):
        sk_unlearn.save(LogisticRegression(), tmp_path / "no folder" / "model.skops")
    with pytest.raises(IsADirectoryError):
        sk_unlearn.save(LogisticRegression(), tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.skops", "real.skops"]


def test_many_threads_save_to_one_file(tmp_path):
    path = tmp_path / "model.skops"

    def save(C):
        for _ in range(10):
            sk_unlearn.save(LogisticRegression(C=C), path)

    threads = [threading.Thread(target=save, args=(C,)) for C in (1.0, 2.0, 3.0)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert sk_unlearn.load(path).C in (1.0, 2.0, 3.0)
    for thread in threads:
        thread.join()
    assert [each.name for each in tmp_path.iterdir()] == ["model.skops"]
