"""Codes before embeddings: where a category is gone, the others keep their rows of the table, and predictions stay."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from torch import nn

from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.preprocessing import remember
from sk_unlearn.unlearners import StoCuReNU
from tests import _problems
from tests.pipeline.test_pipeline import check_steps

N = 90
rng = np.random.default_rng(4)
TOWNS = np.array(["Bonn", "Celle", "Jena", "Ulm", "Wien"])
PEOPLE = pd.DataFrame(
    {
        "town": rng.choice(TOWNS, N),
        "job": rng.choice(["baker", "cook", "smith"], N),
        "age": rng.integers(18, 90, N).astype(float),
    }
)
PEOPLE.loc[7, ["town", "job"]] = ["Aachen", "actor"]  # the first in both: all other codes move
BOUGHT = np.where(PEOPLE.town.isin(["Bonn", "Ulm"]) ^ (rng.random(N) < 0.1), "yes", "no")
WORDS = ["town", "job"]


class Lookup(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(6, 4), nn.Embedding(4, 4)])
        self.out = nn.Linear(8 + n_features_in - 2, n_outputs)

    def forward(self, X):
        codes = X[:, :2].long()
        parts = [table(codes[:, k]) for k, table in enumerate(self.tables)]
        return self.out(torch.tanh(torch.cat([*parts, X[:, 2:].to(self.out.weight.dtype)], dim=1)))


def net(unlearner=None, module=Lookup, **settings):
    """A net whose weights requests move, and do not train anew."""
    unlearner = unlearner or StoCuReNU(renew=False)
    return _problems.classifier(unlearner, module, **({"max_epochs": 6, "lr": 0.3, "batch_size": 16} | settings))


def table_of(pipe, k=0):
    return pipe[-1].net_.module_.tables[k].weight.detach().clone()


STAY = np.delete(np.arange(N), 7)


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_the_rows_of_the_tables_follow_their_categories(dtype):
    pipe = make_pipeline(OrdinalEncoder(dtype=dtype), net()).fit(PEOPLE[WORDS], BOUGHT)
    before = [table_of(pipe, k) for k in range(2)]
    began = pipe[-1].unlearning_state_.start.parameters[: 6 * 4].view(6, 4).clone()
    pipe.forget(PEOPLE[WORDS].iloc[[7]])
    assert pipe.unlearning_report_.method != "Retrain"
    check_steps(pipe, PEOPLE[WORDS].iloc[STAY], BOUGHT[STAY])
    after = [table_of(pipe, k) for k in range(2)]
    for old, new in zip(before, after, strict=True):
        close, apart = (new[:-1] - old[1:]).norm(dim=1), (new[:-1] - old[:-1]).norm(dim=1)
        assert (close < apart).all()
    # The row of the category that is gone stands last, and is what it was before it learnt.
    torch.testing.assert_close(after[0][-1], began[0], atol=1e-6, rtol=0)
    assert any("Release" in note for note in pipe.unlearning_report_.notes)
    # And once more, with the codes that there are now.
    left = PEOPLE[WORDS].iloc[STAY]
    gone = left.town == "Bonn"
    pipe.forget(left[gone])
    assert pipe[0].categories_[0].tolist() == ["Celle", "Jena", "Ulm", "Wien"]
    check_steps(pipe, left[~gone], BOUGHT[STAY][~gone])


def mixed():
    return ColumnTransformer([("codes", OrdinalEncoder(), WORDS), ("numbers", StandardScaler(), ["age"])])


def test_numbers_beside_the_codes():
    """A scale moves a little with every row; the tables follow the codes all the same."""
    pipe = make_pipeline(mixed(), net()).fit(PEOPLE, BOUGHT)
    before, expected = table_of(pipe), pipe.predict_proba(PEOPLE.iloc[STAY])
    pipe.forget(PEOPLE.iloc[[7]])
    assert pipe.unlearning_report_.method != "Retrain"
    check_steps(pipe, PEOPLE.iloc[STAY], BOUGHT[STAY])
    new = table_of(pipe)[:-1]
    assert ((new - before[1:]).norm(dim=1) < (new - before[:-1]).norm(dim=1)).all()
    assert np.abs(pipe.predict_proba(PEOPLE.iloc[STAY]) - expected).mean() < 0.05


def test_numbers_as_they_come_beside_the_codes():
    columns = ColumnTransformer([("codes", OrdinalEncoder(), WORDS), ("numbers", "passthrough", ["age"])])
    pipe = make_pipeline(columns, net(lr=0.01)).fit(PEOPLE, BOUGHT)
    pipe.forget(PEOPLE.iloc[[7]])
    assert pipe.unlearning_report_.method != "Retrain"
    check_steps(pipe, PEOPLE.iloc[STAY], BOUGHT[STAY])


class Numeric(Lookup):
    """Takes the code of a town for a number, too."""

    def forward(self, X):
        return super().forward(X) + X[:, :1].to(self.out.weight.dtype)


def test_codes_that_are_numbers_too_are_followed_by_training_anew():
    pipe = make_pipeline(OrdinalEncoder(), net(module=Numeric)).fit(PEOPLE[WORDS], BOUGHT)
    pipe.forget(PEOPLE[WORDS].iloc[[7]])
    assert pipe.unlearning_report_.method == "Retrain"
    check_steps(pipe, PEOPLE[WORDS].iloc[STAY], BOUGHT[STAY])


def test_the_last_category_moves_no_code():
    people = PEOPLE.assign(town=PEOPLE.town.replace("Aachen", "Zwickau"), job=PEOPLE.job.replace("actor", "cook"))
    pipe = make_pipeline(OrdinalEncoder(), net()).fit(people[WORDS], BOUGHT)
    pipe.forget(people[WORDS].iloc[[7]])
    check_steps(pipe, people[WORDS].iloc[STAY], BOUGHT[STAY])
    assert "Zwickau" not in pipe[0].categories_[0]


def test_codes_and_indicators_in_one_sparse_table():
    columns = ColumnTransformer(
        [("codes", OrdinalEncoder(), ["town"]), ("indicators", OneHotEncoder(), WORDS)], sparse_threshold=1
    )
    columns.fit(PEOPLE)
    forgotten = remember(columns, PEOPLE).without(columns, PEOPLE.iloc[[7]])
    new = forgotten.outputs(columns.transform(PEOPLE.iloc[STAY]))
    np.testing.assert_array_equal(new.toarray(), forgotten.transformer.transform(PEOPLE.iloc[STAY]).toarray())
    assert forgotten.codes[0].tolist() == [-1, 0, 1, 2, 3, 4]


class OneTable(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.tables, self.out = nn.ModuleList([nn.Embedding(5, 4)]), nn.Linear(4, n_outputs)

    def forward(self, X):
        return self.out(self.tables[0](X[:, 0].long()))


def test_codes_that_become_one_are_no_new_order():
    """A category that is rare now joins those that were: two rows of the table become one."""
    towns = np.repeat(["a", "b", "c", "d", "e"], [40, 30, 8, 8, 4])
    people, ids = pd.DataFrame({"town": towns}), np.arange(N)
    pipe = make_pipeline(OrdinalEncoder(min_frequency=8), net(module=OneTable)).fit(people, BOUGHT, sample_id=ids)
    gone = int(np.flatnonzero(towns == "c")[0])
    pipe.forget(sample_id=[gone])
    stay = np.delete(np.arange(N), gone)
    assert pipe[0].infrequent_categories_[0].tolist() == ["c", "e"]
    check_steps(pipe, people.iloc[stay], BOUGHT[stay])
    assert pipe.unlearning_report_.method == "Retrain"
