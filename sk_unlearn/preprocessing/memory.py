"""``remember``: what to keep beside fitted transformers, so that rows can be taken out of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples

from sk_unlearn.preprocessing.changes import as_table
from sk_unlearn.preprocessing.composition import outputs, remembered
from sk_unlearn.preprocessing.nodes import Kept, Node, Outcome, Request

__all__ = ["Forgotten", "Memory", "remember"]


def remember(transformer: Any, X: Any, y: Any = None, **fit_params: Any) -> Memory:
    """Count what fitted transformers need for giving up rows later.

    Parameters
    ----------
    transformer : object
        A fitted scikit-learn transformer: a single one, or a ``Pipeline``, ``ColumnTransformer`` or ``FeatureUnion`` of
        them, nested as you like.
    X : object
        The rows that it was fitted on, as they were given to ``fit``.
    y : array-like, default=None
        Their targets, if it was fitted with some.
    **fit_params : object
        What ``fit`` was given besides, such as ``sample_weight`` or ``scaler__sample_weight``.

    Returns
    -------
    memory : Memory
        Counts and exact sums, no rows.
    """
    return Memory(remembered("", transformer, X, y, fit_params), _num_samples(X))


@dataclass
class Forgotten:
    """Transformers after rows went or came, and what this does to outputs of the other rows.

    Attributes
    ----------
    transformer : object
        A new one, as fitted on the rows that it knows now.
    memory : Memory
        What is kept beside it.
    still_there : list of str
        Steps that still contain the rows, because they can neither give them up nor be fitted anew. Each by its name
        and class, such as ``"scaler: RobustScaler"``.
    columns : ndarray of int of shape (n_new_outputs,)
        For each output column the one that it was before, -1 if there was none.
    change : tuple of ndarray or None
        ``(scale, shift)`` of the columns that stay, ``z * scale + shift``, where this is all that changes in the
        outputs of the rows that stay, beside `codes`; None otherwise.
    codes : list of (ndarray of int, or None), or None
        For each output column of codes, from old code to new code, -1 for one that is gone; None for other columns.
        None where no code changes, or neither `change` nor `mostly` is known.
    mostly : tuple of ndarray or None
        ``(scale, shift, apart)`` where `change` is None for a filled-in value alone: scale and shift as there, for all
        but values that had been missing in the columns where ``apart`` is True.
    """

    transformer: Any
    memory: Memory
    still_there: list[str]
    columns: np.ndarray
    change: tuple[np.ndarray, np.ndarray] | None
    codes: list[np.ndarray | None] | None
    mostly: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    _outcome: Outcome = field(init=False, repr=False)
    _kept: Kept | None = field(init=False, repr=False)

    def outputs(self, Z_old: Any, X_kept: Any = None) -> Any:
        """Bring outputs of the rows that stay into the new coordinates.

        Parameters
        ----------
        Z_old : ndarray, sparse matrix or DataFrame of shape (n_kept, n_old_outputs)
            What the old transformer made of the rows that stay. Left as it is.
        X_kept : object, default=None
            These rows, raw and in the same order; or a function that returns them, called only where they are needed.
            The rows that were passed as ``retained``, if None.

        Returns
        -------
        Z_new : ndarray or CSR matrix of shape (n_kept, n_new_outputs)
            In the data type of ``Z_old``, dense or sparse as it is. Branches whose change is known are computed from
            ``Z_old``, others from the raw rows.

        Raises
        ------
        ValueError
            If raw rows are needed and none were given.
        """
        rows = self._kept
        if X_kept is not None:
            rows = Kept(lambda: (X_kept() if callable(X_kept) else X_kept, None, None))
        return outputs(self._outcome, as_table(Z_old), rows)


class Memory:
    """What is kept beside fitted transformers; made by :func:`remember`.

    Parameters
    ----------
    node : object
        Counts and sums, a tree like that of the transformers.
    n_rows : int
        How many rows are counted.
    """

    def __init__(self, node: Node, n_rows: int) -> None:
        self._node = node
        self.n_rows = n_rows

    def without(
        self, transformer: Any, X_gone: Any, y_gone: Any = None, retained: Any = None, **fit_params: Any
    ) -> Forgotten:
        """Return the transformers as fitted on the rows that stay.

        Neither ``transformer`` nor this memory is changed.

        Parameters
        ----------
        transformer : object
            What was remembered.
        X_gone : object
            The rows to forget, in the form of those of ``fit``. They must have been among them.
        y_gone : array-like, default=None
            Their targets.
        retained : tuple, callable or None, default=None
            ``(X_kept, y_kept)`` or ``(X_kept, y_kept, fit_params)`` of the rows that stay, or a function that returns
            it, called only where a step has to be fitted anew.
        **fit_params : object
            What ``fit`` was given besides for the rows to forget.

        Returns
        -------
        forgotten : Forgotten

        Raises
        ------
        ValueError
            If no rows would be left, or a step cannot do without these.
        """
        if _num_samples(X_gone) >= self.n_rows:
            raise ValueError(
                f"X_gone has {_num_samples(X_gone)} rows of {self.n_rows}: no row would be left to fit steps on."
            )
        return self._changed(transformer, X_gone, y_gone, retained, fit_params, -1)

    def with_rows(
        self, transformer: Any, X_new: Any, y_new: Any = None, retained: Any = None, **fit_params: Any
    ) -> Forgotten:
        """Return the transformers as fitted on further rows as well.

        Parameters
        ----------
        transformer : object
            What was remembered.
        X_new : object
            Further rows, in the form of those of ``fit``.
        y_new : array-like, default=None
            Their targets.
        retained : tuple, callable or None, default=None
            All rows, the new ones behind the others, as in :meth:`without`.
        **fit_params : object
            What ``fit`` is to be given besides for the new rows.

        Returns
        -------
        forgotten : Forgotten
            Its outputs are those of the rows there were.

        Raises
        ------
        ValueError
            If the rows call for outputs that there are not, or a step cannot grow.
        """
        result = self._changed(transformer, X_new, y_new, retained, fit_params, 1)
        if result.still_there:
            raise ValueError(
                f"{', '.join(result.still_there)}: cannot take in rows without all the others; "
                f"pass all rows as retained."
            )
        if (result.columns < 0).any():
            raise ValueError("The new rows call for output columns that there are not; fit again.")
        return result

    def _changed(self, transformer: Any, X: Any, y: Any, retained: Any, params: dict[str, Any], sign: int) -> Forgotten:
        if _num_samples(X) == 0:
            raise ValueError(f"{'X_gone' if sign < 0 else 'X_new'} is empty: pass at least one row.")
        kept = _kept(retained)
        request = Request(X, y, [params], sign, kept)
        outcome = self._node.changed([transformer], request)
        change, mostly = outcome.change, outcome.mostly
        by_column = next((each for each in (change, mostly) if each is not None and each.is_by_column), None)
        result = Forgotten(
            outcome.steps[0],
            Memory(outcome.node, self.n_rows + sign * _num_samples(X)),
            outcome.still_there,
            outcome.columns,
            None if by_column is None or by_column is mostly else (by_column.scale, by_column.shift),
            None if by_column is None else by_column.codes,
            None if mostly is None or mostly.apart is None else (mostly.scale, mostly.shift, mostly.apart),
        )
        result._outcome, result._kept = outcome, kept
        return result


def _kept(retained: Any) -> Kept | None:
    if retained is None:
        return None
    load: Callable[[], Any] = retained if callable(retained) else lambda: retained

    def loaded() -> tuple[Any, Any, Any]:
        X, y, *params = load()
        return X, y, [dict(params[0]) if params else {}]

    return Kept(loaded)
