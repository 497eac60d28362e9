"""What an audit says beyond predictions on the rows at hand."""

import copy

import numpy as np
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingClassifier
from sklearn.preprocessing import OneHotEncoder
from torch import nn

from sk_unlearn import MLPNetRegressor, UnlearnableRegressor
from sk_unlearn.inspection import audit
from sk_unlearn.metrics import memorisation_strata, neighbour_distance
from sk_unlearn.metrics.neighbourhood import recognised_nearby
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.references import fit_many
from sk_unlearn.unlearners import StoCuReNU
from tests._problems import classifier, tiny_classifier

ERASED, KEPT, TEST = slice(0, 12), slice(12, 60), slice(60, 120)


def value(report, measure, on, model):
    table = report.to_frame().set_index(["measure", "rows", "model"])
    return table.loc[(measure, on, model)]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 3))
    return X, (X[:, 0] + 0.3 * rng.normal(size=120) > 0).astype(int)


def test_figures_are_those_of_the_metrics(data):
    X, y = data
    before = tiny_classifier(StoCuReNU(renew=False), random_state=0).fit(X[:60], y[:60])
    after = copy.deepcopy(before).forget(X[ERASED])
    references = fit_many(tiny_classifier(), X[KEPT], y[KEPT], seeds=[1, 2, 3, 4])
    report = audit(after, X[ERASED], y[ERASED], X[TEST], y[TEST], before=before, references=references)
    beside = neighbour_distance(after, references, X[ERASED], X[TEST], n_neighbours=5)
    of_before = neighbour_distance(before, references, X[ERASED], X[TEST], n_neighbours=5)
    next_to = "JS distance (nats)", "next to erased"
    assert value(report, *next_to, "after")["value"] == pytest.approx(beside.distance)
    assert value(report, *next_to, "before")["value"] == pytest.approx(of_before.distance)
    retrained = value(report, *next_to, "retrained")
    assert retrained["value"] == pytest.approx(np.mean(beside.reference_distances))
    assert retrained["low"] < min(beside.reference_distances) < max(beside.reference_distances) < retrained["high"]
    for stratum in memorisation_strata(after, before, references, X[ERASED], y[ERASED]):
        rows = f"erased, {stratum.name} memorisation"
        assert value(report, "distance ratio", rows, "after")["value"] == pytest.approx(stratum.ratio)
        mean = pytest.approx(np.mean(stratum.reference_ratios))
        assert value(report, "distance ratio", rows, "retrained")["value"] == mean
    shares = recognised_nearby([after, before, *references], X[ERASED], y[ERASED], n_neighbours=4)
    found = [value(report, "noisy copies recognised", "erased", each)["value"] for each in ("after", "before")]
    assert found == shares[:2]
    shares = report.to_frame().query("measure.str.contains('recognised|AUC') and model == 'retrained'")
    assert len(shares) >= 3
    assert shares[["low", "high"]].stack().between(0, 1).all()


def test_regression(data):
    X, _ = data
    y = X @ [1.0, 2.0, 3.0] + 1
    est = UnlearnableRegressor(MLPNetRegressor(max_epochs=20), StoCuReNU(renew=False), random_state=0)
    est.fit(X[:60], y[:60]).forget(X[ERASED])
    report = audit(est, X[ERASED], y[ERASED], X[TEST], y[TEST])
    assert value(report, "squared error while learnt again", "erased", "after")["value"] >= 0
    assert value(report, "RMS distance", "next to erased", "after")["value"] > 0
    assert "noisy copies recognised" not in set(report.to_frame()["measure"])
    assert not [note for note in report.assumptions if "not compared" in note or "not learnt again" in note]


def test_models_without_a_net_are_looked_at_from_outside(data):
    X, y = data
    bagging = BaggingClassifier(tiny_classifier(), 2, random_state=0)
    models = [bagging.set_params(random_state=seed).fit(X[KEPT], y[KEPT]) for seed in range(4)]
    models = [copy.deepcopy(each) for each in models]
    retained = {"X_retained": X[KEPT], "y_retained": y[KEPT], "references": models[1:]}
    report = audit(models[0], X[ERASED], y[ERASED], X[TEST], y[TEST], **retained)
    measures = set(report.to_frame()["measure"])
    assert "noisy copies recognised" in measures
    assert "recognised while learnt again" not in measures


