"""From the ``estimator`` argument to an initialised skorch net that fits the data."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import nn

from sk_unlearn.estimators.default_net import default_net, wrap_module

__all__ = ["build_net", "cast_features", "cast_targets", "feature_dtype"]


def build_net(
    estimator: Any,
    X: NDArray[Any],
    y: NDArray[Any],
    sample_weight: NDArray[np.float64] | None,
    *,
    classifier: bool,
    n_outputs: int,
    device: Any,
) -> NeuralNet:
    """Return an uninitialised net that owes nothing to the user's objects and knows the shapes of the data.

    Raises
    ------
    TypeError
        When ``estimator`` is none of the kinds accepted.

    ValueError
        When a device is asked for that this machine lacks.
    """
    if estimator is None:
        if X.ndim != 2:
            raise ValueError(
                f"estimator=None builds a network for tables: X must have 2 dimensions, got shape {X.shape}. "
                "Pass an estimator whose module takes such input."
            )
        net = default_net(X, y, sample_weight, classifier=classifier)
    elif isinstance(estimator, nn.Module):
        net = wrap_module(copy.deepcopy(estimator), X, sample_weight, classifier=classifier)
    elif isinstance(estimator, type) and issubclass(estimator, nn.Module):
        net = wrap_module(estimator, X, sample_weight, classifier=classifier)
    elif isinstance(estimator, NeuralNet):
        kind, wanted = _kind(estimator), "classifier" if classifier else "regressor"
        if kind != wanted:
            raise TypeError(
                f"estimator={type(estimator).__name__} must be a {wanted}, such as "
                f"{'NeuralNetClassifier' if classifier else 'NeuralNetRegressor'}; it is "
                + (f"a {kind}, for Unlearnable{kind.capitalize()}." if kind else "neither classifier nor regressor.")
            )
        net = clone(estimator)
    else:
        raise TypeError(
            f"estimator must be None, a skorch NeuralNet, a torch.nn.Module or a subclass of it; got {estimator!r}."
        )
    _fill_in_shapes(net, n_features_in=X.shape[1], n_outputs=n_outputs)
    if device is not None:
        net.set_params(device=str(device))
    if str(net.device).startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device={str(net.device)!r} was asked for but CUDA is not available; use device='cpu'.")
    return net


def _kind(net: NeuralNet) -> str | None:
    # skorch's nets told by an attribute before scikit-learn had tags.
    kind: str | None = getattr(net, "_estimator_type", None) or net.__sklearn_tags__().estimator_type
    return kind


def _fill_in_shapes(net: NeuralNet, **shapes: int) -> None:
    """Give the module's constructor the shapes it asks for by name and that the user left unset."""
    if isinstance(net.module, nn.Module):
        return
    given = net.get_params_for("module")
    accepted = inspect.signature(net.module).parameters
    net.set_params(**{f"module__{k}": v for k, v in shapes.items() if k in accepted and k not in given})


def feature_dtype(net: NeuralNet, X: NDArray[Any]) -> np.dtype[Any]:
    """Return the data type in which the module takes its rows: that of its parameters, or integers for look-ups."""
    if X.dtype.kind in "iub" and any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in net.module_.modules()):
        return np.dtype(np.int64)
    kinds = (p.dtype for p in net.module_.parameters() if p.dtype.is_floating_point)
    return np.dtype(str(next(kinds, torch.float32)).removeprefix("torch."))


def cast_features(X: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return X as the net takes it, copying only where it must; torch takes no read-only memory."""
    return np.require(X, dtype, ["C_CONTIGUOUS", "WRITEABLE"])


def cast_targets(net: NeuralNet, X: NDArray[Any], y: NDArray[Any], *, classifier: bool) -> NDArray[Any]:
    """Return targets in the data type and shape that the net's criterion takes.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.

    X : ndarray of shape (n, ...)
        A few rows as the net takes them, to see the shape of its output.

    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Class numbers, or values.
    """
    if classifier and not isinstance(net, NeuralNetBinaryClassifier):
        return y.astype(np.int64)
    dtype = X.dtype if X.dtype.kind == "f" else np.dtype(np.float32)
    y = y.astype(dtype)
    if classifier or y.ndim == 2:
        return y
    with torch.no_grad():
        output = net.evaluation_step((torch.from_numpy(X[:2]), None))
    output = output[0] if isinstance(output, tuple) else output
    return y if output.ndim == 1 else y[:, None]
