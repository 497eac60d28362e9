"""Steps that treat every column by itself: imputers and scalers, fitted from the tally of the raw columns.

Several of them in a row are looked at together. Each is a shift and a scale of the values there are, and a value for
the missing ones, so that the tally of the raw columns says what any of them is given. Nothing has to be carried from
one coordinate system to the next, and no rounding adds up over many requests.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler
from sklearn.preprocessing._data import _handle_zeros_in_scale, _is_constant_feature
from sklearn.utils import check_array
from sklearn.utils._missing import is_scalar_nan
from sklearn.utils.validation import validate_data

from sk_unlearn.preprocessing.changes import Change
from sk_unlearn.preprocessing.exact_sums import UNIT
from sk_unlearn.preprocessing.tallies import Anchor, Needs, NotKnownError, Tally, marked

__all__ = ["COLUMNWISE", "Column", "View", "after", "anchor", "change_between", "needs_of", "refit"]

COLUMNWISE: tuple[type[Any], ...] = (SimpleImputer, MissingIndicator, StandardScaler, MinMaxScaler, MaxAbsScaler)


@dataclass(frozen=True)
class Move:
    """What a scaler does to a value: ``(x - centre) / divisor * factor + offset``."""

    centre: float = 0.0
    divisor: float = 1.0
    factor: float = 1.0
    offset: float = 0.0

    def exact(self) -> tuple[Fraction, Fraction]:
        """Return the same as a scale and a shift, which floats would round."""
        scale = Fraction(self.factor) / Fraction(self.divisor)
        return scale, Fraction(self.offset) - Fraction(self.centre) * scale


@dataclass(frozen=True)
class Column:
    """A column of a step's input as a function of a raw column.

    Attributes
    ----------
    source : int
        The raw column.
    indicator : bool
        Whether it says where the raw column has missing values: 1 there, 0 elsewhere.
    moves : tuple of Move
        What became of its values.
    fill : object
        What was put in place of missing values; None where they are still missing.
    filled_after : int
        How many moves there had been by then.
    """

    source: int
    indicator: bool = False
    moves: tuple[Move, ...] = ()
    fill: Any = None
    filled_after: int = 0

    @property
    def is_raw(self) -> bool:
        """Whether values are as they were."""
        return not self.indicator and not self.moves

    def exact(self) -> tuple[Any, Any, Any]:
        """Return scale and shift of a value, and what stands for a missing one, without rounding."""
        scale: Any = 0 if self.indicator else 1
        shift: Any = 0
        fill = _number(self.fill)
        for k, move in enumerate(self.moves):
            factor, offset = move.exact()
            scale, shift = scale * factor, shift * factor + offset
            if fill is not None and k >= self.filled_after:
                fill = fill * factor + offset
        return scale, shift, fill

    def moved(self, move: Move) -> Column:
        """Return the column after another move."""
        if not all(map(np.isfinite, (move.centre, move.divisor, move.factor, move.offset))):
            raise NotKnownError  # a column without any value
        return Column(self.source, self.indicator, (*self.moves, move), self.fill, self.filled_after)


def _number(value: Any) -> Any:
    """Return a number exactly; anything else as it is."""
    return Fraction(float(value)) if isinstance(value, int | float | np.number) and np.isfinite(value) else value


@dataclass
class View:
    """The input of a step, as far as the tally of the raw columns tells."""

    tally: Tally
    columns: list[Column]
    name: str = ""

    def n_missing(self, column: Column) -> int:
        """How many values of the raw column are missing."""
        return self.tally.missing[column.source] if self.tally.missing else 0

    def n_values(self, column: Column) -> int:
        """How many values a step finds in a column."""
        return self.tally.n_rows - (self.n_missing(column) if column.fill is None else 0)

    def moments(self, column: Column) -> tuple[Any, float, float]:
        """Return total weight, mean and variance of a column, each rounded once; the weight in units."""
        moments = self.tally.moments[self.name if self.name in self.tally.moments else ""]
        present, missing, sums, squares = (
            values[column.source] for values in (moments.present, moments.missing, moments.sums, moments.squares)
        )
        s, t, f = column.exact()
        weight, first = present, s * sums + t * present
        second = s * s * squares + 2 * s * t * sums + t * t * present
        if f is not None:
            weight, first, second = weight + missing, first + f * missing, second + f * f * missing
        if not weight:
            return weight, np.nan, np.nan
        return weight, float(first / weight), float((weight * second - first * first) / (weight * weight))

    def extreme(self, column: Column, sign: int) -> float:
        """Return the smallest value of a column (sign 1) or the largest (-1)."""
        kept = (self.tally.low if sign > 0 else self.tally.high) or []
        scale, shift, fill = column.exact()
        candidates = []
        if self.tally.n_rows > self.n_missing(column):
            raw = kept[column.source].smallest
            if raw is None:
                raise NotKnownError
            candidates.append(sign * raw if column.is_raw else float(scale * Fraction(sign * raw) + shift))
        if fill is not None and self.n_missing(column):
            candidates.append(float(fill))
        return sign * min((sign * c for c in candidates), default=np.nan)

    def most_frequent(self, column: Column) -> Any:
        """Return the most frequent value of a raw column, the smallest of several as scikit-learn does."""
        counts = dict((self.tally.values or [])[column.source])
        if column.fill is not None and self.n_missing(column):
            counts[column.fill] = counts.get(column.fill, 0) + self.n_missing(column)
        most = max(counts.values())
        candidates = [value for value, count in counts.items() if count == most]
        try:
            return min(candidates)
        except TypeError:
            return min(candidates, key=lambda value: (str(type(value)), str(value)))


# ------------------------------------------------------------------------------------------------------ what is counted


def needs_of(step: Any, before: list[Any], weighted: bool, name: str) -> Needs | None:
    """Return what a step asks of the tally after other columnwise steps, or None if it cannot be told from one."""
    only_filled = all(isinstance(b, SimpleImputer) and not b.add_indicator for b in before)
    if isinstance(step, StandardScaler):
        return Needs(moments=True, weights=(name,) if weighted else ())
    if isinstance(step, MinMaxScaler | MaxAbsScaler):
        return Needs(extremes=True)
    if before and not (
        is_scalar_nan(step.missing_values) and is_scalar_nan(getattr(before[0], "missing_values", np.nan))
    ):
        return None
    if isinstance(step, MissingIndicator):
        return Needs()
    return {
        "mean": Needs(moments=True),
        "constant": Needs(),
        "most_frequent": Needs(values=True) if only_filled else None,
    }.get(step.strategy if isinstance(step.strategy, str) else "")


def anchor(step: Any, X: Any) -> Anchor:
    """Return a table as a columnwise step reads it."""
    if isinstance(step, SimpleImputer | MissingIndicator):
        table, missing_values = copy.copy(step)._validate_input(X, in_fit=False), step.missing_values
    else:
        validate_data(step, X, reset=False, skip_check_array=True)
        table = check_array(
            X, dtype=(np.float64, np.float32), accept_sparse=("csc", "csr"), ensure_all_finite="allow-nan"
        )
        missing_values = np.nan
    result = marked(table, missing_values)
    if table.dtype.kind in "iuf":
        result.columns = result.columns.astype(np.float64)
    return result


# --------------------------------------------------------------------------------------------- from the tally to a step


def refit(step: Any, view: View) -> Any:
    """Return a step as it would have been fitted on the rows that the tally counts."""
    step = copy.copy(step)
    if isinstance(step, SimpleImputer):
        _refit_imputer(step, view)
    elif isinstance(step, MissingIndicator):
        step.features_ = _indicated(step, view)
    elif isinstance(step, StandardScaler):
        _refit_standard(step, view)
    elif isinstance(step, MinMaxScaler):
        _refit_min_max(step, view)
    else:
        _refit_max_abs(step, view)
    return step


def _indicated(step: MissingIndicator, view: View) -> np.ndarray:
    if step.features == "all":
        return np.arange(len(view.columns))
    found = [column.fill is None and view.n_missing(column) > 0 for column in view.columns]
    return np.flatnonzero(found).astype(step.features_.dtype, copy=False)


def _refit_imputer(step: SimpleImputer, view: View) -> None:
    old, empty = step.statistics_, 0 if step.keep_empty_features else np.nan
    statistics = np.empty(len(view.columns), dtype=old.dtype)
    for k, column in enumerate(view.columns):
        if step.strategy == "constant":
            if view.n_values(column) == 0 or is_scalar_nan(old[k]):
                raise NotKnownError  # releases of scikit-learn differ
            statistics[k] = old[k]
        elif view.n_values(column) == 0:
            statistics[k] = empty
        else:
            statistics[k] = view.moments(column)[1] if step.strategy == "mean" else view.most_frequent(column)
    step.statistics_ = statistics
    if step.indicator_ is not None:
        step.indicator_ = copy.copy(step.indicator_)
        step.indicator_.n_features_in_ = step.indicator_._n_features = len(view.columns)
        step.indicator_.features_ = _indicated(step.indicator_, view)


def _refit_standard(step: StandardScaler, view: View) -> None:
    weights, means, variances = zip(*(view.moments(column) for column in view.columns), strict=True)
    counts = np.array([weight / (1 << UNIT) for weight in weights]).astype(np.asarray(step.n_samples_seen_).dtype)
    mean, var = np.array(means), np.array(variances)
    step.n_samples_seen_ = counts[0] if counts.max() == counts.min() else counts
    step.mean_ = None if step.mean_ is None else mean
    if step.with_std:
        step.var_ = var
        constant = _is_constant_feature(var, mean, step.n_samples_seen_)
        step.scale_ = _handle_zeros_in_scale(np.sqrt(var), copy=False, constant_mask=constant)


def _refit_min_max(step: MinMaxScaler, view: View) -> None:
    low, high = (
        np.array([view.extreme(column, sign) for column in view.columns]).astype(step.data_min_.dtype)
        for sign in (1, -1)
    )
    start, end = (np.asarray(bound, dtype=low.dtype) for bound in step.feature_range)
    step.n_samples_seen_ = view.tally.n_rows
    step.data_min_, step.data_max_, step.data_range_ = low, high, high - low
    step.scale_ = (end - start) / _handle_zeros_in_scale(step.data_range_, copy=True)
    step.min_ = start - low * step.scale_


def _refit_max_abs(step: MaxAbsScaler, view: View) -> None:
    largest = [max(abs(view.extreme(column, sign)) for sign in (1, -1)) for column in view.columns]
    step.n_samples_seen_ = view.tally.n_rows
    step.max_abs_ = np.array(largest).astype(step.max_abs_.dtype)
    step.scale_ = _handle_zeros_in_scale(step.max_abs_, copy=True)


# ----------------------------------------------------------------------------------------- what a step makes of columns


def after(step: Any, columns: list[Column]) -> list[Column]:
    """Return the columns of a fitted step's output."""
    if isinstance(step, MissingIndicator):
        return [Column(columns[k].source, True, fill=1.0) for k in step.features_]
    if isinstance(step, SimpleImputer):
        return _imputed(step, columns)
    n = len(columns)
    ones, zeros = [1.0] * n, [0.0] * n
    if isinstance(step, MinMaxScaler):
        moves = zip(zeros, ones, step.scale_.tolist(), step.min_.tolist(), strict=True)
    else:
        centres = step.mean_.tolist() if isinstance(step, StandardScaler) and step.with_mean else zeros
        moves = zip(centres, ones if step.scale_ is None else step.scale_.tolist(), ones, zeros, strict=True)
    return [column.moved(Move(*move)) for column, move in zip(columns, moves, strict=True)]


