"""While a risk is evaluated the net predicts as ever, and whatever ends the evaluation, the net is what it was."""

import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from sk_unlearn.risks import EmpiricalRisk
from tests._problems import skorch_net

rng = np.random.default_rng(0)
X, y = rng.normal(size=(12, 4)), rng.integers(0, 3, size=12)


def build(module):
    torch.manual_seed(0)
    return skorch_net(module.double()).initialize()


def mlp():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 3))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.rnn(x[:, None])[0][:, -1])


def everything(net):
    """All of a module that may change, by identity and by content."""
    module = net.module_
    return (
        module,
        [(name, id(p), p.detach().numpy().tobytes(), p.requires_grad) for name, p in module.named_parameters()],
        [(name, id(b), b.numpy().tobytes()) for name, b in module.named_buffers()],
        [(id(m), m.training, sorted(vars(m)), len(m._forward_hooks)) for m in module.modules()],
        [[id(t) for t in vars(m).get("_flat_weights", ())] for m in module.modules()],
        (net.criterion_, net.criterion_.reduction, net.criterion_.training, len(net.criterion_._forward_hooks)),
    )


def ask(risk, w):
    v = torch.ones_like(w)
    risk.gradient(w), risk.value(w), risk.losses(w)
    local = risk.linearise(w)
    local.hessian(v), local.ggn(v), local.fisher(v)


@pytest.mark.parametrize("module", [mlp, Recurrent])
def test_the_net_predicts_as_ever_meanwhile(module):
    net = build(module())
    net.module_.train()
    x = torch.from_numpy(X)
    net.module_.eval()
    expected, before = net.module_(x).detach(), everything(net)
    inside = []

    def look(evaluated, args):
        if evaluated is not net.module_:
            assert everything(net) == before
            inside.append(torch.equal(net.module_(x), expected))

    handle = net.module_.register_forward_pre_hook(look)
    before = everything(net)
    risk = EmpiricalRisk(net, X, y)
    ask(risk, risk.parameters() + 1)
    handle.remove()
    assert len(inside) > 5
    assert all(inside)


def test_another_thread_predicts_meanwhile():
    net = build(mlp())
    net.module_.eval()
    x, results, done = torch.from_numpy(X), [], threading.Event()
    expected = net.module_(x).detach()

    def predict():
        while not done.is_set():
            results.append(torch.equal(net.module_(x), expected))

    thread = threading.Thread(target=predict)
    thread.start()
    try:
        risk = EmpiricalRisk(net, X, y, chunk_size=1)
        for _ in range(5):
            ask(risk, risk.parameters() + 1)
    finally:
        done.set()
        thread.join()
    assert results
    assert all(results)


@pytest.mark.parametrize("module", [mlp, Recurrent])
def test_interrupted_in_forward(module):
    net = build(module())

    def interrupt(evaluated, args):
        raise KeyboardInterrupt

    net.module_.register_forward_pre_hook(interrupt)
    before = everything(net)
    risk = EmpiricalRisk(net, X, y, chunk_size=4)
    for call in (risk.gradient, risk.value, risk.linearise, risk.losses, risk.outputs, risk.row_gradients):
        with pytest.raises(KeyboardInterrupt):
            call(risk.parameters() + 1)
        assert everything(net) == before


def test_interrupted_at_any_line():
    net = build(mlp())
    before = everything(net)
    enabled = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()

    def run_until(last):
        """Take a gradient, and interrupt it at the given line of this package's risks."""
        n = 0

        def trace(frame, event, arg):
            nonlocal n
            if "risks" not in frame.f_code.co_filename or "tests" in frame.f_code.co_filename:
                return None
            if event == "line":
                n += 1
                if n == last:
                    raise KeyboardInterrupt
            return trace

        risk = EmpiricalRisk(net, X, y, chunk_size=6)
        w = risk.parameters() + 1
        previous = sys.gettrace()
        sys.settrace(trace)
        try:
            risk.gradient(w)
        finally:
            sys.settrace(previous)
        return n

    run_until(None)  # the first gradient of a net also finds out what it draws random numbers from
    n_lines = run_until(None)
    assert n_lines > 100
    for last in range(1, n_lines + 1):
        with pytest.raises(KeyboardInterrupt):
            run_until(last)
        assert everything(net) == before
        torch.backends.cuda.enable_flash_sdp(enabled[0])
        torch.backends.cuda.enable_mem_efficient_sdp(enabled[1])


def test_one_twin_serves_a_request():
    net = build(mlp())
    risk = EmpiricalRisk(net, X, y)
    assert risk.net is not net
    assert EmpiricalRisk(risk.net, X[:3], y[:3]).net is risk.net
    assert risk.with_targets(y).net is risk.net


def test_the_risk_follows_what_changes_in_place():
    net = build(mlp())
    risk = EmpiricalRisk(net, X, y)
    w, value = risk.parameters(), risk.value(risk.parameters())
    net.module_.load_state_dict({name: 2 * each for name, each in net.module_.state_dict().items()})
    torch.testing.assert_close(risk.parameters(), 2 * w)
    # The statistics of BatchNorm are no part of w.
    assert risk.value(w) != value
    assert risk.value(w) == EmpiricalRisk(net, X, y).value(w)
