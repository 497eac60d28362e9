import subprocess
import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_unlearn.inspection import (
    ErasedLossDisplay,
    FeatureProbeDisplay,
    ForgetCurveDisplay,
    FrontierDisplay,
    MembershipRocDisplay,
    RelearningDisplay,
    SequenceDriftDisplay,
)
from sk_unlearn.metrics import RelearningCurve, distance_ratio, feature_probe, relearning_curve, row_losses
from sk_unlearn.metrics.membership import evaluate_attack, membership_attack
from sk_unlearn.unlearners import FineTune, StoCuReNU
from tests._problems import tiny_classifier

Figure = pytest.importorskip("matplotlib.figure").Figure


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3)).astype(np.float32)
    return X, (X[:, 0] + 0.5 * rng.normal(size=80) > 0).astype(int)


@pytest.fixture(scope="module")
def fitted(data):
    X, y = data
    return tiny_classifier(random_state=0).fit(X[:40], y[:40])


@pytest.fixture(scope="module")
def forgetful(data):
    X, y = data
    est = tiny_classifier(StoCuReNU(renew=False), random_state=0).fit(X[:40], y[:40])
    return est.forget(X[:5]).forget(X[5:8])


@pytest.fixture(scope="module")
def references(data):
    X, y = data
    return [tiny_classifier(random_state=seed).fit(X[8:40], y[8:40]) for seed in (1, 2)]


def is_drawn_on(display, ax):
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    return True


def test_erased_losses_are_those_of_the_models(ax, data, fitted, forgetful, references):
    X, y = data
    display = ErasedLossDisplay.from_estimator(
        forgetful, X[:8], y[:8], before=fitted, retrained=references, unseen=(X[40:], y[40:]), ax=ax
    )
    assert is_drawn_on(display, ax)
    assert list(display.losses) == ["before", "after", "retrained", "unseen"]
    np.testing.assert_array_equal(display.losses["before"], row_losses(fitted, X[:8], y[:8]))
    np.testing.assert_array_equal(display.losses["unseen"], row_losses(forgetful, X[40:], y[40:]))
    assert len(display.losses["retrained"]) == 16
    for line in display.lines_:
        assert line.get_data().values.sum() == pytest.approx(1)


@pytest.mark.parametrize("losses", [[0.0, 0.0], [0.0, 1e-30, 3.0], [2.0]])
def test_extreme_losses_are_in_the_histogram(ax, losses):
    (line,) = ErasedLossDisplay.from_losses({"after": losses}, ax=ax).lines_
    assert line.get_data().values.sum() == pytest.approx(1)


def test_losses_must_be_there():
    with pytest.raises(ValueError, match="losses is empty"):
        ErasedLossDisplay({})
    with pytest.raises(ValueError, match=r"losses\['after'\] must be finite"):
        ErasedLossDisplay({"after": [np.nan]})


def test_forget_curve_shows_every_step(ax, forgetful):
    display = ForgetCurveDisplay.from_estimator(forgetful, ax=ax)
    assert is_drawn_on(display, ax)
    shown = np.concatenate([line.get_ydata() for line in ax.lines if line.get_label() != "not taken"])
    norms = [record["gradient_norm"] for record in forgetful.unlearning_report_.trace]
    assert sorted(shown) == sorted(norms)
    assert display.damping_ax_ is not None


def test_forget_curve_keeps_the_output_layer_apart(ax):
    trace = [
        {"gradient_norm": 5.0, "damping": 1.0, "block": "output layer"},
        {"gradient_norm": 2.0, "damping": 0.0},
        {"gradient_norm": 1.0},
    ]
    ForgetCurveDisplay(trace).plot(ax=ax)
    assert [line.get_ydata().tolist() for line in ax.lines] == [[5.0], [2.0, 1.0]]
    assert [line.get_xdata().tolist() for line in ax.lines] == [[1], [2, 3]]


def test_forget_curve_crosses_what_was_not_taken(ax):
    ForgetCurveDisplay([{"gradient_norm": 2.0, "taken": True}, {"gradient_norm": 1.0, "taken": False}]).plot(ax=ax)
    assert ax.lines[-1].get_label() == "not taken"
    assert ax.lines[-1].get_ydata().tolist() == [1.0]


def test_forget_curve_without_gradients(ax, data, fitted):
    X, y = data
    with pytest.raises(NotFittedError):
        ForgetCurveDisplay.from_estimator(fitted, ax=ax)
    tuned = tiny_classifier(unlearner=FineTune(1), random_state=0).fit(X[:40], y[:40]).forget(X[:5])
    with pytest.raises(ValueError, match="none of them a 'gradient_norm'"):
        ForgetCurveDisplay.from_estimator(tuned, ax=ax)


def test_membership_roc_is_that_of_the_attack(ax, data, forgetful):
    X, y = data
    display = MembershipRocDisplay.from_estimator(forgetful, X[:8], y[:8], X[40:], y[40:], name="after", ax=ax)
    assert is_drawn_on(display, ax)
    expected = membership_attack(forgetful, X[:8], y[:8], X[40:], y[40:])
    assert display.result.auc == expected.auc
    np.testing.assert_array_equal(display.line_.get_ydata(), expected.tpr_curve)
    assert "after: AUC" in ax.get_legend().get_texts()[0].get_text()


def test_membership_roc_of_scores_and_twice_on_the_same_axes(ax):
    one = MembershipRocDisplay.from_scores([2.0, 3.0], [0.0, 1.0], name="one", ax=ax)
    MembershipRocDisplay(evaluate_attack([0.0, 3.0], [1.0, 2.0]), name="two").plot(ax=ax, log=True)
    assert one.result.auc == 1
    assert len(ax.get_legend().get_texts()) == 2
    assert ax.get_xscale() == "log"


