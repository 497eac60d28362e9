"""Rows and targets on their way in: validation, data types, and the shapes that a net takes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.utils import check_array
from sklearn.utils.validation import _check_sample_weight, validate_data
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import nn

from sk_unlearn.estimators._check import output_of
from sk_unlearn.estimators._forms import (
    is_dataset,
    is_table,
    named_parts,
    parts_as_fitted,
    read_dataset,
    records_of,
)
from sk_unlearn.estimators._state import FittedState
from sk_unlearn.estimators._validation import check_numbers, listed, validated
from sk_unlearn.rows import OutsideRows, SparseRows, TrainingSet, count_distinct
from sk_unlearn.rows.content import chunks, row_bytes
from sk_unlearn.rows.forms import as_rows, outside_rows
from sk_unlearn.rows.parts import as_records, fields, for_net, has_parts, part_name, parts_in
from sk_unlearn.rows.spread import SpreadRows
from sk_unlearn.rows.storage import dense, in_blocks

__all__ = [
    "InputsMixin",
    "cast_targets",
    "cast_values",
    "check_same_length",
    "feature_dtype",
    "predicted",
    "warn_of_merged_rows",
]


class InputsMixin:
    """How an estimator takes rows and targets: validated, in the data type of its net, targets encoded."""

    _classifier: bool
    estimator: Any
    keep_training_set: bool
    net_: NeuralNet
    training_set_: TrainingSet
    unlearning_state_: FittedState

    def _learn_targets(self, y: NDArray[Any], classes: ArrayLike | None = None) -> NDArray[Any]:
        """Learn the kind of target from the first y and return it encoded."""
        raise NotImplementedError

    def _encode_targets(self, y: Any, name: str) -> NDArray[Any]:
        """Encode targets of a fitted estimator; unknown ones raise a ValueError that names the argument."""
        raise NotImplementedError

    if TYPE_CHECKING:  # that of many shards has none

        @property
        def _n_outputs(self) -> int: ...

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.sparse = True
        return tags

    def _validate_training_rows(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, *, reset: bool, net: Any = None
    ) -> tuple[Any, NDArray[Any], NDArray[np.float64] | None]:
        if is_dataset(X):
            X, y = read_dataset(X, y, "X")
        X = self._validate_numbers(X, "X", reset=reset, net=net)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        dtype = None if self._classifier else "numeric"
        y = validated("y", y, lambda: check_array(listed(y), ensure_2d=False, dtype=dtype, input_name="y"))
        if not self._classifier:
            check_numbers("y", y)
        check_same_length(y, X, "y")
        if not reset:
            self._check_row_shape(X, "X")
        if not self.keep_training_set and isinstance(X, OutsideRows) and X.is_overwritten:
            raise ValueError(
                "keep_training_set=False keeps no rows, so that none could be overwritten in the file that "
                "open_rows(..., overwrite=True) opened: open it without overwrite, or keep the training set."
            )
        if sample_weight is None:
            return X, y, None
        weight = validated(
            "sample_weight",
            sample_weight,
            lambda: _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True),
        )
        if not weight.any():
            raise ValueError("sample_weight is zero for every row; at least one row must count.")
        return X, y, None if (weight == 1).all() else weight

    def _validate_numbers(self, X: Any, name: str, *, reset: bool, net: Any = None) -> Any:
        """Return rows of finite numbers: an array, sparse rows, rows outside, or records where they have parts."""
        if reset:
            parts = parts_in(X)
            parts = named_parts(X, self.estimator if net is None else net) if parts is None else parts
        else:
            dtype = self.unlearning_state_.dtype
            parts = parts_as_fitted(X, dtype, name) if has_parts(dtype) else None
        if parts is not None:
            if is_table(X):
                validate_data(self, X, reset=reset, skip_check_array=True)
            return records_of({part: _validated_part(part, values, name) for part, values in parts.items()}, name)
        outside = outside_rows(X)
        if outside is not None:
            for _, block in in_blocks(outside):
                self._validate_table(block, name, reset=reset)
            return outside
        return self._validate_table(X.csr if isinstance(X, SparseRows) else X, name, reset=reset)

    def _validate_table(self, X: Any, name: str, *, reset: bool) -> Any:
        def check() -> Any:
            # scikit-learn counts the features along the second axis alone: of rows that are images it would name the
            # wrong number.
            if not reset and len(self.unlearning_state_.row_shape) > 1 and not issparse(X):
                self._check_row_shape(listed(X), name)
            return validate_data(self, listed(X), reset=reset, accept_sparse="csr", dtype="numeric", allow_nd=True)

        return as_rows(check_numbers(name, validated(name, X, check, called="X")))

    def _validate_features(self, X: Any, name: str = "X") -> Any:
        """Return rows to predict or to look up, as the net takes them; of a data set the targets are left out."""
        if is_dataset(X):
            X, _ = read_dataset(X, None, name)
        X = self._validate_numbers(X, name, reset=False)
        self._check_row_shape(X, name)
        return self._at_width_of_net(cast_values(X, self.unlearning_state_.dtype, name))

    def _at_width_of_net(self, X: Any) -> Any:
        """Return rows with zeros where features were that have gone."""
        state = self.unlearning_state_
        if state.filled is None:
            return X
        width = self.training_set_.raw_X.shape[1]
        if isinstance(X, SparseRows):
            return X.at_columns(state.filled, width)
        wide = np.zeros((len(X), width), dtype=X.dtype)
        wide[:, state.filled] = dense(X)
        return wide

    def _check_row_shape(self, X: Any, name: str) -> None:
        dtype = self.unlearning_state_.dtype
        for part in dtype.names or ():
            if X.dtype[part].shape != dtype[part].shape:
                raise ValueError(
                    f"{part_name(name, part)} has rows of shape {X.dtype[part].shape}; the estimator was fitted on "
                    f"{dtype[part].shape}."
                )
        given, fitted = tuple(np.shape(X)), self.unlearning_state_.row_shape
        if given[1:] != fitted:
            alone = f" One row alone goes in as {name}[None]." if given == fitted else ""
            raise ValueError(f"{name} has rows of shape {given[1:]}; the estimator was fitted on {fitted}.{alone}")

    def _validate_request(self, X: Any, y: Any, X_name: str, y_name: str) -> tuple[Any, NDArray[Any] | None]:
        if is_dataset(X):
            X, y = read_dataset(X, y, X_name)
        # SciPy keeps some sparse matrices in a dict, which has a shape, and no truth.
        if X.shape[:1] == (0,) if hasattr(X, "shape") else isinstance(X, list | tuple | Mapping) and not X:
            raise ValueError(f"{X_name} is empty: pass at least one row.")
        X_net = self._validate_features(X, X_name)
        return X_net, None if y is None else self._targets_for_net(y, X_net, y_name)

    def _targets_for_net(self, y: Any, X_net: Any, name: str) -> NDArray[Any]:
        encoded = self._encode_targets(y, name)
        check_same_length(encoded, X_net, name)
        return cast_targets(self.net_, X_net, encoded, classifier=self._classifier, name=name)

    def _stored_targets(self, y: Any, n: int, name: str) -> NDArray[Any]:
        """Return the targets of n rows as they are stored."""
        encoded, rows = self._encode_targets(y, name), self.training_set_
        if len(encoded) != n:
            raise ValueError(f"{name} has {len(encoded)} rows but belongs to {n}; pass one for each.")
        return cast_values(encoded, rows.raw_y.dtype, name).reshape(n, *rows.raw_y.shape[1:])


def check_same_length(a: Any, X: Any, name: str) -> None:
    """Raise a ValueError unless there is one entry for each row."""
    if len(a) != len(X):
        raise ValueError(f"{name} has {len(a)} rows but belongs to {len(X)}; pass one for each.")


def _validated_part(part: str, values: Any, whole: str) -> NDArray[Any]:
    if not (isinstance(part, str) and (part.isdigit() or part.isidentifier())):
        raise ValueError(f"{whole} has a part whose name is no name of an argument that forward could take.")
    name = part_name(whole, part)
    array = validated(
        name,
        values,
        lambda: check_array(
            values, dtype="numeric", ensure_2d=False, allow_nd=True, input_name=name, ensure_min_features=0
        ),
    )
    return check_numbers(name, array)


def predicted(predict: Callable[[Any], Any], X: Any) -> NDArray[Any]:
    """Return what a net predicts for rows as it takes them; of rows outside a block is in memory at a time."""
    if not isinstance(X, OutsideRows):
        return np.asarray(predict(for_net(X)))
    return np.concatenate([np.asarray(predict(block)) for _, block in in_blocks(X)])


def feature_dtype(net: NeuralNet, X: Any) -> np.dtype[Any]:
    """Return the data type in which the module takes its rows: that of its parameters, or integers for look-ups.

    Of rows of several parts, numbers with a fraction are taken as parameters are, whole ones as they are.
    """
    if has_parts(X):
        return np.dtype([(part, _part_dtype(net, X.dtype[part].base), X.dtype[part].shape) for part in X.dtype.names])
    if X.dtype.kind in "iub" and any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in net.module_.modules()):
        return np.dtype(np.int64)
    return _parameter_dtype(net)


def _part_dtype(net: NeuralNet, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "f":
        return _parameter_dtype(net)
    return dtype if dtype.kind == "b" else np.dtype(np.int64)


def _parameter_dtype(net: NeuralNet) -> np.dtype[Any]:
    # A part that is frozen in bfloat16 has no data type of NumPy's.
    kinds = (p.dtype for p in net.module_.parameters() if p.dtype in (torch.float32, torch.float64))
    return np.dtype(str(next(kinds, torch.float32)).removeprefix("torch."))


def cast_values(values: Any, dtype: np.dtype[Any], name: str = "X") -> Any:
    """Return validated numbers as the net takes them, copying only where it must; torch takes no read-only memory.

    A float type rounds: that is what the net sees. But no number is made a whole one, and none is made infinite.

    Raises
    ------
    ValueError
        If the data type cannot hold a value.
    """
    if has_parts(values):
        names = values.dtype.names
        return as_records({part: cast_values(values[part], dtype[part].base, part_name(name, part)) for part in names})
    if isinstance(values, SparseRows):
        if values.dtype != dtype:
            # The numbers alone are looked at: a zero is a zero in every data type.
            _cast_dense(values.csr.data, dtype, name, len(values), values.row_of_entry)
        return SparseRows(values, dtype)
    if isinstance(values, SpreadRows):
        if values.dtype != dtype:

            def lost_in(rows: NDArray[Any]) -> NDArray[Any]:
                return np.asarray(_lost(rows, _cast(rows, dtype)).any(axis=1))

            _refuse_lost(int(np.count_nonzero(values.each_by_its_holder(lost_in))), len(values), dtype, name)
        return values.astype(dtype)
    if isinstance(values, OutsideRows):
        if values.dtype != dtype:
            lost = (_lost(block, _cast(block, dtype)).any(axis=1) for _, block in in_blocks(values))
            _refuse_lost(sum(map(np.count_nonzero, lost)), len(values), dtype, name)
        return values.astype(dtype)
    return _cast_dense(values, dtype, name, len(values))


def _cast_dense(
    values: NDArray[Any], dtype: np.dtype[Any], name: str, n_rows: int, row: NDArray[np.int64] | None = None
) -> NDArray[Any]:
    cast = _cast(values, dtype)
    if values.dtype != dtype:
        lost = _lost(values, cast)
        n = np.count_nonzero(lost.any(axis=1)) if row is None else len(np.unique(row[lost[:, 0]]))
        _refuse_lost(int(n), n_rows, dtype, name)
    return cast


def _cast(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        cast: NDArray[Any] = np.require(values, dtype, ["C_CONTIGUOUS", "WRITEABLE"])
    return cast


def _lost(values: NDArray[Any], cast: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which numbers a cast has changed by more than rounding, one row of them for each row."""
    if cast.dtype.kind == "f":
        lost = np.isinf(cast)  # what has been validated is finite
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            lost = (cast.astype(values.dtype) != values) | ((cast < 0) != (values < 0))
    return lost.reshape(len(lost), math.prod(lost.shape[1:]))


