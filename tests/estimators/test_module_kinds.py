"""Modules that were compiled, are laid out channels last, or keep their parameters in bfloat16."""

import pickle

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import UnlearnableClassifier, load, save
from sk_unlearn.persistence import untrusted_types
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.unlearners import CuReNU, DampedNewton, FineTune

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 5)).astype(np.float32)
y = (X[:, 0] + 0.3 * rng.normal(size=40) > 0).astype(np.int64)


def net_of(module, **options):
    return NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, train_split=None, max_epochs=4,
        batch_size=16, lr=0.05, verbose=0, **options,
    )  # fmt: skip


def layers():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))


def read_again(est, path):
    save(est, path)
    return load(path, trusted=untrusted_types(path))


# ------------------------------------------------------------------------------------------------------------ compiled


def inner_compiled():
    module = layers()
    module[0] = torch.compile(module[0], backend="aot_eager")  # which refuses second derivatives
    return module


def compiled_in_place():
    module = layers()
    module.compile(backend="eager")
    return module


COMPILED = {
    "by skorch": lambda: net_of(layers(), compile=True, compile__backend="eager"),
    "by the user": lambda: net_of(torch.compile(layers(), backend="eager")),
    "a layer": lambda: net_of(inner_compiled()),
    "in place": lambda: net_of(compiled_in_place()),
}


def forget_twice(net, unlearner, change=lambda est: None):
    est = UnlearnableClassifier(net, unlearner, random_state=0).fit(X, y)
    change(est)
    return est.forget(X[:6]).forget(X[6:8])


# The compiler itself warns, of a tensor that it looks at.
compiles = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


@compiles
@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_module_forgets_as_it_would_have_uncompiled(name, tmp_path, caplog):
    caplog.set_level("WARNING")
    plain, est = forget_twice(net_of(layers()), CuReNU()), forget_twice(COMPILED[name](), CuReNU())
    expected = plain.predict_proba(X)
    np.testing.assert_allclose(est.predict_proba(X), expected, atol=1e-6)
    np.testing.assert_allclose(read_again(est, tmp_path / "model").predict_proba(X), expected, atol=1e-6)
    # Products through compiled code would have none, and fall back to differences.
    assert "No second derivatives" not in caplog.text
    assert hasattr(est.net_.module_, "_orig_mod") == (name.startswith("by"))


@compiles
def test_a_fitted_net_may_be_compiled_and_stays_so():
    def compile_it(est):
        est.net_.module_ = torch.compile(est.net_.module_, backend="eager")

    est = forget_twice(net_of(layers()), FineTune(), compile_it)
    np.testing.assert_allclose(
        est.predict_proba(X), forget_twice(net_of(layers()), FineTune()).predict_proba(X), atol=1e-6
    )
    assert hasattr(est.net_.module_, "_orig_mod")


# ------------------------------------------------------------------------------------------------------- channels last


class Images(nn.Module):
    def __init__(self, layout):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.norm, self.head = nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Linear(12, 2)
        self.layout = layout
        self.double().to(memory_format=layout)

    def forward(self, x):
        return self.head(self.norm(self.conv(x.contiguous(memory_format=self.layout))).relu().flatten(1))


def is_channels_last(est):
    weight = est.net_.module_.conv.weight
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


@pytest.mark.parametrize("unlearner", [None, CuReNU(), FineTune()], ids=["default", "CuReNU", "FineTune"])
def test_channels_last_is_kept_and_changes_no_number(unlearner, tmp_path):
    pictures = rng.normal(size=(40, 2, 3, 3))
    labels = (pictures[:, 0].mean((1, 2)) > 0).astype(np.int64)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        est = UnlearnableClassifier(net_of(Images(layout)), unlearner, random_state=0).fit(pictures, labels)
        est.forget(pictures[:6]).partial_fit(pictures[:2], labels[:2]).forget(pictures[8:10])
        for each in (est, read_again(est, tmp_path / str(layout)), pickle.loads(pickle.dumps(est))):
            assert is_channels_last(each) is (layout is torch.channels_last)
        found.append(est.predict_proba(pictures))
    np.testing.assert_allclose(*found, atol=1e-7)


