"""The bound from strong convexity holds, and is refused wherever it is not known to."""

import numpy as np
import pytest
import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.exceptions import NotConvexError
from sk_unlearn.risks.combined import CombinedRisk
from sk_unlearn.risks.convexity import convex_model, distance_certificate
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.unlearners import FineTune, Retrain, StoCuReNU
from tests._problems import skorch_net


def linear(k, d=3, dtype=torch.float64, **options):
    return nn.Linear(d, k, dtype=dtype, **options)


def net_for(module, criterion=nn.CrossEntropyLoss, cls=NeuralNetClassifier, decay=0.05, **settings):
    return skorch_net(module, cls, criterion=criterion, optimizer__weight_decay=decay, lr=0.3, **settings)


def risk_for(module, criterion=nn.CrossEntropyLoss, y=None, cls=NeuralNetClassifier, seed=0, n=20, weight=None, **kw):
    rng = np.random.default_rng(seed)
    net = net_for(module, criterion, cls, **kw).initialize()
    dtype = np.float64 if next(net.module_.parameters()).dtype == torch.float64 else np.float32
    X = rng.normal(size=(n, 3)).astype(dtype)
    y = rng.integers(3, size=n) if y is None else y(rng, X)
    return EmpiricalRisk(net, X, y, weight)


def optimum(risk):
    """Newton's method from zero, to 1e-10; only for small convex problems in float64."""
    w = torch.zeros(risk.n_parameters, dtype=torch.float64)
    for _ in range(200):
        local = risk.linearise(w)
        if float(local.gradient.norm()) < 1e-12:
            break
        H = torch.stack([local.hessian(e) for e in torch.eye(len(w), dtype=torch.float64)])
        step = torch.linalg.solve(H, local.gradient)
        while risk.value(w - step) > local.value and float(step.norm()) > 1e-9:
            step = step / 2
        w = w - step
    assert float(risk.gradient(w).norm()) < 1e-10
    return w


PROBLEMS = {
    "multinomial": lambda s: risk_for(linear(3), seed=s, decay=10.0 ** -(s % 4)),
    "squared": lambda s: risk_for(linear(2), nn.MSELoss, lambda r, X: r.normal(size=(20, 2)), NeuralNetRegressor, s),
    "logistic": lambda s: risk_for(
        linear(1), nn.BCEWithLogitsLoss, lambda r, X: r.integers(2, size=(20, 1)).astype(float), NeuralNetRegressor, s
    ),
    "weighted": lambda s: risk_for(
        linear(3), nn.CrossEntropyLoss, seed=s, weight=np.random.default_rng(s).uniform(0, 3, 20),
        criterion__weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROBLEMS)
def test_the_distance_is_at_most_the_bound_in_fifty_trials_each(kind):
    tight = []
    for seed in range(50):
        risk = PROBLEMS[kind](seed)
        w_star = optimum(risk)
        generator = torch.Generator().manual_seed(seed)
        offset = torch.randn(w_star.shape, generator=generator, dtype=torch.float64)
        w = w_star + 10.0 ** -(seed % 5) * offset
        distance = float((w - w_star).norm())
        bound = distance_certificate(risk, w).bound
        assert distance <= bound * (1 + 1e-6)
        tight.append(bound / distance)
    # It could not fail if it were infinite: on these problems it is a few times the distance.
    assert np.median(tight) < 300


def test_vacuous_far_away_and_not_nearby():
    risk = PROBLEMS["multinomial"](3)
    w = optimum(risk)
    assert not distance_certificate(risk, w + 1e-6).vacuous
    weak = risk_for(linear(3), decay=1e-9)
    assert distance_certificate(weak, torch.full_like(w, 0.1)).vacuous


class Twice(nn.Module):
    def __init__(self, n_features_in=3, n_outputs=3):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, X):
        return self.layer(self.layer(X))


class Squashed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, X):
        return torch.tanh(self.layer(X))


class Frozen(nn.Module):
    """A frozen network below the layer."""

    def __init__(self, trained=False):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Tanh()).requires_grad_(trained)
        self.head = nn.Linear(4, 3)

    def forward(self, X):
        return self.head(self.body(X))


