"""The rules of an audit, tried on models of which it is known whether they forgot."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from sklearn.base import clone
from sklearn.datasets import make_blobs
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.inspection import audit
from sk_unlearn.inspection._audit._calibration import (
    Calibration,
    Seen,
    calibrate,
    distances_of_another,
    findings,
    tempered,
)
from sk_unlearn.inspection._audit._verdict import PASSES, Verdict, judge
from sk_unlearn.metrics import feature_probe, row_losses
from sk_unlearn.metrics.membership import evaluate_attack, loss_scores
from sk_unlearn.references import fit_many
from sk_unlearn.unlearners import Retrain
from tests._problems import Mlp, regressor

N_REFERENCES, N_JUDGED = 8, 60


def classifier():
    return UnlearnableClassifier(
        NeuralNetClassifier(
            Mlp, module__n_hidden=16, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=0.02,
            max_epochs=30, batch_size=32, train_split=None, verbose=0,
        )
    )  # fmt: skip


def a_class():
    X, y = make_blobs([120, 120, 120], n_features=4, cluster_std=1.5, random_state=0)
    rows = slice(0, 360, 2), slice(1, 360, 2)
    return X.astype(np.float32), y, *rows, y[rows[0]] == 2


def a_memorised_group():
    """Rows near each other that a few of their like say something else about."""
    X, y = make_blobs([180, 180], n_features=4, cluster_std=1.5, random_state=0)
    rows = slice(0, 360, 2), slice(1, 360, 2)
    y = y.copy()
    of_class = np.arange(0, 360, 2)[y[rows[0]] == 0]
    near = of_class[np.argsort(np.linalg.norm(X[of_class] - X[of_class[0]], axis=1))[:20]]
    y[near] = 1
    gone = np.isin(np.arange(0, 360, 2), near)
    return X.astype(np.float32), y, *rows, gone


@pytest.fixture(scope="module", params=[a_class, a_memorised_group], ids=["class", "group"])
def judged(request):
    """Many retrained models and as many that forgot nothing, with what the rules look at."""
    X, y, train, test, gone = request.param()
    kept = X[train][~gone], y[train][~gone]
    n = N_JUDGED + N_REFERENCES
    retrained = fit_many(classifier(), *kept, seeds=range(n))
    untouched = fit_many(classifier(), X[train], y[train], seeds=range(n, n + N_JUDGED))
    erased, unseen = (X[train][gone], y[train][gone]), (X[test], y[test])
    alike = np.isin(unseen[1], erased[1])
    recalls = dict.fromkeys([*retrained, *untouched])
    if not np.isin(erased[1], kept[1]).any():
        found = feature_probe(retrained[0], [*retrained[1:], *untouched], *unseen, erased[1][0], n_draws=3)
        recalls = dict(zip(recalls, [found.recall, *found.reference_recalls], strict=True))

    def probabilities(model, X):
        wide = np.zeros((len(X), y.max() + 1))
        wide[:, model.classes_] = model.predict_proba(X)
        return wide

    known = {
        name: {model: probabilities(model, part[0]) for model in recalls}
        for name, part in (("erased", erased), ("test", unseen))
    }

    def distances(name, model):
        own, others = known[name][model], np.array([known[name][other] for other in retrained])
        middle = (own + others) / 2
        divergence = (rel_entr(own, middle) + rel_entr(others, middle)).sum(axis=2) / 2
        return divergence.mean(axis=1)

    def seen(model):
        own, others = row_losses(model, *erased), row_losses(model, unseen[0][alike], unseen[1][alike])
        attack = evaluate_attack(loss_scores(own), loss_scores(others), n_bootstrap=20, random_state=0)
        return Seen(
            {name: distances(name, model) for name in known},
            attack.auc,
            attack.auc_interval,
            float(own.mean()),
            recalls[model],
        )

    return [seen(model) for model in retrained], [seen(model) for model in untouched]


def verdicts(models, retrained, before, *, among):
    """Judge each model by some of the retrained ones, other ones each time; `among` says that it is one of them."""
    rng, codes = np.random.default_rng(0), []
    negligible = {rows: max(5e-4, 0.003 * distances.mean()) for rows, distances in before.distances.items()}
    for k, one in enumerate(models[:N_JUDGED]):
        others = [j for j in range(len(retrained)) if not (among and j == k)]
        chosen = rng.choice(others, N_REFERENCES, replace=False)
        beside = [retrained[j].beside(chosen) for j in chosen]
        codes.append(judge(findings(one.beside(chosen), beside, negligible)).code)
    return codes


def test_retrained_models_pass(judged):
    retrained, untouched = judged
    codes = verdicts(retrained, retrained, untouched[0], among=True)
    assert sum(code in PASSES for code in codes) >= 0.95 * N_JUDGED


def test_models_that_forgot_nothing_fail(judged):
    retrained, untouched = judged
    codes = verdicts(untouched, retrained, untouched[0], among=False)
    assert sum(code in ("not_yet", "over_forgotten", "outputs_only") for code in codes) >= 0.95 * N_JUDGED


@pytest.mark.parametrize("n", [4, 8])
def test_another_distance_is_expected_where_it_turns_up(n):
    """Of models that lie in directions of their own from a common centre, distances are sums."""
    rng = np.random.default_rng(0)
    hits = 0
    for reaches in np.exp(0.3 * rng.normal(size=(2000, n + 1))):
        own, others = reaches[0], reaches[1:]
        among = [(one * (n - 2) + others.sum()) / (n - 1) for one in others]
        low, high = distances_of_another(among, 1e-9)
        hits += low <= own + others.mean() <= high
    assert 0.98 < hits / 2000 < 0.999


def test_what_is_negligible_is_no_difference():
    """Retrained models that agree to many digits."""
    low, high = distances_of_another([1e-12, 1e-11, 1e-13], 5e-4)
    assert low < 1e-6
    assert high == pytest.approx(5e-4, rel=0.2)


def seen(distances, auc=0.5):
    return Seen({rows: np.array(distances) for rows in ("erased", "test")}, auc, (auc - 0.1, auc + 0.1), 1.0)


def with_distances(matrix):
    return [seen(own) for own in np.asarray(matrix, dtype=float)]


EQUALLY_FAR = 1 - np.eye(5)
NEGLIGIBLE = {"erased": 1e-3, "test": 1e-3}


def test_every_retrained_model_is_judged_by_the_others():
    found = calibrate(with_distances(EQUALLY_FAR), seen([9.0] * 5), NEGLIGIBLE)
    assert found == Calibration(5, 0, 0, "not_yet")
    assert found.n_retrained == 5
    assert found.in_words == [
        "By the same rules 5 of 5 retrained models pass, each judged by the others.",
        "The model before the request fails, as it should.",
    ]
    odd = EQUALLY_FAR.copy()
    odd[0, 1:] = odd[1:, 0] = 30.0
    assert calibrate(with_distances(odd), None, NEGLIGIBLE).n_failed == 1


def test_a_model_that_had_nothing_to_forget_is_told():
    found = calibrate(with_distances(EQUALLY_FAR), seen([1.0] * 5), NEGLIGIBLE)
    assert found.before == "closer"
    assert "there was nothing to see" in found.in_words[1]


def test_three_models_are_too_few_to_leave_one_out():
    found = calibrate(with_distances(1 - np.eye(3)), None, NEGLIGIBLE)
    assert found.n_retrained == 0
    assert "were not tried" in found.in_words[0]
    assert "at least 4" in found.in_words[0]


@pytest.mark.parametrize(
    ("counts", "told"),
    [((3, 0, 1), "others: 1 is not decided."), ((1, 2, 1), "others: 2 fail and 1 is not decided."),
     ((4, 1, 2), "others: 1 fails and 2 are not decided."), ((4, 0, 0), "each judged by the others.")],
)  # fmt: skip
def test_every_retrained_model_is_accounted_for(counts, told):
    found = Calibration(*counts, None).in_words[0]
    assert found.startswith(f"By the same rules {counts[0]} of {sum(counts)} retrained models pass")
    assert found.endswith(told)


def test_failing_says_nothing_where_retrained_models_fail():
    fails, passes = Verdict("not_yet", "Not yet.", ["A reason."]), Verdict("within", "Forgotten.", [])
    doubtful, sound = Calibration(5, 3, 0, None), Calibration(6, 2, 0, None)
    assert tempered(fails, doubtful, is_fact=False).code == "undecided"
    assert "3 of 8 retrained models" in tempered(fails, doubtful, is_fact=False).headline
    assert tempered(fails, sound, is_fact=False) == fails
    assert tempered(passes, doubtful, is_fact=False) == passes
    # Rows that are still stored, and weights that are as they were, are no matter of statistics.
    assert tempered(fails, doubtful, is_fact=True) == fails


def test_an_audit_reports_it():
    X, y, train, test, gone = a_memorised_group()
    kept = X[train][~gone], y[train][~gone]
    models = fit_many(classifier(), *kept, seeds=range(6))
    before = classifier().set_params(random_state=7, keep_training_set=False).fit(X[train], y[train])
    rows = X[train][gone], y[train][gone], X[test], y[test]
    given = {"X_retained": kept[0], "y_retained": kept[1], "before": before}
    report = audit(models[0], *rows, references=models[1:], **given)
    assert report.verdict in PASSES
    assert report.calibration.n_retrained == 5
    assert report.calibration.before == "not_yet"
    assert report.reasons[-2:] == report.calibration.in_words
    assert "On the erased rows it is closer to retrained models than to the model before the request." in report.reasons
    assert '"calibration": {\n    "n_passed": ' in report.to_json()
    nothing = audit(before, *rows, references=models[1:], **given)
    assert nothing.verdict == "not_yet"
    assert (
        "On the erased rows it is closer to the model before the request than to retrained models." in nothing.reasons
    )


def test_a_class_that_was_retrained_away_passes_though_an_output_for_it_is_left():
    """Test rows of the class differ from those that were trained on; a spare output tells them apart by that alone."""
    X, y, train, test, gone = a_class()
    X_test = X[test] + np.where(y[test] == 2, 1.5, 0.0)[:, None].astype(np.float32)
    kept, rows = (X[train][~gone], y[train][~gone]), (X[train][gone], y[train][gone], X_test, y[test])
    longer = classifier().set_params(estimator__max_epochs=120)  # until next to nothing goes to the spare output
    models = fit_many(longer, *kept, seeds=range(8))
    before = clone(longer).set_params(unlearner=Retrain(), random_state=9).fit(X[train], y[train])
    forgot = copy.deepcopy(before).forget(*rows[:2])
    assert len(forgot.classes_) == 1 + len(models[0].classes_)
    by_loss = [row_losses(forgot, *part) for part in (rows[:2], (X_test[y[test] == 2], y[test][y[test] == 2]))]
    assert abs(evaluate_attack(*map(loss_scores, by_loss), n_bootstrap=20).auc - 0.5) > 0.15
    report = audit(forgot, *rows, before=before, references=models)
    assert report.verdict in PASSES
    assert any("do not know every erased class" in each for each in report.assumptions)


def test_too_few_rows_for_an_attack_are_told():
    X, y, train, test, gone = a_class()
    kept = X[train][~gone], y[train][~gone]
    models = fit_many(classifier(), *kept, seeds=range(4))
    X_test, y_test = X[test], y[test]
    few = np.flatnonzero(y_test == 2)[:5], np.flatnonzero(y_test != 2)
    rows = X[train][gone], y[train][gone]

    def told(chosen):
        report = audit(models[0], *rows, X_test[chosen], y_test[chosen], references=models[1:], X_retained=kept[0],
                       y_retained=kept[1])  # fmt: skip
        return [each for each in report.assumptions if each.startswith(("Only", "The attack compares"))]

    assert told(np.r_[few[0], few[1]])[0].startswith(f"Only 5 of the {5 + len(few[1])} test rows are of the erased")
    assert told(few[0])[0].startswith("The attack compares with 5 test rows, and 20 are needed")
    assert told(np.arange(len(y_test)))[0].startswith("The attack compares with the ")


def test_many_runs_judge_the_procedure():
    """A request that does nothing leaves the margins of the erased rows as they were; retraining moves them."""
    X, y, train, test, gone = a_memorised_group()
    rows = X[train][gone], y[train][gone], X[test], y[test]
    models = fit_many(classifier(), X[train][~gone], y[train][~gone], seeds=range(3))
    forgot = classifier().set_params(unlearner=Retrain(), random_state=9).fit(X[train], y[train]).forget(*rows[:2])
    report = audit(forgot, *rows, references=models, n_runs=12, random_state=1)
    klom = report.to_frame().query("measure.str.startswith('KLoM')").pivot(index="rows", columns="model")["value"]
    assert list(klom.index) == ["erased", "retained", "test"]
    assert klom.loc["erased", "before"] > 2 * klom.loc["erased", "retrained"]
    assert klom.loc["erased", "after"] < 1.5 * klom.loc["erased", "retrained"]
    assert any("KLoM compares 12 models of each kind" in each for each in report.assumptions)
    with pytest.raises(ValueError, match="n_runs must be an int of at least 2"):
        audit(forgot, *rows, references=models, n_runs=1)


def test_regressors_have_no_margins():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3)).astype(np.float32)
    est = regressor(module__n_features_in=3, module__n_outputs=1).fit(X[:60], X[:60, 0]).forget(X[:6])
    report = audit(est, X[:6], X[:6, 0], X[60:], X[60:, 0], n_references=3, n_runs=2)
    assert "KLoM was not measured: it takes a classifier that forgets." in report.assumptions
