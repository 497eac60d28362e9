"""An estimator that was saved and loaded is the one that was not."""

import datetime
import decimal
import os
import pickle
import subprocess
import sys
import threading
import uuid

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping, EpochScoring, LRScheduler
from torch import nn

import sk_unlearn
from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.exceptions import PersistenceError
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.persistence import untrusted_types
from sk_unlearn.unlearners import CertifiedNewton, FineTune, HessianFreeRecording, StoCuReNU
from tests._problems import Mlp

N, D = 90, 4
rng = np.random.default_rng(7)
X = rng.normal(size=(N, D)).astype(np.float32)
y = (X[:, 0] - X[:, 1] > 0).astype(int)
target = (X @ np.arange(1, D + 1)).astype(np.float32)[:, None]


class OwnNet(nn.Module):
    """A module of the user's."""

    def __init__(self, width=6, n_out=2):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(D, width), nn.BatchNorm1d(width), nn.Linear(width, n_out)
        self.tied = self.last.weight

    def forward(self, X):
        return self.last(torch.tanh(self.norm(self.first(X))))


class Embedding(nn.Module):
    """Rows are the number of a person."""

    def __init__(self):
        super().__init__()
        self.table, self.last = nn.Embedding(12, 3), nn.Linear(3, 2)

    def forward(self, X):
        return self.last(self.table(X[:, 0]))


def net(module=OwnNet, **settings):
    defaults = {"criterion": nn.CrossEntropyLoss, "max_epochs": 3, "lr": 0.05, "verbose": 0, "train_split": None}
    return NeuralNetClassifier(module, **{**defaults, **settings})


def adopted():
    trained = net().fit(X, y)
    return UnlearnableClassifier.from_fitted(trained, X, y, random_state=0)


SUBJECTS = {
    "built-in": lambda: UnlearnableClassifier(random_state=0).fit(X, y),
    "regressor": lambda: UnlearnableRegressor(random_state=0).fit(X, target),
    "strings": lambda: UnlearnableClassifier(random_state=0).fit(X, np.array(["no", "yes"])[y]),
    "own module": lambda: UnlearnableClassifier(OwnNet, random_state=0).fit(X, y),
    "adam, schedule, stopping": lambda: UnlearnableClassifier(
        net(
            optimizer=torch.optim.AdamW,
            train_split=None,
            callbacks=[
                ("rates", LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=2)),
                ("stop", EarlyStopping(monitor="train_loss")),
                ("score", EpochScoring("accuracy", on_train=True)),
            ],
        ),
        random_state=0,
    ).fit(X, y),
    "momentum": lambda: UnlearnableClassifier(net(optimizer__momentum=0.9), FineTune(1), random_state=0).fit(X, y),
    "adopted": adopted,
    "certified": lambda: UnlearnableClassifier(
        net(nn.Linear, module__in_features=D, module__out_features=2, optimizer__weight_decay=0.1, max_epochs=40),
        CertifiedNewton(radius=20.0),
        random_state=0,
    ).fit(X, y),
    "recording": lambda: UnlearnableClassifier(
        net(nn.Linear, module__in_features=D, module__out_features=2, train_split=None),
        HessianFreeRecording(),
        random_state=0,
    ).fit(X, y),
    "generator": lambda: UnlearnableClassifier(net(), random_state=np.random.RandomState(3)).fit(X, y),
}


def to_and_fro(est, path, **options):
    sk_unlearn.save(est, path, **options)
    return sk_unlearn.load(path, trusted=untrusted_types(path))


def same(a, b):
    np.testing.assert_array_equal(a, b)
    assert np.asarray(a).dtype == np.asarray(b).dtype


def outputs(est, X):
    return est.predict_proba(X) if hasattr(est, "predict_proba") else est.predict(X)


@pytest.mark.parametrize("name", SUBJECTS)
def test_goes_on_as_if_it_had_not_been_saved(name, tmp_path):
    est = SUBJECTS[name]()
    labels = target if name == "regressor" else np.array(["no", "yes"])[y] if name == "strings" else y
    est.forget(X[:2])
    other = to_and_fro(est, tmp_path / "model.skops")
    assert type(other) is type(est)
    assert vars(other).keys() == vars(est).keys()
    steps = ["load", "forget", "partial_fit", "forget"]
    for turn, step in enumerate(steps[:2] if name in ("certified", "recording") else steps):
        for one in (est, other):
            if step == "forget":  # other rows each time
                one.forget(X[10 + 3 * turn : 12 + 3 * turn])
            elif step == "partial_fit":
                one.partial_fit(X[:2], labels[:2])
        same(outputs(other, X), outputs(est, X))
        assert len(other.training_set_) == len(est.training_set_)
        assert str(other.unlearning_history_[-1].status) == str(est.unlearning_history_[-1].status)


