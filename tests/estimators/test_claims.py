"""Whether a tolerance that is met shows that rows were undone: what the look at their neighbours takes."""

import tracemalloc

import numpy as np
import pytest
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn.estimators._claims import still_known, why_not_converged
from sk_unlearn.risks import EmpiricalRisk
from tests._problems import skorch_net


def test_large_rows_take_little_memory():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    images = rng.normal(size=(400, 1, 100, 300)).astype(np.float32)
    images += 0.3 * labels[:, None, None, None].astype(np.float32)
    erased = images[:4].copy(), 1 - labels[:4]  # among neighbours of the other class
    module = nn.Sequential(nn.AvgPool2d((100, 300)), nn.Flatten(), nn.Linear(1, 2))
    net = skorch_net(module, NeuralNetClassifier).initialize()
    risks = [EmpiricalRisk(net, *rows) for rows in (erased, (images, labels))]
    w = risks[0].parameters()
    w[:2], w[2:] = w.new_tensor([10.0, -10.0]), w.new_tensor([-1.5, 1.5])  # knows the erased rows by heart
    tracemalloc.start()
    reason = why_not_converged(*risks, w, brought=1.0, left=0.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "still gets 100% of the erased rows right, where their nearest retained neighbours would get 0%" in reason
    assert peak < images.nbytes


def by_heart(n_erased, *, neighbours_tell):
    """Rows of two far groups, and a model that reads each row's class from its last column, whatever its neighbours."""
    rng = np.random.default_rng(0)
    group = np.arange(300) % 2
    labels = group.copy() if neighbours_tell else rng.permutation(group)
    labels[:n_erased] = 1 - labels[:n_erased]
    X = rng.normal(scale=0.3, size=(300, 30)) + group[:, None]
    X[:, -1] = labels
    module = nn.Linear(30, 2)
    net = skorch_net(module, NeuralNetClassifier).initialize()
    X = X.astype(np.float32)
    erased, stored = (EmpiricalRisk(net, X[part], labels[part]) for part in (slice(n_erased), slice(n_erased, None)))
    w = erased.parameters().zero_()
    w[[29, 59, 60]] = w.new_tensor([-10.0, 10.0, 5.0])  # the weights of the last column, and a bias
    return still_known(erased, stored, w)


def test_rows_that_are_known_by_heart_are_told_of():
    (note,) = by_heart(20, neighbours_tell=True)
    assert "it gets 100% of the erased rows right, where their nearest retained neighbours would get 0%" in note


@pytest.mark.parametrize(
    ("n_erased", "neighbours_tell"),
    [(0, True), (2, True), (20, False)],  # none, too few to say anything of, and data whose neighbours tell nothing
)
def test_nothing_is_said_where_neighbours_cannot_tell(n_erased, neighbours_tell):
    assert by_heart(n_erased, neighbours_tell=neighbours_tell) == []
