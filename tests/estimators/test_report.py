"""What a person sees: reports, representations, the table of steps, and scikit-learn's callbacks."""

import copy
import json
import math
import re
from datetime import datetime, timezone
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.metrics import log_loss
from skorch import NeuralNetClassifier
from skorch.dataset import ValidSplit
from torch import nn

from sk_unlearn import MLPNetRegressor, UnlearnableClassifier, UnlearnableRegressor, UnlearningReport
from sk_unlearn.estimators.default_net import MLP
from sk_unlearn.privacy import Certificate
from sk_unlearn.risks import EmpiricalRisk
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import (
    CuReNU,
    DampedNewton,
    FineTune,
    LBFGSWarmStart,
    Retrain,
    Status,
    StoCuReNU,
    Unlearner,
    UnlearningResult,
)
from tests import _problems
from tests._problems import mlp, skorch_net

rng = np.random.default_rng(11)
X = rng.normal(size=(40, 3))
y = (X[:, 0] > 0).astype(int)


def classifier(unlearner=None, module=None, **settings):
    defaults = {"max_epochs": 3, "lr": 0.3, "batch_size": 16}
    return _problems.classifier(unlearner, module or mlp(3, 2, n_hidden=5), **(defaults | settings))


# -------------------------------------------------------------------------------------------------------------- report


def test_numbers_of_the_report():
    est = classifier(StoCuReNU(renew=False)).fit(X, y).forget(X[:4])
    report = est.unlearning_report_
    assert isinstance(report, UnlearningReport)
    assert report.solver == "krylov"
    assert report.n_steps == sum(record["taken"] for record in report.trace) >= 1
    assert report.n_products > 0
    assert report.step_norm > 0
    assert 0 < report.gradient_norm_after < report.gradient_norm_before
    assert report.erased_gradient_norm > 0
    assert report.residual_norm > 0
    assert report.curvature_min < report.curvature_max
    assert report.predicted_decrease > 0
    assert report.actual_decrease > 0
    assert report.extra["memory_forecast"]["dense"] > report.extra["memory_forecast"]["gradient_descent"]
    assert report.seconds > 0


@pytest.mark.parametrize("unlearner", [StoCuReNU(), FineTune(), Retrain()])
@pytest.mark.parametrize("normalised", [False, True])
def test_what_became_of_the_loss_of_the_erased_rows(unlearner, normalised):
    def loss():
        return log_loss(y[:4], est.predict_proba(X[:4]), labels=[0, 1])

    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5) if normalised else nn.Tanh(), nn.Linear(5, 2))
    est = classifier(unlearner, module=module, optimizer__weight_decay=0.1, max_epochs=30).fit(X, y)
    before = loss()
    report = est.forget(X[:4]).unlearning_report_
    assert report.erased_loss_before == pytest.approx(before, rel=1e-4)
    # Re-estimated statistics are no part of it; a net trained anew is seen with its own.
    if not normalised or isinstance(unlearner, Retrain):
        assert report.erased_loss_after == pytest.approx(loss(), rel=1e-4)
    change = f"{report.erased_loss_before:.3g} to {report.erased_loss_after:.3g}"
    assert report.stop_reason.endswith(f"; the mean loss of the erased rows went from {change}")


@pytest.mark.parametrize("status", Status)
def test_converged_says_that_the_tolerance_was_met_and_nothing_else(status):
    class Ends(Unlearner):
        def unlearn(self, problem):
            return UnlearningResult(problem.parameters + 0.01, status, "by decree")

    report = classifier(Ends()).fit(X, y).forget(X[:4]).unlearning_report_
    assert report.status is status
    assert report.converged is (status is Status.CONVERGED)
    assert report.to_dict()["status"] == str(status)
    assert json.loads(json.dumps(report.to_dict()))["converged"] is report.converged