def test_many_gaps_and_few_rows_read_give_the_same_draws(tmp_path):
    """A method that reads a sample draws the same one: gaps of erased rows are still where they were."""
    many = np.random.default_rng(0).normal(size=(1500, D)).astype(np.float32)
    labels = (many[:, 0] > 0).astype(int)
    est = UnlearnableClassifier(
        net(max_epochs=1), StoCuReNU(n_gradient_rows=16, n_curvature_rows=16, max_steps=2), random_state=0
    )
    est.fit(many, labels).forget(many[:400])
    other = to_and_fro(est, tmp_path / "model.skops")
    for one in (est, other):
        one.forget(many[500:503])
    same(outputs(other, many), outputs(est, many))


IDS = {
    "int": lambda n: n,
    "str": str,
    "tuple": lambda n: ("a", n, None),
    "bytes": lambda n: b"%d" % n,
    "date": lambda n: datetime.date(2020, 1, 1) + datetime.timedelta(n),
    "moment": lambda n: datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(n),
    "decimal": lambda n: decimal.Decimal(n) / 7,
    "uuid": lambda n: uuid.UUID(int=n),
    "frozenset": lambda n: frozenset([n, str(n)]),
    "mixed": lambda n: n if n % 2 else str(n),
}


@pytest.mark.parametrize("kind", IDS)
def test_identifiers_are_found_after_loading(kind, tmp_path):
    ids = [IDS[kind](n) for n in range(N)]
    est = UnlearnableClassifier(net(max_epochs=1), FineTune(1), random_state=0).fit(X, y, sample_id=ids)
    sk_unlearn.save(est, tmp_path / "model.skops")
    other = sk_unlearn.load(tmp_path / "model.skops", trusted=[OwnNet])
    for one in (est, other):
        one.forget(sample_id=[ids[4], ids[11]])
    same(outputs(other, X), outputs(est, X))
    assert other.training_set_.sample_id.tolist() == est.training_set_.sample_id.tolist()


def test_rows_that_are_indices(tmp_path):
    people = np.arange(60).reshape(-1, 1) % 12
    est = UnlearnableClassifier(net(Embedding), random_state=0).fit(people, people[:, 0] % 2)
    other = to_and_fro(est, tmp_path / "model.skops")
    for one in (est, other):
        one.forget(people[people[:, 0] == 3][:1])
    same(outputs(other, people), outputs(est, people))


def test_without_stored_rows(tmp_path):
    est = UnlearnableClassifier(net(), keep_training_set=False, random_state=0).fit(X, y)
    other = to_and_fro(est, tmp_path / "model.skops")
    for one in (est, other):
        one.partial_forget(X[:2], y[:2])
    same(outputs(other, X), outputs(est, X))


# -------------------------------------------------------------------------------------------------------- composites

TABLE = pd.DataFrame(
    {"age": X[:, 0], "income": X[:, 1], "town": np.array(["Ulm", "Köln", "Bonn"])[rng.integers(3, size=N)]}
)
TABLE.loc[3, "age"] = np.nan


def mixed():
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return ColumnTransformer(
        [("numbers", numbers, ["age", "income"]), ("town", OneHotEncoder(sparse_output=False), ["town"])]
    )


def small(**settings):
    return UnlearnableClassifier(net(Mlp, max_epochs=2), random_state=0, **settings)


