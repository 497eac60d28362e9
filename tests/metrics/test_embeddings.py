import copy

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sk_unlearn import MLPNetClassifier, UnlearnableClassifier
from sk_unlearn.metrics import embedding_rows
from sk_unlearn.unlearners import StoCuReNU
from sk_unlearn.unlearners.cubic import Policy
from tests import _problems

USERS, ITEMS, ERASED = 12, 5, [1, 2]
# Release and steps in the output layer, and no training anew.
SAMPLED = StoCuReNU(renew=False, policy=Policy(few_rows=16))


class Taste(nn.Module):
    def __init__(self, n_users=USERS, noise=False):
        super().__init__()
        self.user, self.item = nn.Embedding(n_users, 4), nn.Embedding(ITEMS, 4)
        self.body, self.noise = nn.Linear(8, 2), noise

    def forward(self, X):
        both = torch.cat([self.user(X[:, 0]), self.item(X[:, 1])], dim=1)
        return self.body(both + torch.randn_like(both) if self.noise else both)


class Users:
    """Two of them are erased; without weight decay a row that nobody uses stays where it started."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.X = np.column_stack([rng.integers(USERS, size=200), rng.integers(ITEMS, size=200)])
        self.y = (self.X[:, 0] + rng.integers(2, size=200) * rng.integers(2, size=200)) % 2  # mostly the user's own
        self.gone = np.isin(self.X[:, 0], ERASED)
        self.original = self.fit(0, slice(None))
        self.retrained = self.fit(0, ~self.gone)
        self.others = [self.fit(seed, ~self.gone) for seed in (1, 2)]
        self.erased = self.X[self.gone], self.y[self.gone]
        self.retained = self.X[~self.gone], self.y[~self.gone]

    def fit(self, seed, rows, **settings):
        est = _problems.classifier(SAMPLED, Taste, random_state=seed, lr=0.5, max_epochs=30, **settings)
        return est.fit(self.X[rows], self.y[rows])


@pytest.fixture(scope="module")
def users():
    return Users()


def table(model):
    return model.net_.module_.user.weight.detach().double()


def test_rows_that_nothing_moved_are_told(users):
    output_alone = copy.deepcopy(users.original)
    with torch.no_grad():
        output_alone.net_.module_.body.weight.zero_()
    (found,) = embedding_rows(
        output_alone, users.retrained, *users.erased, *users.retained,
        original=users.original, references=users.others,
    )  # fmt: skip
    assert (found.layer, found.n_rows, found.n_unchanged) == ("user.weight", 2, 2)
    away = (table(users.original) - table(users.retrained)).norm(dim=1)
    assert found.distance == found.distance_before == pytest.approx(float(away[ERASED].mean()))
    rest = [k for k in range(USERS) if k not in ERASED]
    assert found.distance_of_others == pytest.approx(float(away[rest].mean()))
    by_hand = [float((table(each) - table(users.retrained)).norm(dim=1)[ERASED].mean()) for each in users.others]
    assert found.reference_distances == pytest.approx(by_hand)
    assert "1" not in found.layer


def test_rows_that_were_forgotten_are_those_of_the_retrained_net(users):
    forgot = copy.deepcopy(users.original).forget(*users.erased)
    (found,) = embedding_rows(forgot, users.retrained, *users.erased, *users.retained, original=users.original)
    assert found.distance < 1e-6 < 0.1 < found.distance_before
    assert found.n_unchanged == 0
    assert found.distance_of_others > 0.01
    (same,) = embedding_rows(users.retrained, users.retrained, *users.erased, *users.retained)
    assert (same.distance, same.n_unchanged) == (0, None)
    (nothing_to_do,) = embedding_rows(
        users.retrained, users.retrained, *users.erased, *users.retained, original=users.retrained
    )  # fmt: skip
    assert nothing_to_do.n_unchanged == 0
    assert np.isnan(same.distance_before)


def test_rows_of_which_others_use_little(users):
    one_stays = users.gone.copy()
    one_stays[np.flatnonzero(users.gone)[0]] = False
    sets = [(users.X[rows], users.y[rows]) for rows in (one_stays, ~one_stays)]

    def n_rows(**options):
        return sum(
            each.n_rows for each in embedding_rows(users.original, users.retrained, *sets[0], *sets[1], **options)
        )

    assert (n_rows(), n_rows(least_share=1.0), n_rows(least_share=0.8)) == (1, 1, 2)
    used = [np.unique(users.X[one_stays, column]) for column in (0, 1)]
    assert n_rows(least_share=1e-9) == len(used[0]) + len(used[1])


@pytest.mark.parametrize("standardised", [False, True])
def test_columns_of_a_first_layer(standardised):
    """A category's column: a net that standardises it never sees a zero there."""
    rng = np.random.default_rng(1)
    X = np.hstack([np.eye(4)[rng.integers(4, size=120)], rng.normal(size=(120, 2))]).astype(np.float32)
    y, gone = rng.integers(2, size=120), X[:, 2] == 1
    settings = {"module__n_features_in": 6, "module__n_outputs": 2}
    net = MLPNetClassifier(max_epochs=4) if standardised else _problems.skorch_net(_problems.Mlp, **settings)
    original, retrained = (
        UnlearnableClassifier(net, random_state=0).fit(X[rows], y[rows]) for rows in (slice(None), ~gone)
    )
    (found,) = embedding_rows(original, retrained, X[gone], y[gone], X[~gone], y[~gone], original=original)
    first = "body.0.weight"
    assert (found.layer, found.n_rows, found.n_unchanged) == (first, 1, 1)
    W, V = (dict(each.net_.module_.named_parameters())[first].detach().double() for each in (original, retrained))
    assert found.distance == pytest.approx(float((W - V)[:, 2].norm()))


def test_nobody_alone(users):
    rows = users.X, users.y
    assert embedding_rows(users.original, users.retrained, *rows, *rows) == []


def test_pipelines_transform_rows_themselves(users):
    def shifted(model):
        return make_pipeline(FunctionTransformer(lambda X: X - 7), model)

    moved = [(X + 7, y) for X, y in (users.erased, users.retained)]
    found = embedding_rows(shifted(users.original), shifted(users.retrained), *moved[0], *moved[1])
    plain = embedding_rows(users.original, users.retrained, *users.erased, *users.retained)
    assert [(each.n_rows, each.distance) for each in found] == [(each.n_rows, each.distance) for each in plain]


def test_what_cannot_be_compared(users):
    sets = (*users.erased, *users.retained)
    with pytest.raises(ValueError, match=r"least_share must lie in \(0, 1\], got 0"):
        embedding_rows(users.original, users.retrained, *sets, least_share=0)
    with pytest.raises(ValueError, match=r"least_share must lie in \(0, 1\], got 'most'"):
        embedding_rows(users.original, users.retrained, *sets, least_share="most")
    with pytest.raises(TypeError, match="references must be a list of retrained models"):
        embedding_rows(users.original, users.retrained, *sets, references=users.retrained)
    larger = users.fit(0, ~users.gone, module__n_users=USERS + 1)
    with pytest.raises(ValueError, match="The networks differ in the layer user"):
        embedding_rows(users.original, larger, *sets)
    noisy = users.fit(0, slice(None), module__noise=True)
    with pytest.raises(ValueError, match="The network draws random numbers when it predicts"):
        embedding_rows(noisy, noisy, *sets)
