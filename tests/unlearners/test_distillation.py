"""SCRUB and DELETE: their losses by hand on three rows, and what they do to a small model."""

import numpy as np
import pytest
import torch
from sklearn.utils._param_validation import InvalidParameterError
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.unlearners import DELETE, SCRUB, Status
from sk_unlearn.unlearners.distillation import class_logits, divergence_from_others, softened_divergence
from tests._problems import centred_iris, iris_classifier

X, y = centred_iris()


log = np.log


def test_softened_divergence_of_three_rows_by_hand():
    teacher = torch.tensor([[0.0, 0.0], [2 * log(3.0), 0.0], [1.0, 1.0]], dtype=torch.float64)
    student = torch.tensor([[0.0, 2 * log(3.0)], [2 * log(3.0), 0.0], [2.0, 2.0]], dtype=torch.float64)
    # At T = 2 the first teacher row is (1/2, 1/2) and its student (1/4, 3/4); the other rows agree.
    by_hand = 4 * (0.5 * log(0.5 / 0.25) + 0.5 * log(0.5 / 0.75))
    expected = torch.tensor([by_hand, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(softened_divergence(teacher, student, 2.0), expected, rtol=0, atol=1e-14)


def test_divergence_from_others_of_three_rows_by_hand():
    teacher = torch.tensor([[9.0, log(1.0), log(3.0)], [log(2.0), -7.0, log(2.0)], [0.0, 0.0, 50.0]]).double()
    student = torch.tensor([[0.0, 0.0, 0.0], [log(1.0), log(2.0), log(1.0)], [0.0, 0.0, 0.0]]).double()
    # q = (0, 1/4, 3/4), (1/2, 0, 1/2), (1/2, 1/2, 0); p = (1/3, 1/3, 1/3), (1/4, 1/2, 1/4), (1/3, 1/3, 1/3).
    by_hand = [0.25 * log(0.75) + 0.75 * log(2.25), log(2.0), log(1.5)]
    result = divergence_from_others(teacher, student, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(result, torch.tensor(by_hand, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_divergence_from_others_has_a_finite_gradient():
    student = torch.randn(4, 3, requires_grad=True)
    divergence_from_others(torch.randn(4, 3) * 40, student, torch.tensor([0, 1, 2, 0])).sum().backward()
    assert torch.isfinite(student.grad).all()


def test_logits_of_probabilities_and_of_one_logit():
    probabilities = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    net = NeuralNetClassifier(nn.Linear(1, 2), criterion=nn.NLLLoss).initialize()
    torch.testing.assert_close(class_logits(net, probabilities).softmax(1), probabilities)
    binary = NeuralNetBinaryClassifier(nn.Linear(1, 1)).initialize()
    torch.testing.assert_close(
        class_logits(binary, torch.tensor([log(3.0)])).softmax(1), torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    )
    with pytest.raises(ValueError, match="one logit a row"):
        class_logits(binary, torch.zeros(4, 2))
    with pytest.raises(ValueError, match="n_classes"):
        class_logits(net, torch.zeros(4, 2, 5))


@pytest.mark.parametrize("unlearner", [SCRUB(10, n_max_epochs=8, learning_rate=0.02), DELETE(60, learning_rate=0.01)])
def test_a_class_is_unlearnt(unlearner):
    est = iris_classifier(unlearner).fit(X, y)
    est.forget(X[y == 0])
    assert est.score(X[y == 0], y[y == 0]) < 0.5
    assert est.score(X[y != 0], y[y != 0]) > 0.9


def test_delete_takes_no_step_that_breaks_the_rest():
    report = iris_classifier(DELETE(learning_rate=0.3)).fit(X, y).forget(X[:140:7]).unlearning_report_
    assert report.status is Status.OVERSHOOT_UNDONE
    assert "markedly" in report.stop_reason


def test_delete_reports_too_little():
    report = iris_classifier(DELETE(1, learning_rate=1e-6)).fit(X, y).forget(X[y == 0]).unlearning_report_
    assert report.status is Status.BUDGET_SPENT
    assert "did not bring" in report.stop_reason


def test_scrub_reports_that_the_retained_loss_rose():
    report = iris_classifier(SCRUB(1, learning_rate=30.0)).fit(X, y).forget(X[y == 0]).unlearning_report_
    assert report.status is Status.HARMED_RETAINED
    assert "retained rows rose markedly" in report.stop_reason


@pytest.mark.parametrize("unlearner", [SCRUB(), DELETE()])
def test_binary_classifier(unlearner):
    binary = (y[50:] == 2).astype(np.int64)
    net = NeuralNetBinaryClassifier(nn.Linear(4, 1), max_epochs=30, lr=0.1, train_split=None, verbose=0)
    est = UnlearnableClassifier(net, unlearner, random_state=0).fit(X[50:], binary)
    assert est.forget(X[50:60]).unlearning_report_.parameters_moved


@pytest.mark.parametrize("unlearner", [SCRUB(), DELETE()])
def test_a_regressor_is_refused_with_the_cure(unlearner):
    net = NeuralNetRegressor(nn.Linear(4, 1), max_epochs=1, lr=1e-3, train_split=None, verbose=0)
    est = UnlearnableRegressor(net, unlearner, random_state=0).fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"MSELoss.*CrossEntropyLoss.*StoCuReNU"):
        est.forget(X[:1])


@pytest.mark.parametrize(
    ("unlearner", "name"),
    [(SCRUB(0), "n_epochs"), (SCRUB(n_max_epochs=-1), "n_max"), (SCRUB(temperature=0.0), "temp"), (DELETE(0), "n_ep")],
)
def test_constraints(unlearner, name):
    with pytest.raises(InvalidParameterError, match=name):
        unlearner.unlearn(None)


@pytest.mark.gpu
@pytest.mark.parametrize("unlearner", [SCRUB(), DELETE()])
def test_on_a_gpu(unlearner):
    est = iris_classifier(unlearner).set_params(device="cuda").fit(X, y).forget(X[y == 0])
    assert est.unlearning_report_.parameters_moved