COMPOSITES = {
    "pipeline": lambda: make_pipeline(StandardScaler(), FunctionTransformer(np.tanh), small()).fit(X, y),
    "columns": lambda: make_pipeline(mixed(), small()).fit(TABLE, y),
    "grid": lambda: GridSearchCV(small(), {"keep_initial": [True, False]}, cv=2).fit(X, y),
    "voting": lambda: VotingClassifier([("a", small()), ("b", small())], voting="soft").fit(X, y),
    "target": lambda: TransformedTargetRegressor(
        UnlearnableRegressor(random_state=0), transformer=StandardScaler()
    ).fit(X, target[:, 0]),
    "text": lambda: make_pipeline(TfidfVectorizer(), FunctionTransformer(scipy.sparse.csr_matrix.toarray), small()).fit(
        ["alpha beta", "beta gamma"] * 20, [0, 1] * 20
    ),
    "search": lambda: ForgetSearchCV(small(), {"unlearner": [FineTune(1), FineTune(2)]}, cv=2, random_state=0).fit(
        X, y
    ),
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_composites(name, tmp_path):
    model = COMPOSITES[name]()
    rows = TABLE if name == "columns" else ["alpha", "gamma beta"] if name == "text" else X
    other = to_and_fro(model, tmp_path / "model.skops")
    same(outputs(other, rows), outputs(model, rows))
    assert repr(other) == repr(model)


def test_parts_that_several_share_stay_shared(tmp_path):
    est = small().fit(X, y)
    first, second = to_and_fro([est, est], tmp_path / "model.skops")
    assert first is second
    module = UnlearnableClassifier(OwnNet, random_state=0).fit(X, y)
    loaded = to_and_fro(module, tmp_path / "model.skops")
    assert loaded.net_.module_.tied is loaded.net_.module_.last.weight


class Circular:
    def __init__(self):
        self.me, self.pair = [self], (self, {1: self})


class Slotted:
    __slots__ = ("first", "second")

    def __init__(self, first):
        self.first = first

    def twice(self):
        return 2 * self.first

    @classmethod
    def of_class(cls):
        return cls


class Made:
    """Is made by keyword, as some classes of NumPy's and the standard library's are."""

    def __new__(cls, *, number):
        made = super().__new__(cls)
        made.number = number
        return made

    def __getnewargs_ex__(self):
        return (), {"number": self.number}


class Holder:
    """Is made of a list that holds it."""

    def __init__(self, items):
        self.items = items

    def __reduce__(self):
        return Holder, (self.items,)


TABLES = [
    TABLE,
    pd.DataFrame(
        {
            "when": pd.date_range("2020-01-01", periods=3, tz="UTC"),
            "kind": pd.Categorical(["a", None, "b"], categories=["b", "a"], ordered=True),
            "count": pd.array([1, None, 3], dtype="Int64"),
            "both": [pd.Timestamp("2020-01-01 01:00", tz="Europe/Berlin"), pd.NaT, pd.Timedelta("1h")],
            "wait": pd.to_timedelta([1, 2, None], unit="s"),
            5: [1.5, np.nan, -0.0],
        },
        index=["x", "y", "z"],
    ),
    pd.DataFrame({("a", 1): [1], ("b", 2): [2]}),
]


@pytest.mark.parametrize("number", range(len(TABLES)))
def test_tables(number, tmp_path):
    pd.testing.assert_frame_equal(to_and_fro(TABLES[number], tmp_path / "table.skops"), TABLES[number])


def test_plain_values(tmp_path):
    values = [
        *(1.5, float("inf"), -0.0, 2**70, 1j, "ü\ud800", b"ab" * 2000, b"", bytearray(b"xy"), None, True, ..., pd.NA),
        *({0: "a", True: 2, None: 3, (1, 2): 4, 1.5: 5}, {1, "a"}, frozenset([2]), slice(1, None, 2), range(4)),
        *(
            np.float32(1.1),
            np.str_("a"),
            np.datetime64("2020-01-01T01:00"),
            np.dtype([("a", "<f4"), ("b", "i4", (2,))]),
        ),
        *(np.arange(6).reshape(2, 3).T, np.array(["a", "bc"]), np.array([[1, "a"], [None, (2, 3)]], dtype=object)),
        *(np.zeros((0, 3)), np.array(5.0), np.array([(1.0, 2)], dtype=[("a", "f4"), ("b", "i4")])),
        *(torch.float16, torch.device("cpu"), torch.Size([1, 2]), torch.arange(6.0, dtype=torch.bfloat16)[1::2]),
    ]
    loaded = to_and_fro(values, tmp_path / "values.skops")
    for one, other in zip(loaded, values, strict=True):
        assert type(one) is type(other)
        if isinstance(other, np.ndarray | torch.Tensor):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            assert one.tolist() == other.tolist()
            assert isinstance(one, torch.Tensor) or one.flags.f_contiguous == other.flags.f_contiguous
        else:
            assert one is other or one == other or one != one
            assert repr(one) == repr(other) or isinstance(one, set)
    circular = to_and_fro(Circular(), tmp_path / "circular.skops")
    assert circular.me[0] is circular.pair[0] is circular.pair[1][1] is circular


def test_objects_of_every_make(tmp_path):
    slotted, loop, holder = Slotted(3), ([],), Holder([])
    loop[0].append(loop)
    holder.items.append(holder)
    column = pd.Series([1.5, None], index=["a", "b"], name="c", dtype="Float64")
    values = [slotted, slotted.twice, Made(number=4), loop, holder, column]
    slotted, twice, made, loop, holder, same = to_and_fro(values, tmp_path / "values.skops")
    assert (slotted.first, hasattr(slotted, "second"), twice(), made.number) == (3, False, 6, 4)
    assert twice.__self__ is slotted
    assert loop[0][0] is loop or loop[0][0][0] is loop[0]
    assert holder.items[0] is holder
    pd.testing.assert_series_equal(same, column)


def test_a_net_that_says_nothing_of_its_device(tmp_path):
    est = UnlearnableClassifier(net(Mlp, max_epochs=1, device=None), random_state=0).fit(X, y)
    same(outputs(to_and_fro(est, tmp_path / "model.skops"), X), outputs(est, X))


def test_generators_go_on_where_they_were(tmp_path):
    drawn = [np.random.default_rng(1), np.random.RandomState(2), torch.Generator().manual_seed(3)]
    drawn[0].random(3)
    ours = to_and_fro(drawn, tmp_path / "generators.skops")
    assert ours[0].random() == drawn[0].random()
    if pickle.loads(pickle.dumps(drawn[0])).bit_generator.seed_seq.entropy == 1:  # not so before NumPy 2.0
        assert ours[0].spawn(1)[0].random() == drawn[0].spawn(1)[0].random()
    assert ours[1].random() == drawn[1].random()
    assert torch.rand(2, generator=ours[2]).tolist() == torch.rand(2, generator=drawn[2]).tolist()


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "dok", "lil", "dia", "bsr"])
def test_sparse(kind, tmp_path):
    for make in (getattr(scipy.sparse, f"{kind}_array"), getattr(scipy.sparse, f"{kind}_matrix")):
        matrix = make(np.diag([1.0, 0.0, 2.0]))
        loaded = to_and_fro(matrix, tmp_path / "matrix.skops")
        assert type(loaded) is type(matrix)
        same(loaded.toarray(), matrix.toarray())


