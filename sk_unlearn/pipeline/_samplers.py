"""Steps that resample, as imbalanced-learn has them: fitted with the others, and passed over ever after."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline as SklearnPipeline
from sklearn.utils.validation import _num_samples

from sk_unlearn.pipeline._lineage import Lineage, ids_of_nobody, traced
from sk_unlearn.pipeline._raw import RawRows, owned_rows
from sk_unlearn.pipeline._state import PipelineState, Resampled, Stage
from sk_unlearn.pipeline._steps import (
    Steps,
    is_nothing,
    is_per_row,
    is_sampler,
    params_by_step,
    passed_over,
    transformer_of,
)
from sk_unlearn.preprocessing import remember
from sk_unlearn.rows.digests import digest_rows

if TYPE_CHECKING:
    from sk_unlearn.pipeline._ground import Ground

__all__ = ["FittedSamplers", "fit_samplers", "has_samplers", "own_params", "params_of", "stages_of", "whole_lineage"]


@dataclass(frozen=True)
class FittedSamplers:
    """What came of fitting the steps before the last, some of which resample.

    Attributes
    ----------
    steps : list of (str, object)
        New objects. Samplers have learnt nothing: what they keep of rows is not needed any more.

    X, y : table of rows, array-like of targets
        What the last step is to be fitted on.

    source : uint8 ndarray of shape (n_rows, 16)
        Digests of the raw rows that these stand for.

    options : dict
        Its parameters of ``fit``, and identifiers.

    state : PipelineState
    """

    steps: Steps
    X: Any
    y: Any
    source: NDArray[np.uint8]
    options: dict[str, Any]
    state: PipelineState


def has_samplers(steps: Steps) -> bool:
    """Tell whether some of the steps resample."""
    return any(is_sampler(step) for _, step in steps)


def stages_of(steps: Steps) -> list[Steps]:
    """Return the steps before the first sampler, between it and the second, and so on."""
    stages: list[Steps] = [[]]
    for each in steps:
        if is_sampler(each[1]):
            stages.append([])
        else:
            stages[-1].append(each)
    return stages


def fit_samplers(
    pipeline: Ground, X: Any, y: Any, sample_id: Any, params: dict[str, Any], key: bytes
) -> FittedSamplers:
    """Fit clones of the steps before the last, as imbalanced-learn's pipeline does it; the pipeline is not changed.

    Parameters
    ----------
    pipeline : Pipeline

    X, y, sample_id, params
        As ``fit`` of a pipeline takes them.

    key : bytes
        Under which raw rows are digested.

    Raises
    ------
    ValueError
        As the steps, and for parameters of ``fit`` of steps that there are not.
    """
    if pipeline.transform_input is not None:
        raise ValueError("transform_input cannot be had with resampling steps, for it has other rows behind them.")
    *before, (last_name, _) = pipeline.steps
    given = params_by_step(SklearnPipeline(passed_over(pipeline.steps)), params)
    if unknown := sorted({name.split("__")[0] for name in given} - {name for name, _ in pipeline.steps}):
        raise ValueError(f"fit was given parameters of steps that there are not: {', '.join(unknown)}.")
    n = _num_samples(X)
    constants = {name: value for name, value in given.items() if not is_per_row(value, n)}
    per_row = {name: value for name, value in given.items() if name not in constants}
    rows = RawRows(X, y, per_row)
    samplers = [each for each in before if is_sampler(each[1])]
    new: Steps = []
    tables, memories, lineages = [], [], []
    for number, stage in enumerate(stages_of(before)):
        if number:
            name, step = samplers[number - 1]
            rows, lineage = _drawn(clone(step), rows, **own_params(name, constants))
            lineages.append(lineage)
            new.append((name, clone(step)))
        fitted, X_out = _fitted(stage, rows.X, rows.y, rows.params | constants)
        transformer, of_stage = transformer_of(fitted), params_of(fitted, rows.params | constants)
        memories.append(None if transformer is None else remember(transformer, rows.X, rows.y, **of_stage))
        tables.append(_owned(rows, stage))
        new += fitted
        rows = replace(rows, X=X_out)
    keeps = pipeline.keep_raw and any(memory is not None for memory in memories)
    # What reaches the last stage is what the last step stores, if there is no step between.
    needed = [keeps and (memory is not None or number < len(samplers)) for number, memory in enumerate(memories)]
    raw, *later = [table if is_needed else None for table, is_needed in zip(tables, needed, strict=True)]
    stages = tuple(map(Stage, lineages, memories[1:], later))
    total = whole_lineage(stages)
    left_out = np.setdiff1d(np.arange(n), total.one_each())
    last_params = own_params(last_name, rows.params | constants)
    stored, source, options = _stored(
        RawRows(X, y, {}), rows, left_out, total, transformer_of(new), digest_rows(key, X), sample_id, last_params
    )
    state = PipelineState(memories[0], raw, constants, n, Resampled(stages, left_out, source))
    return FittedSamplers(new, stored.X, stored.y, source, options, state)


def whole_lineage(stages: tuple[Stage, ...]) -> Lineage:
    """Return where the rows that the last sampler gave come from, of the rows as they came."""
    total, *later = [stage.lineage for stage in stages]
    for lineage in later:
        total = lineage.after(total)
    return total


def _drawn(sampler: Any, rows: RawRows, **params: Any) -> tuple[RawRows, Lineage]:
    """Return the rows that a sampler gives, with their parameters, and where they come from."""
    try:
        X, y, *_ = sampler.fit_resample(rows.X, rows.y, **params)
    except ValueError as error:
        if getattr(rows.X, "ndim", 2) <= 2:
            raise
        raise ValueError(
            f"{type(sampler).__name__} resamples tables, and its rows have {rows.X.ndim - 1} dimensions, as images do: "
            "let it come before the step that gives rows their shape, and pass them flat."
        ) from error
    lineage = traced(sampler, rows.X, rows.y, X, y)
    values = {name: lineage.of_each(value, rows.y, y) for name, value in rows.params.items()}
    return RawRows(X, y, values), lineage


def _fitted(steps: Steps, X: Any, y: Any, params: dict[str, Any]) -> tuple[Steps, Any]:
    new = []
    for name, step in steps:
        if not is_nothing(step):
            step, own = clone(step), own_params(name, params)
            X = (
                step.fit_transform(X, y, **own)
                if hasattr(step, "fit_transform")
                else step.fit(X, y, **own).transform(X)
            )
        new.append((name, step))
    return new, X


def own_params(name: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of one step, by their own names."""
    return {key.removeprefix(f"{name}__"): value for key, value in params.items() if key.split("__")[0] == name}