@pytest.mark.parametrize(
    "unlearner", [CuReNU(), LBFGSWarmStart(), FineTune(), DampedNewton(hold_residual=False), Retrain()]
)
def test_gradient_norms_mean_the_same_for_every_method(unlearner):
    est = classifier(unlearner).fit(X, y)
    risk = EmpiricalRisk(est.net_, est.training_set_.raw_X, est.training_set_.raw_y)
    start = risk.parameters()
    brought = risk.gradient(start, np.arange(4, 40)) - risk.gradient(start)
    report = est.forget(X[:4]).unlearning_report_
    assert report.gradient_norm_before == pytest.approx(float(brought.norm()), rel=1e-3)


def test_what_else_a_method_tells_is_in_extra_under_names_of_its_own():
    class Tells(Unlearner):
        names = ("rate",)
        ran = False

        def __unlearner_tags__(self):
            tags = super().__unlearner_tags__()
            tags.extra = self.names
            return tags

        def unlearn(self, problem):
            Tells.ran = True
            return UnlearningResult(problem.parameters + 0.01, Status.COMPLETED, extra={"rate": 0.5})

    assert classifier(Tells()).fit(X, y).forget(X[:4]).unlearning_report_.extra == {"rate": 0.5}
    Tells.names, Tells.ran = ("n_steps",), False
    est = classifier(Tells()).fit(X, y)
    with pytest.raises(ValueError, match=r"unlearner=Tells would report \['n_steps'\] in extra"):
        est.forget(X[:4])
    assert not Tells.ran
    assert len(est.training_set_) == 40


def test_the_representation_fits_a_screen():
    for unlearner in (CuReNU(), Retrain()):
        text = repr(classifier(unlearner).fit(X, y).forget(X[:4]).unlearning_report_)
        assert len(text.splitlines()) <= 12
        assert "forget by" in text
        assert "status" in text


def test_rows_that_were_not_trained_on_have_no_loss_to_tell():
    est = classifier(FineTune()).fit(X, y, sample_weight=np.arange(40) > 3).forget(X[:4])
    report = est.unlearning_report_
    assert math.isnan(report.erased_loss_before)
    assert report.stop_reason == "no row in the request had entered a gradient"


def test_report_of_a_method_without_diagnostics():
    report = classifier(Retrain()).fit(X, y).forget(X[:4]).unlearning_report_
    assert math.isnan(report.curvature_min)
    assert report.method == "Retrain"
    assert report.step_norm > 0


def test_report_is_a_dictionary_that_json_takes_and_holds_no_row():
    est = classifier().fit(X, y, sample_id=[f"person-{i}" for i in range(40)]).forget(sample_id=["person-3"])
    text = json.dumps(est.unlearning_report_.to_dict())
    assert "person" not in text
    assert json.loads(text)["n_erased"] == 1


def test_report_cannot_be_changed():
    report = classifier().fit(X, y).forget(X[:1]).unlearning_report_
    with pytest.raises(AttributeError):
        report.n_erased = 0


def test_representations():
    report = classifier().fit(X, y).forget(X[:2]).unlearning_report_
    html = report._repr_html_()
    assert html.startswith('<div class="sku">')
    assert html.count("<tr>") == html.count("</tr>") > 10
    assert f"{report.status.sentence} " in html
    assert "n_erased" in str(report)
    ElementTree.fromstring(html)


def test_notes_are_escaped_and_shown():
    hostile = "<script>'x' & \"y\"</script>"
    report = UnlearningReport(
        "forget", "<M>", 1, 1, 1, True, Status.STALLED, "a < b", 0.1, solver=hostile, notes=[hostile],
        certificate=Certificate(hostile, 1.0),
    )  # fmt: skip
    page = report._repr_html_()
    assert "A &lt; b." in page
    assert "&lt;M&gt;" in page
    assert "<script" not in page
    escaped = "&lt;script&gt;&#39;x&#39; &amp; &#34;y&#34;&lt;/script&gt;"
    # A note, the solver, and the certificate in a line of its own and among all fields.
    assert page.count(escaped) == 4
    assert f"note: {hostile}" in str(report)