def test_a_request_of_another_thread_is_in_the_file_whole_or_not_at_all(tmp_path):
    est = UnlearnableClassifier(net(max_epochs=1), FineTune(1), random_state=0).fit(X, y)
    thread = threading.Thread(target=lambda: [est.forget(X[n : n + 1]) for n in range(20)])
    thread.start()
    seen = set()
    while thread.is_alive():
        loaded = to_and_fro(est, tmp_path / "model.skops")
        assert len(loaded.training_set_) + len(loaded.unlearning_history_) == N
        seen.add(len(loaded.training_set_))
    thread.join()
    assert len(seen) > 1


# ------------------------------------------------------------------------------------------- with or without the rows


def test_without_rows_it_predicts_and_forgets_what_is_handed_in(tmp_path):
    est = small().fit(X, y, sample_id=[f"person-{n}" for n in range(N)])
    est.forget(X[:2])
    before = est.predict_proba(X)
    other = to_and_fro(est, tmp_path / "model.skops", rows=False)
    same(outputs(other, X), before)
    assert hasattr(est, "training_set_")
    assert est.keep_training_set
    assert not hasattr(other, "training_set_")
    other.partial_forget(X[2:4], y[2:4])
    with pytest.raises(ValueError, match="keep_training_set=False"):
        other.forget(X[5:6])
    data = (tmp_path / "model.skops").read_bytes()
    assert not any(row.tobytes() in data for row in X)
    assert b"person-" not in data
    reference = UnlearnableClassifier(net(), keep_training_set=False, random_state=0).fit(X, y)
    keeping = UnlearnableClassifier(net(), random_state=0).fit(X, y)
    stripped = to_and_fro(keeping, tmp_path / "model.skops", rows=False)
    for one in (stripped, reference):
        one.partial_forget(X[2:4], y[2:4])
    same(outputs(stripped, X), outputs(reference, X))