def test_products_do_not_depend_on_the_layout():
    pictures, labels = rng.normal(size=(8, 2, 3, 3)), rng.integers(0, 2, 8)
    modules = [Images(layout) for layout in (torch.contiguous_format, torch.channels_last)]
    risks = [EmpiricalRisk(net_of(module).initialize(), pictures, labels) for module in modules]
    w, v = risks[0].parameters(), torch.randn(risks[0].n_parameters, dtype=torch.float64)
    for name in ("hessian", "ggn", "fisher"):
        torch.testing.assert_close(*(getattr(risk.linearise(w), name)(v) for risk in risks), rtol=1e-9, atol=1e-11)


# ------------------------------------------------------------------------------------------------------------ autocast


class TrainsUnderAutocast(NeuralNetClassifier):
    def train_step_single(self, batch, **fit_params):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().train_step_single(batch, **fit_params)

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return super().get_loss(y_pred.float(), y_true, *args, **kwargs)


def test_training_under_autocast_is_undone_about_as_training_in_float32_is():
    found = []
    for kind in (NeuralNetClassifier, TrainsUnderAutocast):
        plain = net_of(layers())
        net = kind(**plain.get_params(deep=False))
        est = UnlearnableClassifier(net, CuReNU(), random_state=0).fit(X, y)
        before = est.predict_proba(X)
        found.append((before, est.forget(X[:8]).predict_proba(X)))
    (before, after), (before_too, after_too) = found
    assert np.abs(after - before).max() > 0.05
    np.testing.assert_allclose(before_too, before, atol=0.02)
    np.testing.assert_allclose(after_too, after, atol=0.05)


# ------------------------------------------------------------------------------------------------------------ bfloat16


class Halved(nn.Module):
    """Parameters, and what is computed with them, in a data type."""

    def __init__(self, dtype=torch.bfloat16, frozen=False):
        super().__init__()
        self.body, self.dtype = layers().to(dtype), dtype
        if frozen:
            self.body[0].requires_grad_(False)

    def forward(self, x):
        return self.body(x.bfloat16() if self.dtype == torch.bfloat16 else x.to(self.dtype)).float()


@pytest.mark.parametrize("frozen", [False, True])
def test_a_module_in_bfloat16_is_solved_for_in_float32(frozen):
    risks = []
    for dtype in (torch.bfloat16, torch.float32):
        module = Halved(dtype, frozen)
        if dtype == torch.float32:
            module.load_state_dict(Halved(frozen=frozen).state_dict())
        risks.append(EmpiricalRisk(net_of(module, optimizer__weight_decay=0.1).initialize(), X, y))
    narrow, wide = risks
    w = narrow.parameters() + 1e-4  # less than bfloat16 can tell
    v = torch.randn(narrow.n_parameters)
    assert w.dtype == v.dtype == torch.float32
    assert narrow.value(w) == pytest.approx(wide.value(w), rel=1e-6)
    torch.testing.assert_close(narrow.gradient(w), wide.gradient(w))
    torch.testing.assert_close(narrow.linearise(w).hessian(v), wide.linearise(w).hessian(v))


@pytest.mark.parametrize("unlearner", [None, CuReNU(), DampedNewton(), FineTune()], ids=str)
def test_a_net_in_bfloat16_forgets_and_stays_in_it(unlearner, tmp_path):
    est = UnlearnableClassifier(net_of(Halved()), unlearner, random_state=0).fit(X, y)
    before = est.predict_proba(X)
    est.forget(X[:8]).forget(X[8:10])
    after = est.predict_proba(X)
    assert np.abs(after - before).max() > 1e-2
    assert {p.dtype for p in est.net_.module_.parameters()} == {torch.bfloat16}
    np.testing.assert_array_equal(read_again(est, tmp_path / "model").predict_proba(X), after)
    # What the next request starts from is the gradient where the net is, not where it was rounded from.
    anchor, rows = est.unlearning_state_.anchor, est.training_set_
    if anchor is not None and not anchor.is_estimated:
        risk = EmpiricalRisk(est.net_, rows.raw_X, rows.raw_y, mask=rows.trained_mask)
        torch.testing.assert_close(anchor.gradient, risk.gradient(risk.parameters()), rtol=1e-3, atol=1e-4)


def test_a_change_that_bfloat16_rounds_away_is_told():
    est = UnlearnableClassifier(net_of(Halved()), DampedNewton(damping=1e6), random_state=0).fit(X, y)
    est.forget(X[:2])
    report = est.unlearning_report_
    assert not report.parameters_moved
    assert report.status == "unmoved"
    assert any("Rounding to bfloat16 took back 100% of the change" in note for note in report.notes)