def test_the_page_says_when_it_was_and_how_it_went():
    est = classifier(CuReNU(max_steps=2)).fit(X, y).forget(X[:2])
    before = datetime.now(timezone.utc)
    report = est.forget(X[2:4]).unlearning_report_
    moment = datetime.fromisoformat(report.completed.replace("Z", "+00:00"))
    assert abs((moment - before).total_seconds()) < 60
    assert report.completed == est.receipts_[-1].completed
    assert f"{report.completed[:19].replace('T', ' ')} UTC" in report._repr_html_()
    earlier = est.unlearning_history_[0]
    assert earlier.is_brief
    assert not report.is_brief
    assert "Reason and notes are in receipts_." in earlier._repr_html_()
    assert "told in receipts_" not in report._repr_html_()


def test_no_status_is_shown_as_a_success():
    """Only an audit tells whether rows were forgotten."""
    for status in Status:
        report = UnlearningReport("forget", "M", 1, 1, 1, True, status, "so it went", 0.1)
        (colour,) = re.findall('<div class="verdict (\\w+)">', report._repr_html_())
        assert colour in ("plain", "open", "bad")
        assert (colour == "bad") == (status in ("unmoved", "model_broke_down", "harmed_retained"))


# --------------------------------------------------------------------------------------------------------------- notes


def test_a_report_of_an_earlier_version_is_read():
    """It was written before the last field was there."""
    report = UnlearningReport("forget", "M", 1, 1, 1, True, Status.COMPLETED, "so it went", 0.1, request_id="an-id")
    earlier = UnlearningReport.__new__(UnlearningReport)
    earlier.__setstate__(report.__getstate__()[:-1])
    assert (earlier.request_id, earlier.completed) == ("an-id", "")
    assert earlier.to_dict()["stop_reason"] == "so it went"
    assert repr(earlier)


class Claims(Unlearner):
    """Says that it converged and moves next to nothing."""

    def unlearn(self, problem):
        return UnlearningResult(problem.parameters + 1e-6, Status.CONVERGED, "gradient fell", target=problem.residual)


def test_converged_is_not_said_of_rows_that_are_still_known():
    rows, species = load_iris(return_X_y=True)
    est = UnlearnableClassifier(unlearner=Claims(), random_state=0).fit(rows, species)
    report = copy.deepcopy(est).forget(rows[species == 1]).unlearning_report_
    assert report.gradient_norm_before > report.residual_norm
    assert (report.status, report.converged) == ("uncertain", False)
    assert "nearest retained neighbours would get 0%" in report.stop_reason
    # Rows whose neighbours stay are known without them.
    hard = np.flatnonzero(est.predict(rows) != species)
    report = copy.deepcopy(est).forget(rows[[*hard, *range(55, 150, 10)]]).unlearning_report_
    assert report.gradient_norm_before > report.residual_norm
    assert (report.status, report.converged) == ("converged", True)


class HardlyMoves(Unlearner):
    """Claims nothing and moves next to nothing."""

    def unlearn(self, problem):
        return UnlearningResult(problem.parameters + 1e-6, Status.COMPLETED, "the steps are done")


def test_whatever_the_status_rows_that_are_still_known_are_told_of():
    rows, species = load_iris(return_X_y=True)
    est = UnlearnableClassifier(unlearner=HardlyMoves(), random_state=0).fit(rows, species)
    notes = copy.deepcopy(est).forget(rows[species == 1]).unlearning_report_.notes
    assert any(note.startswith("The model may still know these rows by heart: it gets") for note in notes)
    notes = copy.deepcopy(est).forget(rows[::10]).unlearning_report_.notes
    assert not any("by heart" in note for note in notes)


def test_a_method_that_converges_and_still_knows_a_class_is_uncertain():
    rows, species = _problems.centred_iris()
    settings = {"module__n_hidden": 64, "max_epochs": 100, "batch_size": 32, "optimizer": torch.optim.Adam}
    est = _problems.classifier(LBFGSWarmStart(), lr=1e-2, optimizer__weight_decay=1e-4, **settings).fit(rows, species)
    erased = species == 1
    report = est.forget(rows[erased], species[erased]).unlearning_report_
    # No row of the class is left, so that a retrained model would get none right.
    assert est.score(rows[erased], species[erased]) > 0.3
    assert (report.status, report.converged) == ("uncertain", False)
    assert report.stop_reason.startswith("the gradient fell below 0.01 of its norm at the fitted parameters, but")