def test_receipts_go_where_they_are_not_wanted(tmp_path):
    est = small().fit(X, y)
    est.receipts_ = ["one"]
    assert to_and_fro(est, tmp_path / "model.skops").receipts_ == ["one"]
    assert not hasattr(to_and_fro(est, tmp_path / "model.skops", receipts=False), "receipts_")
    assert est.receipts_ == ["one"]


@pytest.mark.parametrize("composite", [False, True])
def test_no_erased_row_is_in_the_file(composite, tmp_path):
    marked = X.copy()
    marked[7] = [1234.5678, -8765.4321, 0.12345678, 777.77777]
    ids = [f"person-{n:04d}" for n in range(N)]
    est = UnlearnableClassifier(OwnNet, random_state=0).fit(marked, y, sample_id=ids)
    model = make_pipeline(StandardScaler().fit(X), est) if composite else est
    path = tmp_path / "model.skops"
    sk_unlearn.save(model, path)
    assert marked[7].tobytes() in path.read_bytes()
    est.forget(sample_id=[ids[7]])
    sk_unlearn.save(model, path)
    data = path.read_bytes()  # nothing in it is compressed
    assert not any(marked[7, n : n + 1].tobytes() in data for n in range(D))
    assert ids[7].encode() not in data
    assert ids[7].encode("utf-32-le") not in data
    assert ids[8].encode("utf-32-le") in data


# ------------------------------------------------------------------------------------------------- what cannot be saved


def test_what_cannot_be_saved_says_where_it_is(tmp_path):
    path = tmp_path / "model.skops"
    sk_unlearn.save(small().fit(X, y), path)
    before = path.read_bytes()
    est = UnlearnableClassifier(
        net(callbacks=[("rates", LRScheduler(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda _: 1.0))]),
        random_state=0,
    ).fit(X, y)
    with pytest.raises(
        PersistenceError, match=r"callbacks.*lr_lambda.* holds a lambda and cannot be saved; define it at"
    ):
        sk_unlearn.save(est, path)

    class Local:
        pass

    with pytest.raises(PersistenceError, match="which is not found in its module"):
        sk_unlearn.save(Local(), path)
    for value, message in (
        ([].append, "holds the method append of a list, which cannot be saved"),
        (Slotted.of_class, "holds the class method of_class, which cannot be saved; use a function"),
        ((n for n in X), r"generator cannot be saved \(TypeError\)"),
        (NotImplemented, "is a NotImplementedType, which cannot be saved"),
        (np.array([(1, "Jane")], dtype=[("a", int), ("b", object)]), "is of the data type .*, which cannot be saved"),
    ):
        with pytest.raises(PersistenceError, match=message):
            sk_unlearn.save(value, path)
    with pytest.raises(PersistenceError, match="which is not found in its module") as caught:
        sk_unlearn.save({"Jane Doe": Local()}, path)
    assert "Jane" not in str(caught.value)
    nested = []
    for _ in range(10 * sys.getrecursionlimit()):
        nested = [nested]
    with pytest.raises(PersistenceError, match="nested too deeply"):
        sk_unlearn.save(nested, path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["model.skops"]


@pytest.mark.gpu
def test_from_the_gpu_to_where_there_is_none(tmp_path):
    est = small(device="cuda").fit(X, y)
    path = tmp_path / "model.skops"
    sk_unlearn.save(est, path)
    loaded = sk_unlearn.load(path)
    assert next(loaded.net_.module_.parameters()).is_cuda
    same(outputs(loaded, X), outputs(est, X))
    code = (
        "import sys, numpy as np, sk_unlearn; est = sk_unlearn.load(sys.argv[1]); X = np.load(sys.argv[2]); "
        "est.forget(X[:2]); assert est.net_.device == 'cpu' and np.isfinite(est.predict_proba(X)).all()"
    )
    np.save(tmp_path / "X.npy", X)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, path, tmp_path / "X.npy"],
        check=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )


def test_pending_requests_are_not_left_out_with_the_rows(tmp_path):
    est = small().fit(X, y)
    est.request_forget(X[:1])
    with pytest.raises(PersistenceError, match=r"settle\(\) them first, or save with rows=True"):
        sk_unlearn.save(est, tmp_path / "model.skops", rows=False)
    assert len(to_and_fro(est, tmp_path / "model.skops").pending_) == 1
