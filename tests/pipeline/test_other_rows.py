"""Last steps whose rows are no vectors: images, and columns by name."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OrdinalEncoder, StandardScaler
from torch import nn

from sk_unlearn.pipeline import make_pipeline
from tests import _problems

rng = np.random.default_rng(8)
X = rng.normal(size=(60, 16)) * 3 + 1
y = (X[:, 0] > 1).astype(int)


def as_images(X):
    return np.asarray(X, dtype=np.float32).reshape(-1, 1, 4, 4)


class Convolutional(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(27, 2))


def images(first, **settings):
    net = _problems.classifier(module=Convolutional, max_epochs=3, lr=0.1, batch_size=16)
    return make_pipeline(first, FunctionTransformer(as_images), net, **settings).fit(X, y)


@pytest.mark.parametrize("first", [StandardScaler(), MinMaxScaler()], ids=["moves", "stays"])
def test_images_are_made_anew_where_the_steps_have_moved(first):
    pipe = images(first)
    inside = np.flatnonzero(((X.min(axis=0) < X) & (X.max(axis=0) > X)).all(axis=1))[:2]
    pipe.forget(X[inside])
    stay = np.delete(np.arange(60), inside)
    fresh = type(first)().fit(X[stay])
    np.testing.assert_allclose(pipe[-1].training_set_.X, as_images(fresh.transform(X[stay])), rtol=1e-6, atol=1e-6)
    pipe.correct(X[stay[:1]], X_new=X[stay[:1]] + 0.01)
    pipe.partial_fit(X[inside], y[inside])
    pipe.request_forget(X[inside[:1]])
    pipe.settle()
    assert len(pipe[-1].training_set_) == 59
    assert pipe.predict(X).shape == (60,)


def test_images_that_cannot_be_made_anew_are_refused():
    pipe = images(StandardScaler(), keep_raw=False)
    with pytest.raises(ValueError, match="fit with keep_raw=True, or set preprocessing"):
        pipe.forget(X[:1])
    assert len(pipe[-1].training_set_) == 60


class ByName(nn.Module):
    """Takes a column of codes and one of numbers by their names."""

    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(4, 2), nn.Linear(3, 2)

    def forward(self, town, age):
        return self.out(nn.functional.pad(self.table(town.long().reshape(-1)), (0, 1)) + age.reshape(-1, 1).float())


def test_columns_by_name():
    people = pd.DataFrame({"town": rng.choice(["Bonn", "Jena", "Ulm"], 60), "age": rng.normal(40, 9, 60)})
    people.loc[4, "town"] = "Atlantis"
    table = ColumnTransformer([("town", OrdinalEncoder(dtype=np.int64), ["town"]), ("age", StandardScaler(), ["age"])])
    net = _problems.classifier(module=ByName, max_epochs=3, lr=0.1, batch_size=16)
    pipe = make_pipeline(table.set_output(transform="pandas").set_params(verbose_feature_names_out=False), net)
    pipe.fit(people, y)
    pipe.forget(people.iloc[[4, 5]])
    stay = np.delete(np.arange(60), [4, 5])
    fresh = clone(table).fit(people.iloc[stay])
    expected = fresh.transform(people.iloc[stay])
    assert np.array_equal(pipe[-1].training_set_.X["town"].reshape(-1), expected["town"])
    np.testing.assert_allclose(pipe[-1].training_set_.X["age"].reshape(-1), expected["age"], rtol=1e-5)
    assert pipe.predict(people.iloc[stay]).shape == (58,)