def _refuse_lost(n: int, n_rows: int, dtype: np.dtype[Any], name: str) -> None:
    cure = "the net was fitted on whole numbers; for others, fit it on a table of floats"
    if dtype.kind == "f":
        cure = "scale them, or use a net of float64 parameters"
    if n:
        raise ValueError(
            f"{name} has numbers that {dtype}, which the net takes, cannot hold, in {n} of {n_rows} rows: {cure}."
        )


def warn_of_merged_rows(X: Any, X_net: Any) -> None:
    """Warn where rows become equal because the net's data type cannot tell whole numbers of theirs apart.

    Numbers with a fraction are measured, and measurements that agree in so many digits are seldom two persons'. Whole
    numbers may well be numbers *of* persons, which float32 tells apart up to 2**24 and float64 up to 2**53.
    """
    pairs = [*zip(fields(X), fields(X_net), strict=True)]
    if not any(one.dtype != other.dtype and _loses_whole_numbers(one, other) for one, other in pairs):
        return
    n = count_distinct(X) - count_distinct(X_net)
    if n:
        warnings.warn(
            f"{n} rows of X become equal to others in {X_net.dtype}, which the net takes: it cannot tell whole numbers "
            "of theirs apart. forget(X_del) forgets such rows together. Name rows by sample_id, or leave that column "
            "out of X.",
            UserWarning,
            stacklevel=2,
        )