def test_converged_is_not_said_of_less_than_training_left():
    est = UnlearnableClassifier(mlp(3, 2, n_hidden=5), Claims(), random_state=0).fit(X, y)
    state = est.unlearning_state_
    report = est.forget(X[:1]).unlearning_report_
    less = report.gradient_norm_before < float(state.anchor.residual.norm())
    assert report.status == ("uncertain" if less else "converged")
    net = classifier(Claims(), max_epochs=1, lr=1e-4).fit(X, y)  # has hardly begun
    report = net.forget(X[:1]).unlearning_report_
    assert report.status == "uncertain"
    assert "smaller than the one that training left" in report.stop_reason


class Goes(Unlearner):
    """Trains the net further and hands it over whole."""

    def unlearn(self, problem):
        trained = problem.retrain(warm=True, epochs=1)
        return UnlearningResult(flat_parameters(trained.net), Status.COMPLETED, "trained on", trained=trained)


class Stays(Unlearner):
    """Ends as it is told and moves nothing."""

    def __init__(self, status=Status.COMPLETED):
        self.status = status

    def unlearn(self, problem):
        return UnlearningResult(problem.parameters.clone(), self.status, "by decree", target=problem.residual)


@pytest.mark.parametrize("status", Status)
def test_a_model_that_stayed_what_it_was_is_no_success(status):
    est = classifier(Stays(status)).fit(X, y)
    report = est.forget(X[:4]).unlearning_report_
    assert not report.parameters_moved
    reads_like_success = status in ("converged", "completed", "settled", "nothing_to_undo")
    assert report.status == ("unmoved" if reads_like_success else status)
    assert not report.converged
    (note,) = report.notes
    assert "no parameter has changed" in note
    assert "Retrain()" in note
    # A correction that changes nothing leaves nothing to be undone.
    report = classifier(Stays(status)).fit(X, y).correct(X[4:5], X_new=X[4:5]).unlearning_report_
    assert (report.status, report.notes) == (status, [])
    est.correct(X[4:5], y_new=1 - y[4:5])
    assert est.unlearning_report_.status == ("unmoved" if reads_like_success else status)


@pytest.mark.parametrize("unlearner", [StoCuReNU(), CuReNU(), DampedNewton(), FineTune(n_epochs=1), LBFGSWarmStart()])
def test_a_net_that_no_gradient_moves_is_said_to_stand_still(unlearner):
    class Deaf(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(3, 2)

        def forward(self, X):
            return torch.relu(self.last(X) - 1e3)  # every unit is dead

    est = classifier(unlearner, module=Deaf()).fit(X, y)
    report = est.forget(X[:4]).unlearning_report_
    assert not report.parameters_moved
    assert report.status in ("unmoved", "stalled")
    assert any("no parameter has changed" in note for note in report.notes)


class Scaled(nn.Module):
    """Whose output is not that of a linear layer."""

    def __init__(self):
        super().__init__()
        self.body = mlp(3, 2, n_hidden=5)

    def forward(self, X):
        return 0.5 * self.body(X)


class Adapted(nn.Linear):
    """A frozen layer, and a correction of low rank."""

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        self.weight.requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(2, n_in)), nn.Parameter(torch.randn(n_out, 2))

    def forward(self, X):
        return super().forward(X) + X @ self.down.T @ self.up.T


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Scaled(), "output is not that of a linear layer"),
        (nn.Sequential(nn.Linear(3, 5), nn.Tanh(), Adapted(5, 2)), "computes its weight from other parameters"),
        (nn.Sequential(nn.Linear(3, 2), nn.Tanh()), "output is not that of a linear layer"),
    ],
)
def test_why_the_output_layer_was_not_moved_on_its_own(module, reason):
    notes = classifier(StoCuReNU(renew=False), module=module).fit(X, y).forget(X[:4]).unlearning_report_.notes
    (note,) = (note for note in notes if note.startswith("The output layer was not moved on its own, because"))
    assert reason in note
    # Whoever does not ask for these steps is not told about them.
    unlearner = StoCuReNU(output_layer_first=False, renew=False)
    notes = classifier(unlearner, module=module).fit(X, y).forget(X[:4]).unlearning_report_.notes
    assert not any("output layer" in note for note in notes)


