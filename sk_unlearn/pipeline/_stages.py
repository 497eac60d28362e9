"""Steps before, between and behind samplers, as fitted without some rows, and what this does to the other rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone
from sklearn.pipeline import Pipeline as SklearnPipeline

from sk_unlearn.pipeline._lineage import Lineage
from sk_unlearn.pipeline._raw import RawRows, taken
from sk_unlearn.pipeline._resampling import Touched
from sk_unlearn.pipeline._samplers import params_of, stages_of
from sk_unlearn.pipeline._steps import Steps, is_sampler, transformer_of
from sk_unlearn.preprocessing import Memory, remember
from sk_unlearn.preprocessing.nodes import output_places

if TYPE_CHECKING:
    from sk_unlearn.pipeline._ground import Ground

__all__ = ["MovedStages", "Walk", "walked"]

Mask = NDArray[np.bool_]
Affine = tuple[NDArray[np.float64], NDArray[np.float64]]


class _Move(NamedTuple):
    """How features have changed: columns picked, scaled and shifted, and codes exchanged, where that is all."""

    columns: NDArray[np.int64]
    by: Affine | None
    codes: list[NDArray[Any] | None] | None = None

    @property
    def is_none(self) -> bool:
        """Whether they have not."""
        if self.by is None or self.codes is not None or not np.array_equal(self.columns, np.arange(len(self.columns))):
            return False
        return bool((self.by[0] == 1).all() and (self.by[1] == 0).all())


@dataclass(frozen=True)
class MovedStages:
    """All steps without some rows, and the features of the others, in the form of a step that forgets.

    Attributes
    ----------
    transformer : Pipeline of scikit-learn's

    columns : int64 ndarray
        For each feature the one that it was, -1 for none.

    change, codes : tuple of ndarray, or None, and list of (ndarray or None), or None
        Scale and shift, and from old code to new code, where that is all.

    table : ndarray or sparse matrix
        Features of the stored rows that stay, in order.
    """

    transformer: SklearnPipeline
    columns: NDArray[np.int64]
    change: Affine | None
    codes: list[NDArray[Any] | None] | None
    table: Any

    def outputs(self, Z: Any) -> Any:
        """Return the features in the data type and the container that they are stored in."""
        table = sparse.csr_array(self.table) if sparse.issparse(Z) else _dense(self.table)
        return table.astype(Z.dtype)


@dataclass
class Walk:
    """The way through the stages.

    Attributes
    ----------
    steps : list of (str, object)
        New ones so far.

    memories, tables : list
        Beside the steps of each stage, and the rows that these are fitted on.

    move : object or None
        How what comes out of the last stage has changed; None where it has not.
    """

    steps: Steps = field(default_factory=list)
    memories: list[Memory | None] = field(default_factory=list)
    tables: list[RawRows | None] = field(default_factory=list)
    move: _Move | None = None

    def on(
        self, steps: Steps, memory: Memory | None, table: RawRows | None, stays: Mask, X: Any, constants: dict[str, Any]
    ) -> Any:
        """Take a stage, and return what becomes of its rows that stay, in new coordinates.

        Parameters
        ----------
        steps : list of (str, transformer)
            As they were.

        memory, table : Memory or None, RawRows or None
            Beside them, and the rows that they were fitted on.

        stays : bool ndarray
            Which of these stay.

        X : table of rows
            Those, in new coordinates.

        constants : dict
            Parameters of ``fit`` of all steps that are not one for each row.
        """
        transformer = transformer_of(steps)
        old = None if table is None else table.without(np.flatnonzero(~stays))
        kept = None if old is None else RawRows(X, old.y, old.params)
        self.tables.append(kept)
        if transformer is None or memory is None:
            self.steps += steps
            self.memories.append(memory)
            return X
        assert table is not None
        assert old is not None
        assert kept is not None
        own = params_of(steps, constants)
        if self.move is not None:
            new = clone(transformer)
            Z = new.fit_transform(X, kept.y, **kept.params, **own)
            n_old = transformer.transform(taken(old.X, np.arange(1))).shape[1]
            columns = output_places([transformer], [new], self.move.columns, n_old, Z.shape[1])
            self.move = _Move(columns, None)
            self.memories.append(remember(new, X, kept.y, **kept.params, **own))
        elif stays.all():
            new, Z = transformer, None
            self.memories.append(memory)
        else:
            gone = table.rows(np.flatnonzero(~stays))
            retained = (kept.X, kept.y, kept.params | own)
            outcome = memory.without(transformer, gone.X, gone.y, retained, **gone.params, **own)
            new, move = outcome.transformer, _Move(outcome.columns, outcome.change, outcome.codes)
            self.move = None if move.is_none else move
            Z = None if self.move is None else outcome.outputs(transformer.transform(kept.X))
            self.memories.append(outcome.memory)
        self.steps += new.steps
        return Z


def walked(pipeline: Ground, gone: Touched, stored: Any) -> tuple[Walk, MovedStages | None]:
    """Return the steps as fitted without the rows that leave, where the others are kept as they came.

    Steps before the first sampler give the rows up. So do later ones if nothing has moved before them; else they are
    fitted anew on the rows that stay, in their new coordinates. A row that was synthesised moves along with the rows
    that it was made of.

    Parameters
    ----------
    pipeline : Pipeline

    gone : Touched

    stored : ndarray or CSR array
        Features of the rows that the last step stores now.

    Returns
    -------
    walk : Walk

    moved : MovedStages or None
        None where the features of all rows stay what they are.

    Raises
    ------
    ValueError
        If rows move that were made of rows that are not known.
    """
    state = pipeline.pipeline_state_
    resampled = state.resampled
    assert resampled is not None
    assert state.raw is not None
    stays = gone.stay(resampled)
    samplers = [each for each in pipeline.steps[:-1] if is_sampler(each[1])]
    tables = [state.raw, *(stage.rows for stage in resampled.stages)]
    memories = [state.memory, *(stage.memory for stage in resampled.stages)]
    drawn = stored[~gone.stored[gone.present]][: np.count_nonzero(stays[-1])]
    walk, X = Walk(), None
    for number, steps in enumerate(stages_of(pipeline.steps[:-1])):
        table, numbers = tables[number], np.flatnonzero(stays[number])
        # No table is kept of what reaches the last step as it is.
        before = drawn if table is None else table.without(np.flatnonzero(~stays[number])).X
        if number:
            walk.steps.append(samplers[number - 1])
        if number and walk.move is not None:
            lineage = resampled.stages[number - 1].lineage.taken(numbers, np.flatnonzero(stays[number - 1]))
            X = _drawn_again(lineage, X, before, walk.move, samplers[number - 1][0])
        else:
            X = before
        X = walk.on(steps, memories[number], table, stays[number], X, state.constants)
    if walk.move is None:
        return walk, None
    transformer = transformer_of(walk.steps)
    assert transformer is not None
    blocks = [X]
    left_out = resampled.left_out[~gone.raw[resampled.left_out]]
    if len(left_out):
        blocks.append(transformer.transform(taken(state.raw.X, left_out)))
    return walk, MovedStages(transformer, walk.move.columns, walk.move.by, walk.move.codes, _stacked(blocks))


def _drawn_again(lineage: Lineage, X: Any, before: Any, move: _Move, name: str) -> Any:
    """Return the rows that a sampler gave in new coordinates.

    Parameters
    ----------
    lineage : Lineage

    X : table of rows
        What it was given, in new coordinates.

    before : table of rows
        What it gave, in old ones.

    move : _Move
        From the ones to the others.

    name : str
        Of the sampler.
    """
    if (lineage.is_copy & lineage.is_sum).all():
        return taken(X, lineage.one_each())
    others = np.flatnonzero(~lineage.is_sum)
    is_affine = move.by is not None and move.codes is None
    if len(others) and not is_affine:
        raise ValueError(_CANNOT_FOLLOW.format(n=len(others), name=name))
    new = lineage.shares @ (X if sparse.issparse(X) else np.asarray(X))
    if len(others):
        assert move.by is not None
        scale, shift = move.by
        new = _dense(new)
        new[others] = _dense(taken(before, others))[:, move.columns] * scale + shift
    return type(X)(new, columns=X.columns) if hasattr(X, "columns") else new


_CANNOT_FOLLOW = (
    "{n} rows that the step {name} made of rows that are not known cannot follow the steps before it to what these are "
    "without the erased rows. Fit the pipeline anew on the rows that are left."
)


def _stacked(blocks: list[Any]) -> Any:
    if any(map(sparse.issparse, blocks)):
        return sparse.vstack([sparse.csr_array(block) for block in blocks], format="csr")
    return np.concatenate([np.asarray(block) for block in blocks])


def _dense(X: Any) -> NDArray[Any]:
    return np.asarray(X.toarray() if sparse.issparse(X) else X)
