"""Tables that are kept for steps: what their columns know beside their rows goes with the rows."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from imblearn.over_sampling import SMOTENC, RandomOverSampler
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import sk_unlearn
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.unlearners import FineTune
from tests._problems import classifier

N, SECRET = 40, "Atlantis under the sea"
TYPES = {
    "categories": pd.CategoricalDtype(["Ulm", SECRET, "Bonn", "declared"]),
    "ordered": pd.CategoricalDtype([SECRET, "Ulm", "Bonn", "declared"], ordered=True),
    "texts": "str",
    "arrow": "string[pyarrow]",
    "object": object,
    "dictionary": "dictionary",
}
POLARS = {"polars texts": pl.String, "polars enum": pl.Enum(["Ulm", SECRET, "Bonn", "declared"])}


def table(kind):
    rng = np.random.default_rng(5)
    town = rng.choice(["Ulm", "Bonn"], N).astype(object)
    town[7] = SECRET
    age = rng.normal(size=N)
    dtype = TYPES.get(kind)
    if kind in ("arrow", "dictionary"):
        pa = pytest.importorskip("pyarrow")
        if kind == "dictionary":  # which pandas makes of no objects
            town, dtype = pd.Series(town, dtype=pd.ArrowDtype(pa.string())), pa.dictionary(pa.int32(), pa.string())
            dtype = pd.ArrowDtype(dtype)
    if kind in POLARS:
        return pl.DataFrame({"town": pl.Series(town.tolist(), dtype=POLARS[kind]), "age": age})
    return pd.DataFrame({"town": pd.Series(town, dtype=dtype), "age": age})


def some(X, places):
    return X[places] if isinstance(X, pl.DataFrame) else X.iloc[places]


def fitted(X, *before, sample_id=None):
    columns = [("town", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["town"])]
    steps = ColumnTransformer([*columns, ("age", StandardScaler(), ["age"])])
    y = (np.asarray(X["age"]) > 0).astype(int)
    return make_pipeline(*before, steps, classifier(unlearner=FineTune(1), max_epochs=1, batch_size=20)).fit(
        X, y, sample_id=sample_id
    )


def written(pipe, path):
    sk_unlearn.save(pipe, path)
    return pickle.dumps(pipe) + path.read_bytes()


VERBS = ["forget", "by identifier", "correct", "settle"]


# Each kind by two of the verbs: a column is cleaned in one place, whatever asked for it.
PAIRS = [(VERBS[k % 4], kind) for n, kind in enumerate([*TYPES, *POLARS]) for k in (n, n + 2 - n // 4)]


@pytest.mark.parametrize(("verb", "kind"), PAIRS)
def test_no_column_knows_a_value_that_only_erased_rows_had(verb, kind, tmp_path):
    X = table(kind)
    pipe = fitted(X, sample_id=range(N))
    assert SECRET.encode() in written(pipe, tmp_path / "before.skops")
    if verb == "forget":
        pipe.forget(some(X, [7]))
    elif verb == "by identifier":
        pipe.forget(sample_id=[7])
    elif verb == "correct":
        pipe.correct(some(X, [7]), X_new=some(X, [0]))
    else:
        pipe.request_forget(some(X, [7]))
        pipe.settle()
    assert SECRET.encode() not in written(pipe, tmp_path / "after.skops")
    pipe.partial_fit(some(X, [9]), [0], sample_id=[N])
    pipe.forget(some(X, [3]))
    assert SECRET.encode() not in written(pipe, tmp_path / "after.skops")
    assert isinstance(pipe.pipeline_state_.raw.X["town"].dtype, type(X["town"].dtype))  # as a selector looks for
    np.testing.assert_array_equal(pipe[0].named_transformers_["town"].categories_[0], ["Bonn", "Ulm"])


def test_categories_that_others_have_or_that_somebody_declared_stay():
    X = table("ordered")
    X.loc[8, "town"] = SECRET
    X.loc[9, "town"] = np.nan
    pipe = fitted(X)
    pipe.forget(X.iloc[[7, 9]])
    assert list(pipe.pipeline_state_.raw.X["town"].dtype.categories) == [SECRET, "Ulm", "Bonn", "declared"]
    pipe.forget(X.iloc[[8]])
    assert list(pipe.pipeline_state_.raw.X["town"].dtype.categories) == ["Ulm", "Bonn", "declared"]
    assert SECRET in X["town"].dtype.categories  # the caller's table is left alone


@pytest.mark.parametrize("sampler", [RandomOverSampler(random_state=0), SMOTENC(["town"], random_state=0)], ids=repr)
def test_rows_that_a_sampler_drew_lose_them_too(sampler):
    X = table("categories")
    pipe = fitted(X, sampler)
    assert SECRET.encode() in pickle.dumps(pipe)
    pipe.forget(X.iloc[[7]])
    assert SECRET.encode() not in pickle.dumps(pipe)