def _imputed(step: SimpleImputer, columns: list[Column]) -> list[Column]:
    result = []
    dtype = getattr(step, "_fill_dtype", step._fit_dtype)  # scikit-learn 1.6 has the second only
    for column, value in zip(columns, step.statistics_, strict=True):
        if is_scalar_nan(value) and not step.keep_empty_features:
            continue
        filled = np.asarray(value).astype(dtype).item()
        if column.fill is None:
            column = replace(column, fill=filled, filled_after=len(column.moves))
        result.append(column)
    if step.indicator_ is not None:
        result += [Column(columns[k].source, True, fill=1.0) for k in step.indicator_.features_]
    return result


# ---------------------------------------------------------------------------------------------- from old to new outputs


def change_between(old: list[Column], new: list[Column], tally: Tally) -> tuple[np.ndarray, Change | None]:
    """Return which old columns the new ones were, -1 for none, and how values change if that is affine in each.

    Old columns name their raw column as the new ones do. Values that were missing may change otherwise, see `Change`.
    """
    places = {(column.source, column.indicator): k for k, column in enumerate(old)}
    columns = np.array([places.get((column.source, column.indicator), -1) for column in new], dtype=np.intp)
    if (columns < 0).any():
        return columns, None
    affine = [_affine(old[place], column, tally) for place, column in zip(columns, new, strict=True)]
    scale, shift, apart = (np.array([each[k] for each in affine]) for k in range(3))
    return columns, Change(columns, scale, shift, apart=apart.astype(bool) if apart.any() else None)


