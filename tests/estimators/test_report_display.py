"""Pictures of requests."""

import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import StandardScaler
from torch import nn

from sk_unlearn import ShardedClassifier, UnlearnableClassifier
from sk_unlearn.inspection import UnlearningReportDisplay
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.unlearners import CuReNU, FineTune, NegGradPlus, Retrain

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  only where it is installed, in the way that no window opens

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3)).astype(np.float32)
y = (X @ np.array([1.0, -1.0, 0.5]) > 0).astype(int)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def forgetful(unlearner, n=1):
    est = UnlearnableClassifier(nn.Linear(3, 2), unlearner, random_state=0).fit(X, y)
    for i in range(n):
        est.forget(X[4 * i : 4 * i + 4])
    return est


def drawn(ax):
    """Points of all curves by their labels."""
    return {line.get_label(): line.get_ydata() for line in ax.lines}


def heights(ax):
    return [bar.get_height() for bar in ax.patches]


def test_losses_before_and_after_and_the_gradient_of_each_step():
    report = forgetful(CuReNU(max_steps=3)).unlearning_report_
    display = report.plot()
    losses, steps = display.axes_
    assert heights(losses) == [report.erased_loss_before, report.erased_loss_after]
    assert steps is display.ax_
    assert steps.figure is display.figure_ is losses.figure
    whole = [record["gradient_norm"] for record in report.trace if record["block"] != "output layer"]
    assert drawn(steps)["of all parameters"].tolist() == [*whole, report.gradient_norm_after]
    assert report.method in display.figure_.get_suptitle()


def test_steps_in_the_output_layer_and_steps_not_taken_stand_apart():
    trace = [
        {"gradient_norm": 3.0, "block": "output layer"},
        {"gradient_norm": 9.0, "block": "all"},
        {"gradient_norm": 4.0, "block": "all", "taken": False},
    ]
    display = UnlearningReportDisplay(trace, gradient_norm=(9.0, 2.0)).plot()
    assert len(display.axes_) == 1
    found = drawn(display.ax_)
    assert found["of the output layer"].tolist() == [3.0]
    assert found["of all parameters"].tolist() == [9.0, 4.0, 2.0]
    assert found["step not taken"].tolist() == [4.0]


def test_losses_over_the_steps():
    report = forgetful(NegGradPlus()).unlearning_report_
    display = report.plot()
    found = drawn(display.ax_)
    assert found["erased rows"].tolist() == [report.erased_loss_before, *(r["erased_loss"] for r in report.trace)]
    assert found["retained rows"][1:].tolist() == [record["retained_loss"] for record in report.trace]
    assert len(display.axes_) == 2


def test_epochs():
    report = forgetful(FineTune(n_epochs=3)).unlearning_report_
    (line,) = report.plot().ax_.lines
    assert line.get_ydata().tolist() == [record["train_loss"] for record in report.trace]
    assert len(forgetful(FineTune(n_epochs=1)).unlearning_report_.plot().axes_) == 1


def test_without_steps_the_losses_are_all_there_is():
    for report in (
        forgetful(Retrain()).unlearning_report_,
        forgetful(CuReNU(max_steps=1), n=2).unlearning_history_[0],  # of an earlier request numbers are kept
    ):
        assert not report.trace
        display = report.plot()
        assert display.axes_ == [display.ax_]
        assert heights(display.ax_) == [report.erased_loss_before, report.erased_loss_after]


@pytest.mark.parametrize("unlearner", [CuReNU(max_steps=1), Retrain()])
def test_on_axes_of_ones_own(unlearner):
    report = forgetful(unlearner).unlearning_report_
    ax = plt.subplots()[1]
    display = report.plot(ax=ax)
    assert display.axes_ == [ax]
    assert bool(ax.patches) == isinstance(unlearner, Retrain)
    assert len(plt.get_fignums()) == 1
    with pytest.raises(TypeError):
        report.plot(ax)


def test_a_request_that_did_nothing_says_so():
    weight = np.ones(60)
    weight[:4] = 0
    est = UnlearnableClassifier(nn.Linear(3, 2), random_state=0).fit(X, y, weight).forget(X[:4])
    with pytest.raises(ValueError, match="nothing to draw: no step is recorded"):
        est.unlearning_report_.plot()
    with pytest.raises(ValueError, match="after retrain"):
        est.retrain().unlearning_report_.plot()


def test_of_pipelines_and_many_shards():
    pipe = make_pipeline(StandardScaler(), UnlearnableClassifier(nn.Linear(3, 2), CuReNU(max_steps=1), random_state=0))
    with pytest.raises(NotFittedError):
        UnlearningReportDisplay.from_estimator(pipe)
    display = UnlearningReportDisplay.from_estimator(pipe.fit(X, y).forget(X[:4]))
    assert len(display.axes_) == 2
    est = ShardedClassifier(UnlearnableClassifier(nn.Linear(3, 2)), n_shards=2, random_state=0).fit(X, y).forget(X[:4])
    with pytest.raises(ValueError, match="nothing to draw"):
        est.unlearning_report_.plot()


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    report = forgetful(CuReNU(max_steps=1)).unlearning_report_
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"UnlearningReportDisplay.plot draws with matplotlib.*sk-unlearn\[plot\]"):
        report.plot()
