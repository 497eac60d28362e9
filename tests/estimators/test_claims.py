"""Whether a tolerance that is met shows that rows were undone: what the look at their neighbours takes."""

import tracemalloc

import numpy as np
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn.estimators._claims import why_not_converged
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
