"""Rows that come as a data set of PyTorch's or skorch's, which has its targets with it."""

import numpy as np
import pytest
import torch
from skorch import NeuralNetRegressor
from skorch.dataset import Dataset as SkorchDataset
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from tests._problems import LinearLayer, Mlp, skorch_net

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2100, 3)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


class Items(Dataset):
    """One item at a time, each read once."""

    def __init__(self, X, y, kind=np.asarray):
        self.X, self.y, self.kind, self.n_read = X, y, kind, 0

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError
        self.n_read += 1
        return self.kind(self.X[i]), self.y[i]


FORMS = {
    "skorch": lambda rows: SkorchDataset(X[rows], y[rows]),
    "skorch of tensors": lambda rows: SkorchDataset(torch.tensor(X[rows]), torch.tensor(y[rows])),
    "tensors": lambda rows: TensorDataset(torch.tensor(X[rows]), torch.tensor(y[rows])),
    "subset": lambda rows: Subset(TensorDataset(torch.tensor(X), torch.tensor(y)), np.arange(len(X))[rows].tolist()),
    "two": lambda rows: ConcatDataset([Items(X[rows][:1], y[rows][:1]), Items(X[rows][1:], y[rows][1:])]),
    "arrays": lambda rows: Items(X[rows], y[rows]),
    "items of tensors": lambda rows: Items(X[rows], y[rows], torch.tensor),
}


def estimator():
    return UnlearnableClassifier(skorch_net(Mlp, max_epochs=1, lr=0.1), random_state=0)


def state(est):
    return np.concatenate([tensor.detach().numpy().ravel() for tensor in est.net_.module_.parameters()])


@pytest.fixture(scope="module")
def expected():
    est = estimator().fit(X, y)
    before = state(est)
    return before, state(est.forget(X[:3], y[:3])), state(est.partial_fit(X[:3], y[:3]))


@pytest.mark.parametrize("name", FORMS)
def test_a_data_set_is_its_rows_and_targets(name, expected):
    form = FORMS[name]
    est = estimator().fit(form(slice(None)))
    steps = [state(est)]
    assert len(est.forget(form(slice(0, 3))).training_set_) == len(X) - 3
    steps += [state(est), state(est.partial_fit(form(slice(0, 3))))]
    assert all(np.array_equal(*pair) for pair in zip(steps, expected, strict=True))
    est.correct(form(slice(4, 6)), X_new=form(slice(7, 9))).partial_forget(form(slice(10, 12)))
    assert np.array_equal(est.predict(form(slice(0, 20))), est.predict(X[:20]))


def test_every_item_is_read_once_and_rows_are_found_by_content_and_identifier():
    items = Items(X, y)
    est = estimator().fit(items, sample_id=np.arange(len(X)))
    assert items.n_read == len(X)
    assert len(est.forget(X[:2]).forget(sample_id=[5, 6]).training_set_) == len(X) - 4


def test_targets_beside_a_data_set_count():
    est = estimator().fit(SkorchDataset(X), y)
    assert np.array_equal(est.training_set_.y, y)
    est.forget(SkorchDataset(X[:2]))
    assert len(est.training_set_) == len(X) - 2


def test_items_with_parts():
    class Parts(Dataset):
        def __len__(self):
            return 30

        def __getitem__(self, i):
            return {"x": X[i, :2], "w": X[i, 2:]}, X[i, 0]

    class Weighted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x, w):
            return self.layer(x) * w

    net = skorch_net(Weighted, NeuralNetRegressor, max_epochs=1)
    est = UnlearnableRegressor(net, random_state=0).fit(Parts())
    assert len(est.forget({"x": X[:2, :2], "w": X[:2, 2:]}).training_set_) == 28


class Stream(IterableDataset):
    def __iter__(self):
        return zip(X, y, strict=True)


class NoLength(Dataset):
    def __getitem__(self, i):
        return X[i], y[i]


REFUSED = {
    "stream": (Stream(), TypeError, "X is a Stream, which has no length"),
    "no length": (NoLength(), TypeError, "X is a NoLength, which has no length"),
    "empty": (Items(X[:0], y[:0]), ValueError, "X is empty"),
    "ragged": (Items([X[0], X[1, :2]], y), ValueError, "X has items that cannot be put together"),
    "no targets": (SkorchDataset(X), ValueError, "requires y to be passed"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_data_sets_that_are_refused(what):
    data, kind, message = REFUSED[what]
    with pytest.raises(kind, match=message):
        UnlearnableClassifier(skorch_net(LinearLayer), random_state=0).fit(data)