@pytest.mark.parametrize("settings", [{}, {"module": type("Own", (MLP,), {})}])
def test_the_built_in_regressor_is_not_told_to_end_otherwise(settings):
    targets = 100 + 30 * X[:, 0]
    net = MLPNetRegressor(module__width=8, max_epochs=5, **settings)
    est = UnlearnableRegressor(net, StoCuReNU(renew=False), random_state=0).fit(X, targets).forget(X[:4])
    report = est.unlearning_report_
    assert report.trace
    assert not any("block" in record for record in report.trace)
    # A subclass is the user's, who can have it end otherwise.
    assert any("on its own" in note for note in report.notes) == bool(settings)


class Tiny(Unlearner):
    """Goes a step that comes to nothing, or a real one."""

    def __init__(self, rate=1e-6):
        self.rate = rate

    def unlearn(self, problem):
        w = problem.parameters - self.rate * (problem.gradient - problem.residual)
        return UnlearningResult(
            parameters=w, status=Status.STALLED, gradient=problem.retained.gradient(w), target=problem.residual
        )


def test_a_step_that_comes_to_nothing_is_no_silent_success():
    est = classifier(Tiny()).fit(X, y).forget(X[:4])
    assert est.unlearning_report_.parameters_moved
    assert any(note.startswith("Next to nothing was undone: 100%") for note in est.unlearning_report_.notes)
    # A correction that changes nothing has nothing to undo.
    est.correct(X[4:5], X_new=X[4:5])
    assert not any("Next to nothing" in note for note in est.unlearning_report_.notes)


@pytest.mark.parametrize("keep", [True, False])
def test_a_step_that_had_little_to_undo_is_no_failure(keep):
    apart = X + 3 * np.sign(X)  # so that the classes are told apart with ease
    est = classifier(Tiny(1e-3), module=_problems.Mlp, max_epochs=30).set_params(keep_training_set=keep).fit(apart, y)
    forget = est.forget if keep else lambda rows: est.partial_forget(rows, y[:1])
    report = forget(apart[:1]).unlearning_report_
    assert report.erased_loss_before < 0.01
    (note,) = (note for note in report.notes if note.startswith("There was little that a step could undo"))
    assert f"was {report.erased_loss_before:.2g} already, where one output for all rows costs 0.6" in note
    assert not any("Next to nothing" in note for note in report.notes)
    assert "next to nothing" not in est.retrain_recommended_.reason


def test_a_row_that_a_fitting_net_does_not_know_is_not_excused():
    apart = X + 3 * np.sign(X)
    wrong = np.where(np.arange(40) == 0, 1 - y, y)
    est = classifier(Tiny(1e-5), module=_problems.Mlp, max_epochs=30).fit(apart, wrong).forget(apart[:1])
    assert est.unlearning_report_.erased_loss_before > 0.1
    assert any(note.startswith("Next to nothing was undone") for note in est.unlearning_report_.notes)
    assert "next to nothing" in est.retrain_recommended_.reason


def test_values_that_a_regressor_fits():
    rows = X.astype(np.float32)
    targets = (rows @ [[1.0], [2.0], [-1.0]] + 0.1 * np.sin(5 * rows[:, :1])).astype(np.float32)
    est = _problems.regressor(Tiny(1e-3), _problems.affine(3).float(), max_epochs=60, lr=0.1).fit(rows, targets)
    report = est.forget(rows[:1]).unlearning_report_
    assert report.erased_loss_before < 0.02 * targets.var()
    assert any(note.startswith("There was little that a step could undo") for note in report.notes)


class Barely(Unlearner):
    def unlearn(self, problem):
        return UnlearningResult(problem.parameters + 1e-6, Status.COMPLETED, "hardly moved")


