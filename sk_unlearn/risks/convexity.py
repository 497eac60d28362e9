"""Where an objective is convex for certain: one linear layer, a convex loss, and weight decay on every parameter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from skorch import NeuralNet, NeuralNetClassifier
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sk_unlearn.exceptions import NotConvexError
from sk_unlearn.privacy import Assumption, Certificate
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.utils._float64 import double

__all__ = ["ConvexModel", "convex_model", "distance_certificate"]

_PROBE_ROWS = 8

# Largest third derivative of ln(1 + e^t), and, along a direction of unit length, of ln(sum_j e^{z_j}): a third central
# moment of a variable of range R is at most R^3 / (6 sqrt 3), and R is at most sqrt 2.
_LOGISTIC = 1 / (6 * math.sqrt(3))
_MULTINOMIAL = 2 * math.sqrt(2) * _LOGISTIC


@dataclass(frozen=True)
class ConvexModel:
    """A net whose objective is strongly convex.

    Attributes
    ----------
    layer : torch.nn.Linear
        The only module with trainable parameters.

    strong_convexity : float
        The smallest weight decay λ of any trainable parameter.

    hessian_lipschitz : float or None
        Lipschitz constant of the Hessian of a row's loss as a function of the row's outputs, in the spectral norm; None
        where it is not known.

    assumptions : list of Assumption
        What the above rests on.
    """

    layer: nn.Linear
    strong_convexity: float
    hessian_lipschitz: float | None
    assumptions: list[Assumption]

    def features(self, risk: EmpiricalRisk) -> tuple[Tensor, Tensor]:
        """Return what the layer is given for the rows of a risk, and each row's share of the mass.

        Returns
        -------
        Z : Tensor of shape (n, p), float64
            With a last column of ones for a bias that is trained.

        shares : Tensor of shape (n,), float64
        """
        rows, shares, layer = [], [], _linear_layer(risk.net)
        for x, share in risk.inputs():
            (z,), _ = _observed(risk.net, layer, x)
            rows.append(double(z))
            shares.append(double(share))
        Z = torch.cat(rows)
        if self.layer.bias is not None and self.layer.bias.requires_grad:
            Z = torch.cat([Z, Z.new_ones(len(Z), 1)], 1)
        return Z, torch.cat(shares)


def convex_model(risk: Any) -> ConvexModel:
    """Establish that a risk is strongly convex in its trainable parameters, or say why that is not known.

    Parameters
    ----------
    risk : Risk or None
        A combination may have rows added, but none taken away: a difference of convex functions is not convex. None
        where there is none, since no rows are stored.

    Returns
    -------
    model : ConvexModel

    Raises
    ------
    NotConvexError
        With the reason.
    """
    if risk is None or risk.stored is None:
        raise NotConvexError("the retained rows are not stored (keep_training_set=False)")
    if any(share < 0 for share, _ in risk.parts):
        raise NotConvexError("rows that are not stored were handed in; taking them away leaves no convex objective")
    risk = risk.stored
    net = risk.net
    layer = _linear_layer(net)
    convexity = float(risk.weight_decay.min())
    if not convexity > 0:
        raise NotConvexError(
            "the objective must have weight decay on every parameter, biases included, in an optimiser that makes it "
            "part of the objective (optimizer__weight_decay > 0; not AdamW); an unpenalised parameter is not strongly "
            "convex"
        )
    _check_output(risk, layer)
    lipschitz, declared = _loss_constant(net)
    rest = [p for p in net.module_.parameters() if not p.requires_grad]
    assumptions = [
        Assumption(
            "the module is one linear layer over fixed features, with weight decay on every parameter",
            True,
            f"strong convexity {convexity:.3g}; outputs compared on {_PROBE_ROWS} rows",
        ),
        Assumption(
            f"{type(net.criterion_).__name__} is convex in the outputs", None if declared else True,
            "declared by the criterion" if declared else "",
        ),
    ]  # fmt: skip
    if rest:
        statement = "frozen parameters know nothing of the training rows"
        assumptions.append(Assumption(statement, None, f"{sum(p.numel() for p in rest)} of them"))
    return ConvexModel(layer, convexity, lipschitz, assumptions)


def distance_certificate(risk: Any, w: Tensor) -> Certificate:
    r"""Bound the distance to the retrained optimum of a strongly convex objective after the fact.

    .. math:: \|w - w^*_R\| \le \|\nabla F_R(w)\| / \lambda

    Parameters
    ----------
    risk : EmpiricalRisk or CombinedRisk
        Over the retained rows.

    w : Tensor of shape (d,)
        Where.

    Returns
    -------
    certificate : Certificate
        A distance only; vacuous when it is no better than what holds of any w, by
        :math:`\tfrac{\lambda}{2} \|w^*_R\|^2 \le F_R(0)` for a loss that is never negative.

    Raises
    ------
    NotConvexError
        Where the objective is not known to be strongly convex.
    """
    model = convex_model(risk)
    gradient = float(double(risk.gradient(w)).norm())
    start = risk.value(torch.zeros_like(w))
    if not (math.isfinite(gradient) and math.isfinite(start)):
        raise NotConvexError("the loss or its gradient is not finite")
    bound = gradient / model.strong_convexity
    trivial = float(w.norm()) + math.sqrt(2 * max(start, 0.0) / model.strong_convexity)
    rounding = Assumption(
        "rounding of the gradient is negligible", True if w.dtype == torch.float64 else None, str(w.dtype)
    )
    return Certificate(
        "strong convexity, after the fact", bound, vacuous=bound >= trivial, assumptions=[*model.assumptions, rounding]
    )


def _linear_layer(net: NeuralNet) -> nn.Linear:
    module = getattr(net.module_, "_orig_mod", net.module_)
    layers = [m for m in module.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
    if len(layers) != 1 or not isinstance(layers[0], nn.Linear) or type(layers[0]).forward is not nn.Linear.forward:
        raise NotConvexError("the module must have trainable parameters in exactly one torch.nn.Linear")
    if any(isinstance(m, _BatchNorm) and m.running_mean is not None for m in module.modules()):
        raise NotConvexError("the module has BatchNorm statistics, which change with every request")
    return layers[0]


def _check_output(risk: EmpiricalRisk, layer: nn.Linear) -> None:
    """Check that the output of the module is that of the layer, up to the softmax that its loss undoes."""
    net = risk.net
    rows = risk.evaluator.rows.first(_PROBE_ROWS)
    criterion = net.criterion_
    takes_probabilities = isinstance(criterion, nn.NLLLoss) and isinstance(net, NeuralNetClassifier)
    for x, _ in risk.inputs(rows):
        (z,), output = _observed(net, layer, x)
        if z.ndim != 2 or not isinstance(output, Tensor) or len(output) != len(z):
            raise NotConvexError("the layer must be given one vector a row, and the module must give one tensor")
        logits = nn.functional.linear(z, layer.weight, layer.bias).detach()
        if isinstance(criterion, nn.NLLLoss):
            logits = logits.softmax(1) if takes_probabilities else logits.log_softmax(1)
        if output.numel() != logits.numel() or not torch.allclose(output.reshape_as(logits), logits, 1e-4, 1e-6):
            wanted = "its softmax" if takes_probabilities else "its log-softmax"
            what = wanted if isinstance(criterion, nn.NLLLoss) else "itself"
            raise NotConvexError(f"the output of the module must be that of its linear layer, {what}")


def _loss_constant(net: NeuralNet) -> tuple[float | None, bool]:
    """Return the Lipschitz constant of the Hessian of a row's loss, and whether the criterion declares it itself."""
    if type(net).get_loss not in (NeuralNet.get_loss, NeuralNetClassifier.get_loss):
        raise NotConvexError(f"{type(net).__name__} has a get_loss of its own, of which nothing is known")
    criterion = net.criterion_
    declared = getattr(criterion, "hessian_lipschitz", None)
    if declared is not None:
        return float(declared), True

    def is_plain(kind: type[nn.Module]) -> bool:
        return isinstance(criterion, kind) and type(criterion).forward is kind.forward

    averaged = getattr(criterion, "reduction", None) == "mean"
    if is_plain(nn.CrossEntropyLoss) or is_plain(nn.NLLLoss):
        return (_MULTINOMIAL if averaged else None), False
    if is_plain(nn.MSELoss):
        return 0.0, False
    if is_plain(nn.BCEWithLogitsLoss):
        weighted = criterion.weight is not None or criterion.pos_weight is not None
        # The mean over k outputs only makes it smaller.
        return (_LOGISTIC if averaged and not weighted else None), False
    if is_plain(nn.L1Loss) or is_plain(nn.SmoothL1Loss) or is_plain(nn.HuberLoss):
        return None, False
    raise NotConvexError(
        f"the criterion {type(criterion).__name__} is not known to be convex; known are CrossEntropyLoss, NLLLoss, "
        "BCEWithLogitsLoss, MSELoss, L1Loss, SmoothL1Loss and HuberLoss, and a criterion that declares itself convex "
        "by an attribute hessian_lipschitz"
    )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


def _observed(net: NeuralNet, layer: nn.Linear, x: Any) -> tuple[tuple[Tensor], Any]:
    """Return what the layer is given when the net infers x, and what the module gives."""
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, args, output: seen.append(args[0].detach()))
    try:
        with torch.no_grad(), _evaluating(net.module_):
            output = net.infer(x)
    finally:
        hook.remove()
    if len(seen) != 1:
        raise NotConvexError(f"the linear layer must be used once in a forward pass, it was used {len(seen)} times")
    return (seen[0],), output