def params_of(steps: Steps, params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of some steps, by their full names."""
    names = {name for name, _ in steps}
    return {key: value for key, value in params.items() if key.split("__")[0] in names}


def _owned(rows: RawRows, steps: Steps) -> RawRows:
    """Return rows that do not change with those given, with the parameters of some steps."""
    params = {name: owned_rows(value) for name, value in params_of(steps, rows.params).items()}
    return RawRows(owned_rows(rows.X), owned_rows(rows.y), params)


def _stored(
    raw: RawRows,
    drawn: RawRows,
    left_out: NDArray[np.int64],
    lineage: Lineage,
    transformer: SklearnPipeline | None,
    digests: NDArray[np.uint8],
    sample_id: Any,
    params: dict[str, Any],
) -> tuple[RawRows, NDArray[np.uint8], dict[str, Any]]:
    """Return the rows that the last step is given, their digests, and its parameters.

    Those that no sampler drew come behind the others, with no weight: they are stored, and nothing is learnt from them.
    """
    origin = np.concatenate([lineage.one_each(), left_out])
    is_made = origin < 0
    source = digests[origin]
    source[is_made] = np.frombuffer(secrets.token_bytes(16 * int(is_made.sum())), dtype=np.uint8).reshape(-1, 16)
    options = dict(params)
    rows = RawRows(drawn.X, drawn.y, {})
    if len(left_out):
        others = raw.rows(left_out)
        rows = rows.followed_by(
            RawRows(others.X if transformer is None else transformer.transform(others.X), others.y, {})
        )
        weight = options.get("sample_weight")
        weight = np.ones(len(drawn)) if weight is None else weight
        options["sample_weight"] = np.concatenate([weight, np.zeros(len(left_out))])
    if sample_id is not None:
        given = sample_id.tolist() if hasattr(sample_id, "tolist") else list(sample_id)
        if len(given) != len(raw):
            raise ValueError(f"sample_id has {len(given)} entries but belongs to {len(raw)} rows; pass one for each.")
        of_nobody = iter(ids_of_nobody(given, int(is_made.sum())))
        options["sample_id"] = [given[k] if k >= 0 else next(of_nobody) for k in origin.tolist()]
    return rows, source, options
