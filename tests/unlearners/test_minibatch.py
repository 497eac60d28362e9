"""The loop that the first-order algorithms share, and the eye it keeps on the retained rows."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn.risks.combined import CombinedRisk
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.unlearners import Status, _minibatch
from sk_unlearn.unlearners._minibatch import MinibatchLoop, Watch, batches, stored_part

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 3))
y = rng.integers(0, 3, size=50)
y[:25] = 0


def problem(**settings):
    torch.manual_seed(0)
    net = NeuralNetClassifier(nn.Linear(3, 3).double(), criterion=nn.CrossEntropyLoss, batch_size=8, **settings)
    net.initialize()
    mask = np.arange(50) >= 10
    retained = EmpiricalRisk(net, X, y, mask=mask)
    return SimpleNamespace(
        net=net, retained=retained, erased=EmpiricalRisk(net, X[:10], y[:10]), parameters=retained.parameters(),
        rng=np.random.default_rng(1), report_step=lambda record: None,
    )  # fmt: skip


def test_batches_cover_every_row_once():
    parts = list(batches(problem().retained, 8, np.random.default_rng(0)))
    assert [len(part) for part in parts] == [8] * 5
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(10, 50))


def test_pairs_start_the_erased_rows_over():
    pairs = list(MinibatchLoop(problem(), 0.1).paired_batches())
    assert len(pairs) == 5
    np.testing.assert_array_equal(np.sort(np.concatenate([pairs[0][1], pairs[1][1]])), np.arange(10))
    np.testing.assert_array_equal(np.sort(np.concatenate([pairs[2][1], pairs[3][1]])), np.arange(10))


@torch.no_grad()
def test_chance_is_the_loss_at_the_mean_output():
    case = problem(optimizer__weight_decay=0.3)
    module = case.net.module_
    mean = module(torch.from_numpy(X[10:])).mean(0)
    assert Watch(case).chance == pytest.approx(float(mean.logsumexp(0) - mean[0]))
    loss = nn.functional.cross_entropy(module(torch.from_numpy(X[:10])), torch.from_numpy(y[:10]))
    assert Watch(case).erased_loss(case.parameters) == pytest.approx(float(loss))


def test_harm_is_measured_on_the_scale_of_what_training_gained(monkeypatch):
    case = problem(optimizer__weight_decay=0.3)
    w = case.parameters
    for _ in range(200):
        w = w - 0.5 * case.retained.gradient(w)
    case.parameters = w
    watch = Watch(case)
    outputs = case.retained.outputs(w)
    penalty = 0.15 * float(w @ w)
    gained = case.retained.value_at_output(outputs.mean(0)) - (case.retained.value(w) - penalty)
    assert gained > 0
    before = watch._before
    for share, harms in ((0.9, True), (1.1, False)):
        monkeypatch.setattr(watch, "retained_loss", lambda _, share=share: before + 0.5 * gained)
        assert watch.harms(w, 0.5 * share) == harms
    assert watch.verdict(w, Status.COMPLETED, "done")[0] is Status.HARMED_RETAINED
    monkeypatch.setattr(watch, "retained_loss", lambda _: float("nan"))
    assert watch.harms(w)


def test_a_net_that_has_learnt_nothing_may_not_get_worse():
    case = problem()
    case.parameters = torch.zeros_like(case.parameters)
    watch = Watch(case)
    assert not watch.harms(case.parameters)
    assert watch.harms(case.parameters + 1000 * case.retained.gradient(case.parameters))


def test_steps_are_adams_and_a_harmful_one_is_not_taken(monkeypatch):
    case = problem()
    loop, gradient = MinibatchLoop(case, 0.1), case.retained.gradient(case.parameters)
    loop.step(gradient)
    torch.testing.assert_close(loop.w, case.parameters - 0.1 * gradient.sign(), rtol=0, atol=1e-5)
    before = loop.w.clone()
    monkeypatch.setattr(loop.watch, "harms", lambda w: not torch.equal(w, before))
    assert not loop.try_step(gradient)
    assert torch.equal(loop.w, before)
    assert loop.trace == []
    monkeypatch.setattr(loop.watch, "harms", lambda w: False)
    assert loop.try_step(gradient)
    assert not torch.equal(loop.w, before)
    assert len(loop.trace) == 1
    assert loop.trace[0]["step_norm"] == float((loop.w - case.parameters).norm())
    monkeypatch.undo()
    assert loop.result(Status.COMPLETED, "done").parameters.data_ptr() != loop.w.data_ptr()


def test_only_stored_rows_are_batched():
    case = problem()
    combined = CombinedRisk(case.retained, added=[case.erased])
    assert stored_part(combined) is case.retained
    with pytest.raises(TypeError, match=r"problem\.retained"):
        stored_part(SimpleNamespace())


def test_batch_size_of_the_net():
    case = problem()
    assert _minibatch.training_batch_size(case) == 8
    case.net.batch_size = -1
    assert _minibatch.training_batch_size(case) == 40
    case.net.iterator_train__batch_size = 5
    assert _minibatch.training_batch_size(case) == 5