def test_statistics_that_moved_the_outputs_more_than_the_parameters_did():
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2))
    notes = classifier(Barely(), module=module).fit(X, y).forget(X[y == 1][:10]).unlearning_report_.notes
    (note,) = [note for note in notes if "BatchNorm" in note]
    assert note.startswith("BatchNorm statistics without the rows changed the outputs on retained rows by")
    est = classifier(CuReNU(), module=module, max_epochs=100).fit(X, y).forget(X[y == 1][:10])
    assert est.unlearning_report_.notes == []
    assert classifier(Retrain(), module=module).fit(X, y).forget(X[:1]).unlearning_report_.notes == []


class Maxima(nn.Module):
    """Divides by the largest magnitude of each column that training has seen."""

    def __init__(self):
        super().__init__()
        self.register_buffer("largest", torch.full((3,), 1e-6))
        self.register_buffer("constant", torch.ones(3))
        self.body = mlp(3, 2, n_hidden=5)

    def forward(self, X):
        if self.training:
            self.largest = torch.maximum(self.largest, X.detach().abs().amax(0))
        return self.body(X / self.largest * self.constant)


class Averaged(nn.Module):
    """Predicts with frozen weights that follow the trained ones."""

    def __init__(self):
        super().__init__()
        self.body, self.slow = nn.Linear(3, 2), nn.Linear(3, 2).requires_grad_(False)

    def forward(self, X):
        if self.training:
            with torch.no_grad():
                for slow, fast in zip(self.slow.parameters(), self.body.parameters(), strict=True):
                    slow.lerp_(fast, 0.1)
            return self.body(X)
        return self.body(X) + 0.1 * self.slow(X)


def instance_norm():
    layers = nn.Unflatten(1, (1, 3)), nn.InstanceNorm1d(1, track_running_stats=True), nn.Flatten(), nn.Linear(3, 2)
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (Maxima, "largest"),
        (Averaged, "slow.weight, slow.bias"),
        (instance_norm, "1.running_mean, 1.running_var"),
        (
            lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 5)), nn.Tanh(), nn.Linear(5, 2)),
            "0.parametrizations.weight.0._u, 0.parametrizations.weight.0._v",
        ),
        (lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)), None),
    ],
)
def test_what_training_changed_beside_the_parameters_is_named(module, names):
    def side_notes(est):
        return [note for note in est.unlearning_report_.notes if "Training changed" in note]

    est = classifier(CuReNU(), module=module()).fit(X, y)
    for rows in (slice(0, 2), slice(2, 4)):
        notes = side_notes(est.forget(X[rows]))
        assert len(notes) == (names is not None)
        assert all(f"afresh: {names}. They still carry" in note for note in notes)
    # What was not trained on left nothing there, and a net trained anew has buffers of its own.
    est = classifier(CuReNU(), module=module()).fit(X, y, sample_weight=np.arange(40) > 0)
    assert side_notes(est.forget(X[:1])) == []
    assert side_notes(est.set_params(unlearner=Retrain()).forget(X[1:2])) == []


def test_a_net_that_was_trained_further_still_has_its_side_state():
    est = classifier(Goes(), module=Maxima()).fit(X, y)
    for rows in (slice(0, 2), slice(2, 4)):
        assert any("afresh: largest. They still carry" in n for n in est.forget(X[rows]).unlearning_report_.notes)


def test_side_state_of_a_further_pass_and_of_a_cached_training(tmp_path):
    est = classifier(CuReNU(), module=Maxima(), lr=1e-3).fit(X, y).partial_fit(10 * X[:5], y[:5])
    assert est.unlearning_state_.side_state == ("largest",)
    for _ in range(2):
        est = classifier(CuReNU(), module=Maxima()).set_params(memory=str(tmp_path)).fit(X, y)
        assert any("largest" in note for note in est.forget(X[:2]).unlearning_report_.notes)


# ------------------------------------------------------------------------------------------------------------- printing


@pytest.mark.parametrize("unlearner", [CuReNU(max_steps=2), StoCuReNU(max_steps=2, renew=False), FineTune(n_epochs=2)])
def test_verbose_prints_a_line_a_step(capsys, unlearner):
    est = classifier(unlearner).set_params(verbose=1).fit(X, y)
    assert capsys.readouterr().out == ""
    est.forget(X[:4])
    header, rule, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "step"
    assert set(rule) == {"-", " "}
    assert len(lines) == len(est.unlearning_report_.trace)
    assert [line.split()[0] for line in lines] == [str(i + 1) for i in range(len(lines))]
    assert all(len(line.split()) == len(header.split()) for line in lines)


