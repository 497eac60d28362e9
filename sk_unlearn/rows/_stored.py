"""The columns of the stored rows: what is held of each, alive or not, and how it is copied and pickled."""

from __future__ import annotations

import copy as copy_module
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_unlearn.rows._columns import cast_exactly, few, owned
from sk_unlearn.rows._index import Segments
from sk_unlearn.rows._marks import Mark, renumbered
from sk_unlearn.rows.content import Array, Mask, Positions
from sk_unlearn.rows.outside import OutsideRows, RowSource
from sk_unlearn.rows.parts import has_parts
from sk_unlearn.rows.ranks import Counts, counts_of, n_true_before, nth_true
from sk_unlearn.rows.roles import RowRole
from sk_unlearn.rows.sampling import sample_mask
from sk_unlearn.rows.spread import of_all
from sk_unlearn.rows.storage import RowStorage
from sk_unlearn.utils._journal import Journal

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["StoredRows"]


class StoredRows:
    """Rows in slots, read-only: live ones, and tombstones. See `TrainingSet`, which finds and changes them."""

    _X: Any
    _y: Array
    _weight: NDArray[np.float64] | None
    _id: Array | None
    _source: Array | None
    _role: NDArray[np.int8]
    _live: Mask
    _trained: Mask
    _n_live: int
    _n_trained: int
    _n_read: int
    _weight_sum: float
    _live_counts: Counts | None
    _trained_counts: Counts | None
    _room: dict[str, Array]
    _row_segments: Segments | None
    _id_segments: Segments | None
    _source_segments: Segments | None
    _marks: tuple[Mark, ...]
    journal: Journal

    @staticmethod
    def _new_state(
        X: Any,
        y: Array,
        weight: Array | None,
        ids: Array | None,
        role: NDArray[np.int8],
        live: Mask | None = None,
        source: Array | None = None,
    ) -> dict[str, Any]:
        live = np.ones(len(X), dtype=bool) if live is None else live
        trained = live & (role == RowRole.TRAINED)
        return {
            "_X": X,
            "_y": y,
            "_weight": weight,
            "_id": ids,
            "_source": source,
            "_role": role,
            "_live": live,
            "_trained": trained,
            "_n_live": int(np.count_nonzero(live)),
            "_n_trained": int(np.count_nonzero(trained)),
            "_n_read": _n_read(live, role, weight),
            "_weight_sum": float(np.count_nonzero(live) if weight is None else weight.sum()),
            "_live_counts": None,
            "_trained_counts": None,
            "_room": {},
            "_row_segments": None,
            "_id_segments": None,
            "_source_segments": None,
            "_marks": (),
            "journal": Journal(),
        }

    # -------------------------------------------------------------------------------------------------- live rows

    def __len__(self) -> int:
        self.journal.settle()
        return self._n_live

    @property
    def n_trained(self) -> int:
        """Number of live rows whose role is `RowRole.TRAINED`."""
        self.journal.settle()
        return self._n_trained

    @property
    def n_read(self) -> int:
        """Number of live rows that a training reads: neither held out nor of weight zero."""
        self.journal.settle()
        return self._n_read

    @property
    def weight_sum(self) -> float:
        """Sum of the weights of the live rows, kept up to date as rows come and go."""
        self.journal.settle()
        return self._weight_sum

    @property
    def X(self) -> Any:  # noqa: N802 - scikit-learn's name for the data
        """The live rows, in original order, read-only: an array, `SparseRows`, or `OutsideRows`.

        No copy as long as no row has been erased: it then follows a later correction or erasure. Afterwards a copy.
        Rows outside are those of now, and whoever is fitted on them overwrites nothing outside.
        """
        return self._live_part(self._X)

    @property
    def y(self) -> Array:
        """The live rows' targets, in original order; see `X`."""
        return self._live_part(self._y)

    @property
    def sample_weight(self) -> NDArray[np.float64] | None:
        """The live rows' weights, in original order, or None if all are one; see `X`."""
        return None if self._weight is None else self._live_part(self._weight)

    @property
    def sample_id(self) -> Array | None:
        """The live rows' ids, in original order, or None if none were given; see `X`."""
        return None if self._id is None else self._live_part(self._id)

    @property
    def source(self) -> Array | None:
        """The digests of what the live rows were made of, (n, 16) uint8, or None if none were given; see `X`."""
        return None if self._source is None else self._live_part(self._source)

    @property
    def role(self) -> NDArray[np.int8]:
        """The live rows' roles (`RowRole`), in original order; see `X`."""
        return self._live_part(self._role)

    def _live_part(self, array: Any) -> Any:
        self.journal.settle()
        if isinstance(array, OutsideRows):
            return array.reading()[self._live]
        if isinstance(array, RowStorage):
            return array if self._n_live == len(array) else array[self._live]
        part = array.view() if self._n_live == len(array) else array[self._live]
        # A row that is written to would no longer be found by its content.
        part.flags.writeable = False
        return part

    # -------------------------------------------------------------------------------------------------- raw access

    @property
    def n_slots(self) -> int:
        """Length of the raw arrays: live rows and tombstones."""
        return len(self._X)

    @property
    def raw_X(self) -> Any:  # noqa: N802
        """The rows, (n_slots, ...) array or storage, tombstones included as zeros. Not a copy; only to be read."""
        return self._raw("_X")

    @property
    def raw_y(self) -> Array:
        """The targets, (n_slots, ...), tombstones included as zeros. Not a copy; not to be written to."""
        return self._raw("_y")

    @property
    def raw_weight(self) -> NDArray[np.float64] | None:
        """The weights, (n_slots,), tombstones included as zeros; None if all are one. Not a copy."""
        return self._raw("_weight")

    @property
    def raw_id(self) -> Array | None:
        """The ids, (n_slots,), tombstones included; None if none were given. Not a copy; not to be written to."""
        return self._raw("_id")

    @property
    def raw_source(self) -> Array | None:
        """Digests of what rows were made of, (n_slots, 16), tombstones included; None without any. Not a copy."""
        return self._raw("_source")

    @property
    def raw_role(self) -> NDArray[np.int8]:
        """What rows were used for (`RowRole`), (n_slots,), tombstones included as `RowRole.TRAINED`. Not a copy."""
        return self._raw("_role")

    @property
    def live_mask(self) -> Mask:
        """Which slots hold a live row, whatever its role, (n_slots,) bool. Not a copy; not to be written to."""
        return self._raw("_live")

    @property
    def trained_mask(self) -> Mask:
        """Which slots hold a live row with role `RowRole.TRAINED`, (n_slots,) bool. Not a copy."""
        return self._raw("_trained")

    def outside(self, positions: ArrayLike | None = None) -> list[tuple[str, Positions]]:
        """Tell which rows of files of the user's stand for rows that are stored here.

        Parameters
        ----------
        positions : (m,) int array, optional
            Live slots. Default: none of them, but the rows of the files that stood for rows that were erased or
            corrected here: erasing them there is for the user, unless the file was opened to be overwritten.

        Returns
        -------
        outside : list of (str, (k,) int64)
            The path of each file, and numbers of its rows as they were given to ``fit``, ascending. Empty where all
            rows are in memory.
        """
        self.journal.settle()
        if not isinstance(self._X, OutsideRows):
            return []
        found = self._X.erased() if positions is None else self._X[self._check_positions(positions)].used()
        return of_all(self._X, [(source.name, each) for source, each in zip(self._X.sources, found, strict=True)])

    def freed_outside(self, positions: ArrayLike, X_new: Any = None) -> list[tuple[str, Positions, bool]]:
        """Tell which rows of files of the user's stand for no row any more when rows are dropped or replaced.

        Parameters
        ----------
        positions : (m,) int array
            Live slots.
        X_new : m rows, optional
            What they become; None: they are dropped.

        Returns
        -------
        freed : list of (str, (k,) int64, bool)
            The path of each file, numbers of its rows, ascending, and whether they become zeros there.
        """
        if not isinstance(self._X, OutsideRows):
            return []
        freed = self._X.freed(self._check_positions(positions), X_new)
        pairs = zip(self._X.sources, freed, strict=True)
        return of_all(self._X, [(source.name, numbers, source.is_overwritten) for source, numbers in pairs])

    @property
    def sources(self) -> tuple[RowSource, ...]:
        """Where rows outside stay; empty where all are in memory."""
        return self._X.sources if isinstance(self._X, OutsideRows) else ()

    def read_from(self, sources: Sequence[RowSource]) -> None:
        """Read rows outside by other objects that stand for the same places; those past `sources` stay as they are.

        Copies of an estimator, and those that come from another process, have objects of their own, which overwrite
        nothing, or do not know what others have overwritten.
        """
        if isinstance(self._X, OutsideRows):
            own = self._X.sources
            self._X = self._X.read_from([*sources[: len(own)], *own[len(sources) :]])

    def flush(self) -> None:
        """Return when what was overwritten in files of the user's is on the disk."""
        for source in self.sources:
            source.flush()

    def _raw(self, attribute: str) -> Any:
        self.journal.settle()
        return getattr(self, attribute)

    def with_features(self, X: Array) -> Self:
        """Return rows that are the same but for their features, with arrays of their own; slots stay.

        Parameters
        ----------
        X : (n_slots, ...) array
            Of the dtype and with the shape of the stored features. It is taken over, not copied.
        """
        self.journal.settle()
        other = object.__new__(type(self))
        optional = (self._weight, self._id, self._source)
        weight, ids, source = (None if column is None else column.copy() for column in optional)
        y, role, live = self._y.copy(), self._role.copy(), self._live.copy()
        other.__dict__.update(self._new_state(owned(X, copy=False), y, weight, ids, role, live, source))
        other._marks = self._marks
        # Segments never change, and these know nothing of features.
        other._id_segments, other._source_segments = self._id_segments, self._source_segments
        return other

    def as_stored(self, X: Any) -> Any:
        """Return rows in the data type of the stored ones, and sparse or dense as these are.

        Parameters
        ----------
        X : (m, ...) array or SparseRows

        Raises
        ------
        ValueError
            If their shape is another, or the data type cannot hold a value.
        """
        return cast_exactly(X, self._X, "X")

    def trained_mask_without(self, positions: ArrayLike) -> Mask:
        """Return a copy of `trained_mask` that is false at `positions`: the retained rows before a drop.

        Parameters
        ----------
        positions : (m,) int array
            Unique live slots.

        Returns
        -------
        mask : (n_slots,) bool

        Raises
        ------
        ValueError
            If a position is not a live slot or appears twice.
        """
        slots = self._check_positions(positions)
        mask = self._trained.copy()
        mask[slots] = False
        return mask

    def sample(self, size: int, rng: np.random.Generator, *, among: str = "trained") -> Positions:
        """Draw live rows uniformly and without replacement, at a cost that does not grow with the rows held.

        Parameters
        ----------
        size : int
            How many; where there are no more than this, all.
        rng : numpy.random.Generator
        among : {"trained", "live"}, default="trained"
            Rows with role `RowRole.TRAINED`, or any live rows.

        Returns
        -------
        positions : (min(size, available),) int64
            In random order; all of them in ascending order. See `sample_mask`.

        Raises
        ------
        ValueError
            If `size` is negative or `among` unknown.
        """
        self.journal.settle()
        if among == "trained":
            return sample_mask(self._trained, self._n_trained, size, rng)
        if among == "live":
            return sample_mask(self._live, self._n_live, size, rng)
        raise ValueError(f'among must be "trained" or "live", got {among!r}')

    def numbers_of(self, positions: ArrayLike, *, among: str = "live") -> Positions:
        """Return the numbers that slots have among the live rows, at a cost that hardly grows with the rows held.

        Parameters
        ----------
        positions : (m,) int array
            From 0 to `n_slots`. Of a slot that is none of those rows, how many of them stand before it.
        among : {"live", "trained"}, default="live"
            Any live rows, or those with role `RowRole.TRAINED`.

        Returns
        -------
        numbers : (m,) int64
        """
        mask, counts = self._counted(among)
        return n_true_before(mask, positions, counts)

    def slots_of(self, numbers: ArrayLike) -> Positions:
        """Return the slots of live rows that have some numbers among them: what `numbers_of` undoes.

        Parameters
        ----------
        numbers : (m,) int array
            From 0 to one less than there are live rows.

        Returns
        -------
        positions : (m,) int64
        """
        mask, counts = self._counted("live")
        return nth_true(mask, numbers, counts)

    def _counted(self, among: str) -> tuple[Mask, Counts]:
        self.journal.settle()
        mask, name = vars(self)[f"_{among}"], f"_{among}_counts"
        counts: Counts | None = vars(self)[name]
        if counts is None:
            counts = vars(self)[name] = counts_of(mask)
        return mask, counts

    def count_read(self, positions: Positions) -> int:
        """Count the slots of some that a training reads; see `n_read`.

        Parameters
        ----------
        positions : (m,) int64
        """
        self.journal.settle()
        return int(np.count_nonzero((self._role[positions] != RowRole.VALIDATED) & self._weighs(positions)))

    def _weighs(self, slots: Positions) -> Mask:
        """Tell which slots are live and have a positive weight."""
        live: Mask = self._live[slots]
        return live if self._weight is None else live & (self._weight[slots] > 0)

    def _check_positions(self, positions: ArrayLike) -> Positions:
        self.journal.settle()
        given = np.asarray(positions)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise ValueError(
                f"positions must be a one-dimensional integer array, got {given.dtype} of shape {given.shape}"
            )
        outside = (given < 0) | (given >= self.n_slots)
        if outside.any():
            raise ValueError(f"positions must lie in 0..{self.n_slots - 1}, got {few(given[outside].tolist())}")
        slots = given.astype(np.int64)
        if len(np.unique(slots)) != len(slots):
            raise ValueError(f"positions must be unique, got {len(slots) - len(np.unique(slots))} repeated")
        dead = ~self._live[slots]
        if dead.any():
            raise ValueError(f"positions must be of live rows, but erased already are {few(slots[dead].tolist())}")
        return slots

    # ------------------------------------------------------------------------------------------------ copies, pickles

    def __getstate__(self) -> dict[str, Any]:
        # Only what is pickled is compacted, not the object: pickling one must not invalidate its positions.
        columns = self.slots()
        live, marks = columns.pop("live"), columns.pop("marks")
        if self._n_live < self.n_slots:
            columns = {name: None if column is None else column[live] for name, column in columns.items()}
        return {**columns, "marks": renumbered(marks, live)}

    def slots(self) -> dict[str, Any]:
        """Return all columns by name, tombstones included as zeros, which slots are live, and marks; not copied.

        A training set that is given these as its state draws the same rows as this one for the same generator.
        """
        self.journal.settle()
        return {
            "X": self._X, "y": self._y, "sample_weight": self._weight, "sample_id": self._id, "role": self._role,
            "source": self._source, "live": self._live, "marks": self._marks,
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(self._state_of(state))

    @classmethod
    def _state_of(cls, state: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes that go with the columns of a pickle."""
        # Loaded arrays may be read-only (memory-mapped, out-of-band buffers); erasing has to write.
        X, y, role = (owned(state[name], copy=False) for name in ("X", "y", "role"))
        weight, ids, source = (
            None if state.get(name) is None else owned(state[name], copy=False)
            for name in ("sample_weight", "sample_id", "source")
        )
        state_of_slots = cls._new_state(X, y, weight, ids, role, live=state.get("live"), source=source)
        return state_of_slots | {"_marks": state.get("marks", ())}

    def __copy__(self) -> Self:
        # A shallow copy would share arrays, and a drop in one would corrupt the other.
        return copy_module.deepcopy(self)

    def __repr__(self) -> str:
        kinds = [self._X.dtype[name] for name in self._X.dtype.names] if has_parts(self._X) else [self._X.dtype]
        shapes = [kind.shape for kind in kinds] if has_parts(self._X) else [self._X.shape[1:]]
        parts = (
            f"{'x'.join(map(str, shape)) or 'scalar'} {kind.base}" for kind, shape in zip(kinds, shapes, strict=True)
        )
        return f"TrainingSet({len(self)} rows of {' and '.join(parts)}, {self._n_trained} trained)"


def _n_read(live: Mask, role: NDArray[np.int8], weight: NDArray[np.float64] | None) -> int:
    read = live & (role != RowRole.VALIDATED)
    if weight is not None:
        read &= weight > 0
    return int(np.count_nonzero(read))
