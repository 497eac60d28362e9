"""The network used when the user gives none, and the training defaults around a bare module."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from torch import nn

__all__ = ["MLP", "coarse_standardisation", "default_net", "regression_decay", "wrap_module"]


class MLP(nn.Module):
    """A small multi-layer perceptron that standardises what goes in and, for regression, what comes out.

    Parameters
    ----------
    n_features_in : int
        Number of input features.

    n_outputs : int
        Number of outputs: one logit a class, or one value a target.

    hidden_layer_sizes : sequence of int, default=(64, 32)
        Widths of the hidden layers.

    input_shift, input_scale : sequence of float of length n_features_in, default=None
        The network sees ``(x - input_shift) / input_scale``.

    output_shift, output_scale : sequence of float of length n_outputs, default=None
        The network returns ``output_shift + output_scale * z``.

    dtype : torch.dtype, default=torch.float32
        Data type of parameters and inputs.
    """

    def __init__(
        self,
        n_features_in: int,
        n_outputs: int,
        hidden_layer_sizes: Sequence[int] = (64, 32),
        *,
        input_shift: Sequence[float] | None = None,
        input_scale: Sequence[float] | None = None,
        output_shift: Sequence[float] | None = None,
        output_scale: Sequence[float] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()

        def constant(name: str, values: Sequence[float] | None) -> None:
            self.register_buffer(name, None if values is None else torch.tensor(values, dtype=dtype))

        constant("input_shift", input_shift)
        constant("input_scale", input_scale)
        constant("output_shift", output_shift)
        constant("output_scale", output_scale)
        widths = [n_features_in, *hidden_layer_sizes]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            # A smooth unit: where a unit has kinks, second derivatives at a point do not tell of them.
            layers += [nn.Linear(n_in, n_out, dtype=dtype), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Linear(widths[-1], n_outputs, dtype=dtype))

    input_shift: torch.Tensor | None
    input_scale: torch.Tensor
    output_shift: torch.Tensor | None
    output_scale: torch.Tensor

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Map rows (n, n_features_in) to outputs (n, n_outputs)."""
        if self.input_shift is not None:
            X = (X - self.input_shift) / self.input_scale
        z = self.body(X)
        if self.output_shift is not None:
            z = self.output_shift + self.output_scale * z
        return z


def coarse_standardisation(
    A: NDArray[np.floating[Any]], weight: NDArray[np.float64] | None
) -> tuple[list[float], list[float]]:
    """Shift and scale of the columns of A, rounded to powers of two.

    Rounding is for privacy and for unlearning: the constants say almost nothing about one row, and a network
    retrained on fewer rows nearly always gets the same ones.
    """
    mean = np.average(A, axis=0, weights=weight).astype(np.float64)
    variance = np.average((A - mean) ** 2, axis=0, weights=weight).astype(np.float64)
    # A column that does not vary is shifted only.
    deviation = np.sqrt(variance)
    constant = deviation <= 1e-12 * np.maximum(np.abs(mean), 1.0)
    scale = np.exp2(np.round(np.log2(np.where(constant, 1.0, deviation))))
    return (np.round(mean / scale) * scale).tolist(), scale.tolist()


def regression_decay(output_scale: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the weight decay: the squared loss is in squared units of the target, and the penalty goes along."""
    return 1e-2 * float(np.mean(np.square(output_scale)))


def _training_defaults(n_rows: float) -> dict[str, Any]:
    """Epochs fall and batches grow with the number of rows, so that small and large sets both train well."""
    max_epochs = int(np.clip(round(200 * np.sqrt(500 / max(n_rows, 1.0))), 10, 200))
    return {
        "max_epochs": max_epochs,
        "batch_size": int(np.clip(2 ** np.round(np.log2(max(n_rows, 1.0) / 20)), 64, 512)),
        "optimizer": torch.optim.Adam,
        "optimizer__weight_decay": 1e-4,
        "lr": 3e-3,
        "train_split": None,
        "iterator_train__shuffle": True,
        # The rate falls to zero, so that the fit ends near a stationary point: a deletion is best undone from there.
        "callbacks": [
            ("schedule", LRScheduler(policy=torch.optim.lr_scheduler.CosineAnnealingLR, T_max=max_epochs)),
        ],
        "verbose": 0,
    }


def _net_class(classifier: bool) -> tuple[type[NeuralNet], type[nn.Module]]:
    return (NeuralNetClassifier, nn.CrossEntropyLoss) if classifier else (NeuralNetRegressor, nn.MSELoss)


def default_net(
    X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[np.float64] | None, *, classifier: bool
) -> NeuralNet:
    """Build the skorch net used for ``estimator=None``, sized for the data.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Training rows. The network takes their float32; every other data type becomes float64.

    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Targets; unused for a classifier, whose number of outputs is filled in later.

    sample_weight : ndarray of shape (n_samples,) or None
        Weights; the constants below and the number of epochs count a weight as so many rows.

    classifier : bool
        Whether to classify or to regress.

    Returns
    -------
    net : skorch.NeuralNet
        Uninitialised.
    """
    shift, scale = coarse_standardisation(X, sample_weight)
    parameters: dict[str, Any] = {"module__input_shift": shift, "module__input_scale": scale}
    if not classifier:
        shift, scale = coarse_standardisation(y.reshape(len(y), -1), sample_weight)
        parameters |= {"module__output_shift": shift, "module__output_scale": scale}
        parameters["optimizer__weight_decay"] = regression_decay(scale)
    parameters["module__dtype"] = torch.float32 if X.dtype == np.float32 else torch.float64
    return wrap_module(MLP, X, sample_weight, classifier=classifier).set_params(**parameters)


def wrap_module(
    module: type[nn.Module] | nn.Module,
    X: NDArray[Any],
    sample_weight: NDArray[np.float64] | None,
    *,
    classifier: bool,
) -> NeuralNet:
    """Wrap a bare module in a skorch net with the training defaults of :func:`default_net`."""
    net_class, criterion = _net_class(classifier)
    n_rows = len(X) if sample_weight is None else max(len(X), float(sample_weight.sum()))
    return net_class(module, criterion=criterion, **_training_defaults(n_rows))