def test_nothing_prints_by_default(capsys):
    UnlearnableRegressor(random_state=0).fit(X[:20], X[:20, 0]).forget(X[:2]).correct(X[2:3], y_new=[1.0])
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_verbose_prints_epochs_of_a_net_built_here(capsys):
    UnlearnableClassifier(nn.Linear(3, 2), verbose=1, random_state=0).fit(X, y)
    assert "train_loss" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------------------- callbacks


class Recorder:
    """Follows scikit-learn's protocol and writes down what it is told."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.events = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.events.append(("begin", context.task_name))
        self.metadata = metadata or getattr(self, "metadata", None)

    def on_fit_task_end(self, estimator, context):
        self.events.append(("end", context.task_name))
        return self.stop_after is not None and self.events.count(("end", "epoch")) >= self.stop_after


@pytest.fixture
def callbacks():
    return pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks since 1.9")


def test_callbacks_see_the_epochs(callbacks):
    recorder = Recorder()
    est = classifier().set_callbacks(recorder).fit(X, y, sample_weight=np.arange(1, 41))
    epoch = [("begin", "epoch"), ("end", "epoch")]
    assert recorder.events == ["setup", ("begin", "fit"), *epoch * 3, ("end", "fit"), "teardown"]
    assert recorder.metadata["sample_weight"].shape == (40,)
    assert "scikit_learn" not in [name for name, _ in est.net_.callbacks_]
    n_events = len(recorder.events)
    est.forget(X[:3])
    assert len(recorder.events) == n_events


def test_callback_may_end_the_training(callbacks):
    est = classifier(max_epochs=10).set_callbacks(Recorder(stop_after=2)).fit(X, y)
    assert len(est.net_.history) == 2
    est.forget(X[:3])


def test_teardown_also_after_an_error(callbacks):
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("own")

    recorder = Failing()
    est = classifier().set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="own"):
        est.fit(X, y)
    assert recorder.events == ["setup", ("begin", "fit"), ("begin", "epoch"), "teardown"]
    assert not hasattr(est, "net_")


def test_progress_bar(callbacks, capsys):
    pytest.importorskip("rich")
    classifier().set_callbacks(callbacks.ProgressBar()).fit(X, y)
    assert "UnlearnableClassifier" in capsys.readouterr().out


class Replaying(NeuralNetClassifier):
    """Trains on all rows beside each batch."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        super().on_train_begin(net, X=X, y=y, **kwargs)
        self.everything = torch.from_numpy(X), torch.from_numpy(y)

    def train_step(self, batch, **fit_params):
        super().train_step(self.everything, **fit_params)
        return super().train_step(batch, **fit_params)


@pytest.mark.parametrize(("kind", "n_notes"), [(Replaying, 1), (NeuralNetClassifier, 0)])
def test_held_out_rows_that_the_nets_own_train_step_may_have_seen_are_told(kind, n_notes):
    rows, weight = X.astype(np.float32), np.where(np.arange(40) < 39, 1.0, 0.0)
    net = skorch_net(mlp(3, 2, n_hidden=5), kind, max_epochs=2, batch_size=16, train_split=ValidSplit(3))
    est = UnlearnableClassifier(net, random_state=0).fit(rows, y, sample_weight=weight)
    held_out = np.flatnonzero(~est.training_set_.trained_mask & (weight > 0))
    trained = np.flatnonzero(est.training_set_.trained_mask)

    def notes(numbers):
        return [n for n in est.forget(rows[numbers]).unlearning_report_.notes if "count as never trained on" in n]

    told = notes(held_out[:2])
    assert len(told) == n_notes
    assert all(n.startswith("2 of the rows") and "train_step of Replaying may" in n for n in told)
    assert est.unlearning_report_.status == Status.NOTHING_TO_UNDO
    assert notes(trained[:1]) == []
    assert notes([39]) == []  # of weight zero: the net was never given it
