"""Predictions in place of targets."""

import numpy as np
import pytest
import torch
from skorch import NeuralNet
from torch import nn

from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.training.ledger import train_rows
from sk_unlearn.training.soft_targets import soft_targets, takes_soft_targets
from tests._problems import affine


def net_of(criterion, **settings):
    torch.manual_seed(0)
    defaults = {"max_epochs": 3, "lr": 0.1, "batch_size": 7, "train_split": None, "verbose": 0}
    return NeuralNet(affine(3, 2), criterion=criterion, **{**defaults, **settings}).initialize()


def drawn(n=20):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)), rng


@pytest.mark.parametrize(
    ("criterion", "target"),
    [
        (nn.CrossEntropyLoss, lambda z: z.softmax(1)),
        (nn.BCEWithLogitsLoss, torch.sigmoid),
        (nn.MSELoss, lambda z: z),
        (nn.HuberLoss, lambda z: z),
    ],
)
def test_a_net_is_a_fixed_point_of_its_own_predictions(criterion, target):
    X, rng = drawn()
    net = net_of(criterion)
    outputs = net.module_(torch.from_numpy(X)).detach()
    targets = soft_targets(net, outputs)
    torch.testing.assert_close(targets, target(outputs))
    before = flat_parameters(net)
    y = rng.integers(2, size=len(X)) if criterion is nn.CrossEntropyLoss else rng.normal(size=(len(X), 2))
    train_rows(net, X, y, None, targets=targets)
    torch.testing.assert_close(flat_parameters(net), before, rtol=0, atol=1e-6)


def test_predictions_of_a_smoothing_loss_are_not_smoothed_twice():
    X, rng = drawn()
    net = net_of(nn.CrossEntropyLoss, criterion__label_smoothing=0.2)
    before = flat_parameters(net)
    targets = soft_targets(net, net.module_(torch.from_numpy(X)).detach())
    train_rows(net, X, rng.integers(2, size=len(X)), None, targets=targets)
    torch.testing.assert_close(flat_parameters(net), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("criterion", "settings"),
    [
        (nn.NLLLoss, {}),
        (nn.MultiMarginLoss, {}),
        (nn.CrossEntropyLoss, {"criterion__weight": torch.ones(2)}),
        (nn.CrossEntropyLoss, {"criterion__ignore_index": 0}),
        (nn.BCEWithLogitsLoss, {"criterion__pos_weight": torch.full((2,), 3.0)}),
    ],
)
def test_other_losses_take_none(criterion, settings):
    net = net_of(criterion, **settings)
    assert not takes_soft_targets(net)
    assert soft_targets(net, torch.zeros(4, 2)) is None


def test_each_row_gets_its_own_target_and_weight():
    """Rows of weight zero have a target too, which nobody looks at."""
    X, rng = drawn()
    weight = rng.integers(0, 3, size=len(X)).astype(np.float64)
    hard = rng.integers(2, size=len(X))
    one_hot = torch.eye(2, dtype=torch.float64)[torch.from_numpy(hard)]
    nets = [net_of(nn.CrossEntropyLoss, iterator_train__shuffle=True) for _ in range(2)]
    for net, targets in zip(nets, (None, one_hot), strict=True):
        torch.manual_seed(1)
        train_rows(net, X, hard if targets is None else 1 - hard, weight, targets=targets)
    torch.testing.assert_close(*map(flat_parameters, nets))