class OwnLoss(NeuralNetClassifier):
    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs) * 2


class Minus(nn.Module):
    reduction = "mean"

    def forward(self, input, target):  # noqa: A002
        return -nn.functional.cross_entropy(input, target, reduction=self.reduction)


def decays_weights_only(net):
    net.optimizer_.param_groups[0]["params"] = [net.module_.weight]
    net.optimizer_.add_param_group({"params": [net.module_.bias], "weight_decay": 0.0})


@pytest.mark.parametrize(
    ("risk", "reason"),
    [
        (lambda: risk_for(linear(3), decay=0.0), "weight decay on every parameter, biases included"),
        (lambda: risk_for(linear(3), optimizer=torch.optim.AdamW), "not AdamW"),
        (lambda: risk_for(Frozen(trained=True)), "exactly one torch.nn.Linear"),
        (lambda: risk_for(nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.Linear(3, 3))), "BatchNorm"),
        (lambda: risk_for(Twice()), "used 2 times"),
        (lambda: risk_for(Squashed()), "the output of the module must be that of its linear layer"),
        (lambda: risk_for(linear(3), cls=OwnLoss), "get_loss of its own"),
        (lambda: risk_for(linear(3), Minus), "criterion Minus is not known to be convex"),
        (lambda: risk_for(nn.Sequential(nn.Linear(3, 3), nn.Softmax(1))), "the output of the module"),
    ],
)
def test_refused_with_the_reason(risk, reason):
    with pytest.raises(NotConvexError, match=reason):
        convex_model(risk())


def test_an_unpenalised_bias_is_refused():
    risk = risk_for(linear(3))
    decays_weights_only(risk.net)
    with pytest.raises(NotConvexError, match="biases included"):
        convex_model(EmpiricalRisk(risk.net, risk.X, risk.y))


def test_rows_taken_away_are_refused_and_rows_added_are_not():
    risk, other = risk_for(linear(3)), risk_for(linear(3), n=4, seed=1)
    other = EmpiricalRisk(risk.net, other.X, other.y)
    assert convex_model(CombinedRisk(risk, added=[other])).strong_convexity == pytest.approx(0.05)
    with pytest.raises(NotConvexError, match="not stored"):
        convex_model(CombinedRisk(risk, removed=[other]))


def test_accepted_shapes():
    frozen = convex_model(risk_for(Frozen()))
    assert any("frozen" in a.statement and a.checked is None for a in frozen.assumptions)
    softmax = risk_for(nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1)), nn.NLLLoss)
    log_softmax = risk_for(nn.Sequential(nn.Linear(3, 3), nn.LogSoftmax(-1)), nn.NLLLoss, cls=NeuralNet)
    assert convex_model(softmax).hessian_lipschitz == convex_model(log_softmax).hessian_lipschitz
    binary = risk_for(
        nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), nn.BCEWithLogitsLoss,
        lambda r, X: r.integers(2, size=20).astype(np.float32), NeuralNetBinaryClassifier,
    )  # fmt: skip
    assert convex_model(binary).hessian_lipschitz == pytest.approx(1 / (6 * np.sqrt(3)))
    assert convex_model(risk_for(linear(3))).hessian_lipschitz == pytest.approx(0.2721655)


def test_the_constant_of_cross_entropy_holds_and_is_reached():
    # |H(z + u) - H(z)| / |u| over random directions stays below it, and comes near it.
    generator, largest = torch.Generator().manual_seed(0), 0.0
    for k in (2, 3, 10):
        for _ in range(300):
            z = 2 * torch.randn(k, generator=generator, dtype=torch.float64)
            u = 1e-4 * torch.randn(k, generator=generator, dtype=torch.float64)

            def hessian(at):
                p = at.softmax(0)
                return torch.diag(p) - torch.outer(p, p)

            largest = max(largest, float(torch.linalg.matrix_norm(hessian(z + u) - hessian(z), 2) / u.norm()))
    constant = convex_model(risk_for(linear(3))).hessian_lipschitz
    assert 0.9 * constant < largest <= constant * (1 + 1e-3)


