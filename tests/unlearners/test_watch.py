"""The eye that an algorithm keeps on the loss of retained and erased rows."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sk_unlearn.risks.combined import CombinedRisk
from sk_unlearn.unlearners import Status
from sk_unlearn.unlearners._watch import Watch, stored_part
from tests._problems import untrained_problem

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 3))
y = rng.integers(0, 3, size=50)
y[:25] = 0


def problem(**settings):
    return untrained_problem(X, y, **settings)


@torch.no_grad()
def test_chance_is_the_loss_at_the_mean_output():
    case = problem(optimizer__weight_decay=0.3)
    module = case.net.module_
    mean = module(torch.from_numpy(X[10:])).mean(0)
    assert Watch(case).chance == pytest.approx(float(mean.logsumexp(0) - mean[0]))
    loss = nn.functional.cross_entropy(module(torch.from_numpy(X[:10])), torch.from_numpy(y[:10]))
    assert Watch(case).erased_loss(case.parameters) == pytest.approx(float(loss))


def test_harm_is_measured_on_the_scale_of_what_training_gained():
    case = problem(optimizer__weight_decay=0.3)
    w = case.parameters
    for _ in range(200):
        w = w - 0.5 * case.retained.gradient(w)
    case.parameters = w
    watch = Watch(case)
    outputs = case.retained.outputs(w)
    penalty = 0.15 * float(w @ w)
    gained = case.retained.value_at_output(outputs.mean(0)) - (case.retained.value(w) - penalty)
    worse = 2 * w
    rise = case.retained.value(worse) - case.retained.value(w)
    assert rise > 0.1 * gained > 0
    for share, harms in ((0.9, True), (1.1, False)):
        assert watch.harms(worse, share * rise / gained) == harms
    assert watch.verdict(w, Status.COMPLETED, "done") == (Status.COMPLETED, "done")
    status, reason = watch.verdict(worse, Status.COMPLETED, "done")
    assert status is Status.HARMED_RETAINED
    assert reason.startswith("done; but the loss on retained rows rose markedly")
    assert watch.harms(torch.full_like(w, torch.nan))


def test_a_net_that_has_learnt_nothing_may_not_get_worse():
    case = problem()
    case.parameters = torch.zeros_like(case.parameters)
    watch = Watch(case)
    assert not watch.harms(case.parameters)
    assert watch.harms(case.parameters + 1000 * case.retained.gradient(case.parameters))


def test_only_stored_rows_are_batched():
    case = problem()
    combined = CombinedRisk(case.retained, added=[case.erased])
    assert stored_part(combined) is case.retained
    with pytest.raises(TypeError, match=r"problem\.retained"):
        stored_part(SimpleNamespace())
