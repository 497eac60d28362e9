"""From the ``estimator`` argument to an initialised skorch net that fits the data."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from skorch import NeuralNet
from torch import nn

from sk_unlearn.estimators.default_net import built_in_spec, wrap_module

__all__ = ["build_net", "check_kind", "check_nested", "overridden", "warn_of_methods_not_called"]


def build_net(
    estimator: Any,
    X: Any,
    y: NDArray[Any],
    sample_weight: NDArray[np.float64] | None,
    *,
    classifier: bool,
    n_outputs: int,
    device: Any,
) -> NeuralNet:
    """Return an uninitialised net that shares nothing with the user's objects and knows the shapes of the data.

    Raises
    ------
    TypeError
        When ``estimator`` is none of the kinds accepted.

    ValueError
        When a device is asked for that this machine lacks.
    """
    spec = built_in_spec(estimator, classifier=classifier)
    if spec is not None:
        check_kind(spec, "estimator", classifier=classifier)
        if X.ndim != 2:
            given = "estimator=None" if estimator is None else type(estimator).__name__
            raise ValueError(
                f"{given} builds a network for tables: X must have 2 dimensions, got shape {X.shape}. "
                "Pass an estimator whose module takes such input."
            )
        net = spec.for_rows(X, y, sample_weight)
    elif isinstance(estimator, nn.Module):
        net = wrap_module(copy.deepcopy(estimator), X, sample_weight, classifier=classifier)
    elif isinstance(estimator, type) and issubclass(estimator, nn.Module):
        net = wrap_module(estimator, X, sample_weight, classifier=classifier)
    elif isinstance(estimator, NeuralNet):
        check_kind(estimator, "estimator", classifier=classifier)
        net = clone(estimator)
    else:
        is_class = isinstance(estimator, type) and issubclass(estimator, NeuralNet)
        hint = f" Pass a net, such as {estimator.__name__}(...), and not its class." if is_class else ""
        raise TypeError(
            "estimator must be None, a skorch NeuralNet, a torch.nn.Module or a subclass of it; "
            f"got {estimator!r}.{hint}"
        )
    # Rows of several parts have no number of features.
    _fill_in_shapes(net, **({"n_features_in": X.shape[1]} if X.ndim > 1 else {}), n_outputs=n_outputs)
    if device is not None:
        net.set_params(device=str(device))
    if str(net.device).startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={str(net.device)!r} was asked for but CUDA is not available; use device='cpu'.")
    return net


def check_kind(net: NeuralNet, name: str, *, classifier: bool) -> None:
    """Raise a TypeError unless a net is of the kind that the estimator is."""
    kind, wanted = _kind(net), "classifier" if classifier else "regressor"
    if kind != wanted:
        raise TypeError(
            f"{name}={type(net).__name__} must be a {wanted}, such as "
            f"{'NeuralNetClassifier' if classifier else 'NeuralNetRegressor'}; it is "
            + (f"a {kind}, for Unlearnable{kind.capitalize()}." if kind else "neither classifier nor regressor.")
        )


def check_nested(given: Mapping[str, Any], *, classifier: bool, **present: Any) -> None:
    """Raise a ValueError where a parameter is to be set of something that has none, naming what has it.

    Parameters
    ----------
    given : mapping
        What ``set_params`` was given.

    classifier : bool
        The kind of estimator.

    **present : object
        The values of ``estimator`` and ``unlearner``.
    """
    kind = "Classifier" if classifier else "Regressor"
    for name, value in (present | {name: given[name] for name in present if name in given}).items():
        nested = [key for key in given if key.startswith(f"{name}__")]
        if not nested or (hasattr(value, "set_params") and not isinstance(value, type)):
            continue
        if value is not None:
            called = value.__name__ if isinstance(value, type) else type(value).__name__
            cure = f"wrap it in a skorch net, such as NeuralNet{kind}({called}, ...)"
            if isinstance(value, type) and not issubclass(value, nn.Module):
                cure = f"pass an instance, {called}()"
            raise ValueError(f"{nested[0]} cannot be set, for {name}={called} has no parameters: {cure}.")
        default = f"MLPNet{kind}()" if name == "estimator" else "StoCuReNU()"
        raise ValueError(
            f"{nested[0]} cannot be set, for {name}=None has no parameters: pass {name}={default}, which is what None "
            "stands for."
        )


def overridden(net: NeuralNet, names: Sequence[str]) -> list[str]:
    """Return which of some methods of a net are not skorch's own."""
    return [
        name
        for name in names
        if not next(c for c in type(net).__mro__ if name in vars(c)).__module__.startswith("skorch.")
    ]


def warn_of_methods_not_called(estimator: Any) -> None:
    """Warn where a subclass of skorch's net overrides ``fit`` or ``partial_fit``: its ``fit_loop`` is what is called.

    Parameters
    ----------
    estimator : object
        What the user gave as the network.
    """
    if not isinstance(estimator, NeuralNet):
        return
    names = overridden(estimator, ("fit", "partial_fit"))
    if names:
        warnings.warn(
            f"{' and '.join(names)} of {type(estimator).__name__} will not be called: initialize and fit_loop of "
            "the net are. Move what must happen in training there.",
            UserWarning,
            stacklevel=2,
        )


def _kind(net: NeuralNet) -> str | None:
    # Before scikit-learn had tags, skorch's nets told their kind by an attribute.
    kind: str | None = getattr(net, "_estimator_type", None) or net.__sklearn_tags__().estimator_type
    return kind


def _fill_in_shapes(net: NeuralNet, **shapes: int) -> None:
    """Give the module's constructor the shapes it asks for by name and that the user left unset."""
    if isinstance(net.module, nn.Module):
        return
    given = net.get_params_for("module")
    accepted = inspect.signature(net.module).parameters
    net.set_params(**{f"module__{k}": v for k, v in shapes.items() if k in accepted and k not in given})
