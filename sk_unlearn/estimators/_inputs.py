"""Rows and targets on their way in: validation, data types, and the shapes that a net takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import _check_sample_weight, validate_data
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import nn

from sk_unlearn.estimators._state import FittedState

__all__ = ["InputsMixin", "cast_features", "cast_targets", "check_same_length", "feature_dtype"]


class InputsMixin:
    """How an estimator takes rows and targets: validated, in the data type of its net, targets encoded."""

    _classifier: bool
    net_: NeuralNet
    unlearning_state_: FittedState

    def _learn_targets(self, y: NDArray[Any], classes: ArrayLike | None = None) -> NDArray[Any]:
        """Learn the kind of target from the first y and return it encoded."""
        raise NotImplementedError

    def _encode_targets(self, y: Any, name: str) -> NDArray[Any]:
        """Encode targets of a fitted estimator; unknown ones raise a ValueError that names the argument."""
        raise NotImplementedError

    @property
    def _n_outputs(self) -> int:
        raise NotImplementedError

    def _validate_training_rows(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, *, reset: bool
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None]:
        X, y = validate_data(
            self, X, y, reset=reset, dtype="numeric", allow_nd=True, multi_output=True, y_numeric=not self._classifier
        )
        if not reset:
            self._check_row_shape(X, "X")
        if sample_weight is None:
            return X, y, None
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("sample_weight is zero for every row; at least one row must count.")
        return X, y, None if (weight == 1).all() else weight

    def _validate_features(self, X: Any, name: str = "X") -> NDArray[Any]:
        X = validate_data(self, X, reset=False, dtype="numeric", allow_nd=True)
        self._check_row_shape(X, name)
        return cast_features(X, self.unlearning_state_.dtype)

    def _check_row_shape(self, X: NDArray[Any], name: str) -> None:
        shape = self.unlearning_state_.row_shape
        if X.shape[1:] != shape:
            raise ValueError(f"{name} has rows of shape {X.shape[1:]}; the estimator was fitted on {shape}.")

    def _validate_request(self, X: Any, y: Any, X_name: str, y_name: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
        if hasattr(X, "__len__") and len(X) == 0:
            raise ValueError(f"{X_name} is empty: pass at least one row.")
        X_net = self._validate_features(X, X_name)
        return X_net, None if y is None else self._targets_for_net(y, X_net, y_name)

    def _targets_for_net(self, y: Any, X_net: NDArray[Any], name: str) -> NDArray[Any]:
        encoded = self._encode_targets(y, name)
        check_same_length(encoded, X_net, name)
        return cast_targets(self.net_, X_net, encoded, classifier=self._classifier)


def check_same_length(a: NDArray[Any], X: NDArray[Any], name: str) -> None:
    """Raise a ValueError unless there is one entry for each row."""
    if len(a) != len(X):
        raise ValueError(f"{name} has {len(a)} rows but belongs to {len(X)}; pass one for each.")


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