def test_features_are_what_the_layer_is_given():
    risk = risk_for(linear(3), weight=np.arange(20.0))
    Z, shares = convex_model(risk).features(risk)
    np.testing.assert_array_equal(Z[:, :3].numpy(), risk.X)
    assert bool((Z[:, 3] == 1).all())
    np.testing.assert_allclose(shares.numpy(), np.arange(20) / np.arange(20).sum())
    plain = risk_for(linear(3, bias=False))
    assert convex_model(plain).features(plain)[0].shape == (20, 3)


# -------------------------------------------------------------------------------------------------- on the estimators


def estimator(unlearner=None, module=None, **settings):
    options = {"max_epochs": 60, "batch_size": -1} | settings
    return UnlearnableClassifier(net_for(module or linear(2), **options), unlearner, random_state=0)


rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3))
y = (X[:, 0] + 0.5 * rng.normal(size=40) > 0).astype(int)


@pytest.mark.parametrize("unlearner", [StoCuReNU(renew=False), FineTune(), Retrain()])
def test_every_unlearner_gets_it_and_it_holds(unlearner):
    est = estimator(unlearner).fit(X, y)
    est.forget(X[:5])
    certificate = est.certificate_
    assert certificate == est.unlearning_report_.certificate
    assert "certificate" in est.unlearning_report_._repr_html_()
    if isinstance(unlearner, Retrain):  # which has a better one
        assert (certificate.kind, certificate.bound, certificate.epsilon) == ("exact", 0.0, 0.0)
        return
    assert (certificate.noise, certificate.epsilon) == ("none", None)
    risk = EmpiricalRisk(est.net_, X[5:], y[5:])
    assert 0 < float((risk.parameters() - optimum(risk)).norm()) <= certificate.bound
    assert "no (epsilon, delta) claim" in str(est.unlearning_report_)


def test_of_the_last_request_only():
    est = estimator(StoCuReNU(renew=False)).fit(X, y).forget(X[:5])
    first = est.certificate_
    est.set_params(unlearner=FineTune()).forget(X[5:8])
    assert est.certificate_ is est.unlearning_report_.certificate is not first


def test_a_request_that_moves_nothing_leaves_the_certificate():
    weight = np.ones(40)
    weight[9] = 0
    est = estimator(StoCuReNU(renew=False)).fit(X, y, sample_weight=weight).forget(X[:5])
    before = est.certificate_
    assert est.forget(X[9:10]).certificate_ is before


def test_correction_and_rows_handed_in():
    est = estimator(StoCuReNU(renew=False)).fit(X, y)
    est.correct(X[:1], y_new=1 - y[:1])
    assert est.certificate_.bound < 1
    est.partial_forget(X[:1] + 3, y[:1])
    assert est.unlearning_report_.certificate is None
    with pytest.raises(AttributeError, match="StoCuReNU gives none, and the last request left no convex objective"):
        est.certificate_  # noqa: B018


def test_why_there_is_none():
    est = estimator(StoCuReNU(renew=False)).fit(X, y)
    assert not hasattr(est, "certificate_")
    with pytest.raises(AttributeError, match="no request has touched"):
        est.certificate_  # noqa: B018
    est = UnlearnableRegressor(unlearner=StoCuReNU(renew=False), random_state=0).fit(X, X[:, 0]).forget(X[:2])
    with pytest.raises(AttributeError, match=r"exactly one torch\.nn\.Linear"):
        est.certificate_  # noqa: B018
    est = estimator(StoCuReNU(renew=False), decay=0.0).fit(X, y).forget(X[:5])
    with pytest.raises(AttributeError, match="weight decay on every parameter"):
        est.certificate_  # noqa: B018
    est = estimator(StoCuReNU(renew=False)).set_params(keep_training_set=False).fit(X, y).partial_forget(X[:2], y[:2])
    with pytest.raises(AttributeError, match="not stored"):
        est.certificate_  # noqa: B018