def test_what_could_not_be_measured_is_noted(data):
    X, y = data
    X = np.concatenate([X, X[:, :1]], axis=1).astype(object)
    X[:, 3] = "secret"
    steps = make_column_transformer((OneHotEncoder(), [3]), remainder="passthrough")
    pipeline = make_pipeline(steps, tiny_classifier(random_state=0).set_params(estimator__module__n_features_in=4))
    pipeline.fit(X[:60], y[:60]).forget(X[ERASED], y[ERASED])
    report = audit(pipeline, X[ERASED], y[ERASED], X[TEST], y[TEST])
    (note,) = [each for each in report.assumptions if "were not tried" in each]
    assert note == ("Noisy copies of the erased rows were not tried: X must hold numbers, in one dense array or table.")
    assert "secret" not in str(report)


class Taste(nn.Module):
    def __init__(self):
        super().__init__()
        self.user, self.item, self.body = nn.Embedding(12, 4), nn.Embedding(5, 4), nn.Linear(8, 2)

    def forward(self, X):
        return self.body(torch.cat([self.user(X[:, 0]), self.item(X[:, 1])], dim=1))


@pytest.fixture(scope="module")
def users():
    """A request of one user that changed the output layer alone, and everything an audit takes."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(12, size=200), rng.integers(5, size=200)])
    y = (X[:, 0] + rng.integers(2, size=200) * rng.integers(2, size=200)) % 2
    gone, train = X[:, 0] == 3, np.arange(200) < 150
    # What stores the rows has not forgotten them, and no more is said of it.
    before = classifier(module=Taste, lr=0.5, max_epochs=20, random_state=7).set_params(keep_training_set=False)
    before.fit(X[train], y[train])
    after = copy.deepcopy(before)
    with torch.no_grad():
        after.net_.module_.body.weight.mul_(0.9)
    erased, kept = train & gone, train & ~gone
    sets = X[erased], y[erased], X[~train], y[~train]
    return {"estimator": after, "sets": sets, "before": before, "kept": (X[kept], y[kept])}


def judged(users, **given):
    X, y = users["kept"]
    return audit(users["estimator"], *users["sets"], before=users["before"], X_retained=X, y_retained=y, **given)


def references(users, seeds):
    return fit_many(users["before"], *users["kept"], seeds=seeds)


def test_rows_of_embeddings_that_stayed_as_they_were_are_noted(users):
    report = judged(users, references=references(users, [7, 8, 9, 10]))
    measure = "distance from the same seed, user.weight"
    own, old, others = (
        value(report, measure, "used by erased alone", each) for each in ("after", "before", "retrained")
    )
    assert own["value"] == old["value"] > 0.1
    assert others["value"] > 0.1  # rows that nobody used are those of another seed there
    assert value(report, measure, "used by others", "after")["value"] > 0
    (note,) = [each for each in report.reasons if "to the last bit" in each]
    assert note.startswith("1 of 1 rows of user.weight that erased rows alone had used are as they were")
    # Whatever the outputs tell, and however many retrained models fail by them.
    assert report.verdict in ("outputs_only", "not_yet", "over_forgotten")


def test_a_model_of_the_same_seed_is_retrained_where_others_are(users):
    there, here = (judged(users, **given) for given in ({"references": references(users, [7, 8, 9, 10])}, {}))
    measure = "distance from the same seed, user.weight", "used by erased alone", "after"
    assert value(here, *measure)["value"] == pytest.approx(value(there, *measure)["value"], rel=1e-4)
    without = judged(users, references=references(users, [8, 9, 10]))
    assert measure[0] not in set(without.to_frame()["measure"])
    (note,) = [each for each in without.assumptions if "Rows of embeddings" in each]
    assert "no reference was retrained from the seed of the audited model" in note