def test_frontier_of_estimators(ax, data, forgetful, references):
    X, _ = data
    display = FrontierDisplay.from_estimators({"default": forgetful}, references, X, ax=ax)
    assert is_drawn_on(display, ax)
    assert display.distances[0] == distance_ratio(forgetful, references, X)
    assert display.seconds[0] == forgetful.unlearning_report_.seconds
    assert display.floor == 1


def test_frontier_is_what_nothing_beats(ax):
    display = FrontierDisplay.from_measurements({"a": (1, 3), "b": (2, 1), "c": (3, 2), "d": (2, 1)}, floor=0.5, ax=ax)
    assert display.on_frontier.tolist() == [True, True, False, True]
    with pytest.raises(ValueError, match="names must be as many"):
        FrontierDisplay(["a"], [1.0, 2.0], [1.0, 2.0])


def test_drift_from_the_reports(ax, forgetful):
    display = SequenceDriftDisplay.from_estimator(forgetful, ax=ax)
    assert is_drawn_on(display, ax)
    assert display.n_erased.tolist() == [5, 8]
    steps = [report.step_norm for report in forgetful.unlearning_history_]
    np.testing.assert_allclose(display.values["sum of the steps"], np.cumsum(steps))


def test_drift_of_distances(ax):
    display = SequenceDriftDisplay.from_distances({"default": [0.1, 0.2]}, [3, 6], floor=0.15, ax=ax)
    assert ax.lines[0].get_ydata().tolist() == [0.1, 0.2]
    assert ax.lines[1].get_ydata() == [0.15, 0.15]
    assert display.floor == 0.15
    with pytest.raises(ValueError, match=r"values\['default'\] must have shape \(2,\)"):
        SequenceDriftDisplay([3, 6], {"default": [0.1]})


def test_probe_of_features_is_that_of_the_models(ax, data, fitted, forgetful, references):
    X, y = data
    display = FeatureProbeDisplay.from_estimator(
        forgetful, references, X[40:], y[40:], 1, before=fitted, n_draws=3, ax=ax
    )  # fmt: skip
    assert is_drawn_on(display, ax)
    found, old = (feature_probe(each, references, X[40:], y[40:], 1, n_draws=3) for each in (forgetful, fitted))
    assert list(display.recalls) == ["before", "after", "retrained"]
    drawn = [points.get_xdata().tolist() for points in display.points_]
    assert drawn == [[old.recall], [found.recall], list(found.reference_recalls)]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["before", "after", "retrained"]


def test_recalls_that_are_known(ax):
    (points,) = FeatureProbeDisplay.from_recalls({"after": 0.7}, ax=ax).points_
    assert points.get_xdata().tolist() == [0.7]
    with pytest.raises(ValueError, match="recalls is empty"):
        FeatureProbeDisplay({})
    with pytest.raises(ValueError, match=r"recalls\['after'\] must be finite"):
        FeatureProbeDisplay({"after": [np.nan]})


def test_relearning_is_that_of_the_models(ax, data, fitted, forgetful, references):
    X, y = data
    display = RelearningDisplay.from_estimator(forgetful, references, X[:8], y[:8], before=fitted, n_steps=4, ax=ax)
    assert is_drawn_on(display, ax)
    found, old = (relearning_curve(each, references, X[:8], y[:8], n_steps=4) for each in (forgetful, fitted))
    shown = {line.get_label(): line.get_ydata() for line in display.lines_}
    np.testing.assert_array_equal(shown["before"], old.scores)
    np.testing.assert_array_equal(shown["after"], found.scores)
    np.testing.assert_array_equal(shown["retrained"], found.reference_scores.mean(axis=0))
    assert display.band_.get_datalim(ax.transData).y1 == pytest.approx(found.reference_scores.max())


def test_relearning_that_is_known(ax):
    curve = RelearningCurve(np.array([4.0, 1.0]), np.array([[4.0, 2.0], [3.0, 2.5]]), 2.0, True)
    display = RelearningDisplay.from_curve(curve, ax=ax)
    assert [line.get_label() for line in display.lines_] == ["after", "retrained"]
    assert ax.get_ylabel() == "squared error"
    with pytest.raises(ValueError, match=r"before must have shape \(2,\), as the scores of the curve, got \(1,\)"):
        RelearningDisplay(curve, before=[1.0])


def test_pipelines(ax, data):
    X, y = data
    pipeline = make_pipeline(StandardScaler(), tiny_classifier(StoCuReNU(renew=False), random_state=0)).fit(
        X[:40], y[:40]
    )
    pipeline[-1].forget(pipeline[:-1].transform(X[:5]))
    assert is_drawn_on(ForgetCurveDisplay.from_estimator(pipeline, ax=ax), ax)
    assert SequenceDriftDisplay.from_estimator(pipeline, ax=ax).n_erased.tolist() == [5]


def test_a_figure_of_its_own():
    plt = pytest.importorskip("matplotlib.pyplot")
    backend = plt.get_backend()
    plt.switch_backend("agg")
    display = ErasedLossDisplay.from_losses({"after": [1.0]})
    assert display.figure_ is plt.gcf()
    plt.close(display.figure_)
    plt.switch_backend(backend)


def test_matplotlib_is_imported_only_to_draw():
    code = (
        "import sys; import sk_unlearn.inspection as i; assert 'matplotlib' not in sys.modules\n"
        "sys.modules['matplotlib.pyplot'] = None\n"
        "try: i.ErasedLossDisplay({'after': [1.0]}).plot()\n"
        "except ImportError as error: assert 'sk-unlearn[plot]' in str(error)\n"
        "else: raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