def _loses_whole_numbers(X: Any, X_net: Any) -> bool:
    if isinstance(X, SparseRows):  # entries that became zero are no longer there, and were no whole numbers
        X = X.csr.data
        X_net = X.astype(X_net.dtype)

    def differs(given: NDArray[Any], cast: NDArray[Any]) -> bool:
        with np.errstate(invalid="ignore"):
            lost = cast.astype(X.dtype) != given
        return bool(lost.any() and (X.dtype.kind != "f" or (np.rint(given) == given)[lost].any()))

    def loses(part: slice) -> bool:
        return differs(dense(X[part]), dense(X_net[part]))

    if isinstance(X, SpreadRows):
        of_each = X.each_by_its_holder(lambda rows: np.full(len(rows), differs(rows, _cast(rows, X_net.dtype))))
        return bool(of_each.any())
    return any(map(loses, chunks(len(X), max(1, row_bytes(X)))))


def cast_targets(net: NeuralNet, X: Any, y: NDArray[Any], *, classifier: bool, name: str = "y") -> NDArray[Any]:
    """Return targets in the data type and shape that the net's criterion takes.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.

    X : ndarray of shape (n, ...) or SparseRows
        A few rows as the net takes them, to see the shape of its output.

    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Class numbers, or values.

    classifier : bool
        The kind of target.

    name : str
        What the caller's user calls y.
    """
    if classifier and not isinstance(net, NeuralNetBinaryClassifier):
        return y.astype(np.int64)
    dtype = _parameter_dtype(net) if has_parts(X) else X.dtype if X.dtype.kind == "f" else np.dtype(np.float32)
    y = cast_values(y, dtype, name)
    if classifier or y.ndim == 2:
        return y
    return y if output_of(net, X, y).ndim == 1 else y[:, None]
