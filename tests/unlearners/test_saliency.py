"""SalUn moves the salient half of the parameters, and is RandomLabels where all are salient."""

import numpy as np
import pytest
import torch
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn

from sk_unlearn.unlearners import RandomLabels, SalUn, Status
from sk_unlearn.unlearners.saliency import salient
from tests._problems import centred_iris, iris_classifier, parameters, problem_for, regressor

X, y = centred_iris()


class TestSalient:
    def test_the_largest_in_size(self):
        gradient = torch.tensor([0.1, -3.0, 2.0, -0.5, 0.0])
        assert salient(gradient, 0.4).tolist() == [False, True, True, False, False]
        assert salient(gradient, 0.6).tolist() == [False, True, True, True, False]
        # At least one.
        assert salient(gradient, 0.01).tolist() == [False, True, False, False, False]

    def test_as_large_as_the_threshold(self):
        assert salient(torch.tensor([1.0, -1.0, 2.0, 0.5]), 0.5).tolist() == [True, True, True, False]

    def test_a_zero_gradient_is_not_salient_unless_all_are(self):
        gradient = torch.tensor([0.0, 0.0, 0.0, 1.0])
        assert salient(gradient, 0.9).tolist() == [False, False, False, True]
        assert salient(gradient, 1.0).all()


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_other_parameters_stay_bit_for_bit(share):
    problem = problem_for()
    result = SalUn(share, n_epochs=3, learning_rate=0.01).unlearn(problem)
    w = problem.parameters.clone().requires_grad_()
    module, start, parts = problem.net.module_, 0, {}
    for name, parameter in module.named_parameters():
        parts[name] = w[start : start + parameter.numel()].view(parameter.shape)
        start += parameter.numel()
    # By hand: the mean cross-entropy of the erased rows, without weight decay.
    rows, labels = torch.from_numpy(problem.erased.X), torch.from_numpy(problem.erased.y)
    loss = nn.functional.cross_entropy(torch.func.functional_call(module, parts, (rows,)), labels)
    size = torch.autograd.grad(loss, w)[0].abs()
    threshold = size.quantile(1 - share)
    moved = result.parameters != problem.parameters
    assert torch.equal(moved, size >= threshold)
    assert f"in {int(moved.sum())} of {len(w)} parameters" in result.stop_reason


def test_with_all_parameters_it_is_random_labels():
    results = []
    for unlearner in (SalUn(1.0, n_epochs=3), RandomLabels(3)):
        results.append(unlearner.unlearn(problem_for()))
    assert torch.equal(results[0].parameters, results[1].parameters)
    assert [record["erased_loss"] for record in results[0].trace] == [r["erased_loss"] for r in results[1].trace]


def test_a_class_is_unlearnt_and_the_others_are_kept():
    est = iris_classifier(SalUn(n_epochs=20, learning_rate=0.02)).fit(X, y).forget(X[y == 0])
    assert est.unlearning_report_.status is Status.COMPLETED
    assert est.score(X[y == 0], y[y == 0]) < 0.5
    assert est.score(X[y != 0], y[y != 0]) > 0.85


def test_a_regressor_takes_targets_of_other_rows():
    A = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    est = regressor(SalUn(n_epochs=2), module__n_features_in=3, module__n_outputs=1, lr=0.05).fit(A, A.sum(1))
    before = parameters(est)
    assert 0 < (parameters(est.forget(A[:5])) != before).sum() < len(before)


@pytest.mark.parametrize(
    ("unlearner", "name"),
    [(SalUn(0.0), "share"), (SalUn(1.5), "share"), (SalUn(n_epochs=0), "n_epochs"), (SalUn(learning_rate=0.0), "rate")],
)
def test_constraints(unlearner, name):
    with pytest.raises(InvalidParameterError, match=name):
        unlearner.unlearn(None)


@pytest.mark.gpu
def test_on_a_gpu():
    est = iris_classifier(SalUn()).set_params(device="cuda").fit(X, y).forget(X[y == 0])
    assert est.unlearning_report_.parameters_moved
