"""What forgetting in transformers is compared with: the same transformers, fitted on the rows that stay."""

import numbers
import pickle

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, clone

from sk_unlearn.preprocessing import remember

TOLERANCE = 1e-10


def mixed_table(rng, n, missing=True):
    """Numbers of several sizes, strings, a category dtype and dates, some of them missing."""
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n).astype(float),
            "income": 1e6 + rng.normal(size=n),
            "size": 1e-6 * rng.normal(size=n),
            "city": rng.choice(["Turin", "Lyon", "Graz", "Porto", "Gent"], n).astype(object),
            "job": pd.Categorical(rng.choice(["nurse", "cook", "smith"], n)),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 4, n), unit="D"),
        }
    )
    if missing:
        for name in ("age", "income", "city"):
            table.loc[rng.choice(n, max(n // 10, 2), replace=False), name] = np.nan
    return table


def rows(X, places):
    """Some rows of a table of any kind."""
    if hasattr(X, "iloc"):
        return X.iloc[places]
    return [X[place] for place in places] if isinstance(X, list) else X[places]


def dense(Z):
    return Z.toarray() if sparse.issparse(Z) else np.asarray(Z)


def assert_same(new, expected, where="step"):
    """Fitted attributes are equal, numbers to ten digits."""
    assert type(new) is type(expected) or isinstance(expected, numbers.Number), where
    if isinstance(expected, BaseEstimator):
        assert set(vars(new)) == set(vars(expected)), where
        for name, value in vars(expected).items():
            if name == "_metadata_request":  # which says the same and does not compare
                continue
            assert_same(getattr(new, name), value, f"{where}.{name}")
    elif isinstance(expected, list | tuple):
        assert len(new) == len(expected), where
        for k, (a, b) in enumerate(zip(new, expected, strict=True)):
            assert_same(a, b, f"{where}[{k}]")
    elif isinstance(expected, np.ndarray) and expected.dtype.kind in "fc":
        assert new.dtype == expected.dtype, where
        rtol = 1e-5 if expected.dtype == np.float32 else TOLERANCE
        # What lies around zero has the rounding errors of what was added up, which is of the order of one.
        atol = {"components_": rtol, "mean_": rtol * 1e-5, "statistics_": rtol * 1e-5}.get(where.split(".")[-1], 1e-20)
        np.testing.assert_allclose(new, expected, rtol=rtol, atol=atol, err_msg=where)
    elif isinstance(expected, np.ndarray) and expected.dtype != object:
        assert new.dtype == expected.dtype, where
        np.testing.assert_array_equal(new, expected, err_msg=where)
    elif isinstance(expected, np.ndarray):
        assert_same(new.tolist(), expected.tolist(), where)
    elif isinstance(expected, numbers.Real) and not isinstance(expected, bool):
        np.testing.assert_allclose(float(new), float(expected), rtol=TOLERANCE, err_msg=where)
    elif isinstance(expected, dict):
        assert new.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_same(new[key], value, f"{where}[{key!r}]")
    elif not callable(expected):
        assert new is expected or new == expected or repr(new) == repr(expected), where


def assert_forgets(transformer, X, groups, *, y=None, retained=False, stored=True, weights=None, tolerance=TOLERANCE):
    """Take groups of rows out of a transformer one after another; each time it is as fitted on the others.

    Parameters
    ----------
    groups : list of list of int
        Places in X.
    retained : bool
        Whether the rows that stay are at hand for steps that are fitted anew.
    stored : bool
        Whether outputs of the rows that stay can be brought into the new coordinates without raw rows.
    weights : tuple or None
        Name of the parameter and the weights of all rows.

    Returns
    -------
    transformer, memory : as they are in the end
    """

    def params(places):
        return {} if weights is None else {weights[0]: weights[1][places]}

    n = len(X) if isinstance(X, list) else X.shape[0]
    stay = np.arange(n)
    step = clone(transformer)
    Z = dense(step.fit_transform(X, y, **params(stay)))
    memory = pickle.loads(pickle.dumps(remember(step, X, y, **params(stay))))  # as out of a file
    for group in groups:
        gone = np.asarray(group)
        kept = ~np.isin(stay, gone)
        stay, Z = stay[kept], Z[kept]
        X_kept, y_kept = rows(X, stay), None if y is None else y[stay]
        at_hand = (X_kept, y_kept, params(stay)) if retained else None
        forgotten = memory.without(step, rows(X, gone), None if y is None else y[gone], at_hand, **params(gone))
        expected = clone(transformer)
        Z_expected = dense(expected.fit_transform(X_kept, y_kept, **params(stay)))

        assert forgotten.still_there == []
        assert_same(forgotten.transformer, expected)
        assert len(forgotten.columns) == Z_expected.shape[1]
        Z = dense(forgotten.outputs(Z, None if stored else X_kept))
        np.testing.assert_allclose(Z, Z_expected, rtol=tolerance, atol=tolerance)
        again = dense(forgotten.transformer.transform(X_kept))
        np.testing.assert_allclose(again, dense(expected.transform(X_kept)), rtol=tolerance, atol=tolerance)
        step, memory = forgotten.transformer, forgotten.memory
        assert memory.n_rows == len(stay)
    return step, memory