def _affine(old: Column, new: Column, tally: Tally) -> tuple[float, float, bool]:
    """Return scale and shift that bring old values of a column to new ones, and whether missing ones differ."""
    filled = old.fill is not None and tally.missing is not None and tally.missing[new.source] > 0
    if old.is_raw and new.is_raw:
        return 1.0, 0.0, bool(filled and old.fill != new.fill)
    if not filled and not old.indicator and len(old.moves) == len(new.moves) == 1:
        return *_between(old.moves[0], new.moves[0]), False
    (old_scale, old_shift, old_fill), (new_scale, new_shift, new_fill) = old.exact(), new.exact()
    scale = new_scale / old_scale if old_scale else Fraction(1)
    if old.indicator and filled and old_fill != old_shift:
        scale = (new_fill - new_shift) / (old_fill - old_shift)
    shift = new_shift - scale * old_shift
    if not filled:
        return float(scale), float(shift), False
    off = abs(new_fill - (scale * old_fill + shift))
    return float(scale), float(shift), bool(off > 1e-14 * max(abs(new_fill), abs(scale * old_fill), abs(shift)))


def _between(old: Move, new: Move) -> tuple[float, float]:
    """Return scale and shift from one move's result to another's.

    Centres that differ by little are subtracted first, which is exact.
    """
    scale = old.divisor / old.factor * new.factor / new.divisor
    shift = (old.centre - new.centre) / new.divisor * new.factor
    return scale, shift + new.offset - scale * old.offset
