"""Rows whose columns are not as they were: in another order they are found, of other kinds an error names them."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.ensemble import VotingClassifier
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import sk_unlearn
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.unlearners import FineTune
from tests._problems import classifier

N = 30
VISITS = pd.DataFrame(
    {
        "age": np.random.default_rng(0).normal(size=N),
        "zip": [f"0{1000 + n}" for n in range(N)],
        "came": pd.date_range("2024-01-01", periods=N, tz="Europe/Berlin"),
        "born": pd.date_range("1970-01-01", periods=N),
        "stayed": pd.to_timedelta(np.arange(N), unit="h"),
    }
)
CHANGES = {
    "zip": (lambda column: column.astype(int), "zip (numbers, and texts at fit)"),
    "came": (lambda column: column.dt.tz_localize(None), "came (times without a zone, and times with a zone at fit)"),
    "born": (lambda column: column.astype(str), "born (texts, and times without a zone at fit)"),
    "stayed": (lambda column: column.dt.total_seconds(), "stayed (numbers, and durations at fit)"),
}


def ages(X):
    return X[["age"]].to_numpy().astype(np.float32)


def fitted(X=VISITS):
    last = classifier(FineTune(1), max_epochs=1, batch_size=30)
    return make_pipeline(FunctionTransformer(ages), last).fit(X, np.arange(N) % 2)


@pytest.mark.parametrize("column", CHANGES)
@pytest.mark.parametrize("verb", ["forget", "request_forget", "correct", "composite"])
def test_an_error_names_the_column(verb, column):
    pipe = fitted()
    change, told = CHANGES[column]
    rows = VISITS.iloc[[4]].assign(**{column: change(VISITS[column].iloc[[4]])})
    asks = {"correct": lambda: pipe.correct(rows, y_new=[0]), "composite": lambda: sk_unlearn.forget(pipe, rows)}
    ask = asks.get(verb, lambda: getattr(pipe, verb)(rows))
    with pytest.raises(ValueError, match="Columns hold other kinds of values than at fit: ") as caught:
        ask()
    assert f"at fit: {told}. Read them as fit was given them." in str(caught.value)
    assert VISITS["zip"][4] not in str(caught.value)


def test_it_says_nothing_of_columns_that_are_as_they_were():
    rows = VISITS.iloc[[4]].assign(age=99.0, born=pd.NaT)
    for X, asked in ((VISITS, rows), (polars(VISITS), polars(rows))):
        with pytest.raises(ValueError, match="cannot be found") as caught:
            fitted(X).forget(asked)
        assert "kinds" not in str(caught.value)
    with pytest.raises(ValueError, match=r"kinds of values than at fit: zip \(numbers, and texts at fit\)"):
        fitted(polars(VISITS)).forget(polars(rows.assign(zip=1)))


def polars(table):
    """Without pyarrow, which polars asks for to take texts from pandas."""
    columns = {name: table[name].astype(object).where(table[name].notna(), None) for name in table}
    return pl.DataFrame({name: column.tolist() for name, column in columns.items()})


def test_an_ensemble_says_which_columns_are_missing():
    pipe = fitted()
    vote = VotingClassifier([("a", pipe), ("b", pipe)]).fit(VISITS, np.arange(N) % 2)
    with pytest.raises(ValueError, match=r"other columns than the rows of fit: 1 of those are absent \(zip\)"):
        sk_unlearn.forget(vote, VISITS.iloc[[4]].drop(columns="zip"))


@pytest.mark.parametrize("keep_raw", [True, False])
@pytest.mark.parametrize("read", [pd.DataFrame, pl.from_pandas], ids=["pandas", "polars"])
def test_columns_come_in_any_order_to_every_verb(read, keep_raw):
    rng = np.random.default_rng(3)
    X, y = pd.DataFrame(rng.normal(size=(N, 3)) * [1, 10, 100], columns=list("abc")), np.arange(N) % 2
    last = classifier(FineTune(1), max_epochs=1, batch_size=30)
    pipe = make_pipeline(StandardScaler(), last, keep_raw=keep_raw).fit(read(X), y)

    def turned(rows):
        return read(rows[["c", "a", "b"]].reset_index(drop=True))

    new = X[:2] + 0.25
    pipe.forget(turned(X[:1]))
    pipe.partial_forget(turned(X[1:3]), y[1:3])
    pipe.correct(turned(X[3:4]), X_new=turned(new[:1]))
    pipe.partial_fit(turned(new[1:]), y[:1])
    expected = StandardScaler().fit(pd.concat([X[4:], new]))
    np.testing.assert_allclose(pipe[0].mean_, expected.mean_, rtol=1e-10)
    np.testing.assert_allclose(pipe[0].var_, expected.var_, rtol=1e-10)
