"""Fit many estimators of one kind: the references of a measure, the shadow models of an attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from joblib import delayed, effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array

from sk_unlearn import distributed
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.fitting import begin_fit, end_fit, new_net
from sk_unlearn.rows import OutsideRows, RowRole, TrainingSet, as_identifiers
from sk_unlearn.rows.forms import taken
from sk_unlearn.rows.parts import has_parts
from sk_unlearn.training.finite import buffers_not_finite, check_trained
from sk_unlearn.training.ledger import Trained
from sk_unlearn.training.stacked import Member, groups_to_stack, train_stacked
from sk_unlearn.utils._parallel import carried_out, runs_here
from sk_unlearn.utils._progress import SHARE, progress
from sk_unlearn.utils._random import seeded_torch

__all__ = ["fit_many"]

# Beyond it the stack leaves the processor's caches and gains nothing more.
_MODELS_A_STACK = 64


def fit_many(
    estimator: Any,
    X: Any,
    y: Any,
    subsets: Sequence[ArrayLike] | None = None,
    *,
    seeds: Sequence[int],
    sample_weight: ArrayLike | None = None,
    sample_id: ArrayLike | None = None,
    n_jobs: int | None = None,
    verbose: int | None = None,
) -> list[Any]:
    """Fit one clone of an estimator for every seed, each on its own subset of the rows.

    Every clone is what ``clone(estimator).set_params(random_state=seed).fit(X[subset], y[subset])`` would be.
    Unlearnable estimators whose networks have the same shapes are trained together, their parameters stacked and every
    product one over the whole stack; each still sees the batches it would have seen alone, in the same order, so that
    the parameters differ by rounding only (with dropout also by its noise).

    Parameters
    ----------
    estimator : estimator or Pipeline
        Not fitted and not changed. Its ``random_state`` (in a pipeline that of the last step) is replaced by the seeds.
    X : array-like of shape (n_rows, ...)
        Rows.
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
        Targets.
    subsets : sequence of array-like, default=None
        For each model a boolean mask over, or indices into, the rows. None: all rows for each.
    seeds : sequence of int
        One for each model.
    sample_weight, sample_id : array-like of shape (n_rows,), default=None
        Handed on to ``fit``.
    n_jobs : int, default=None
        Number of processes; the models are divided among them. Under ``joblib.parallel_config`` the backend is the one
        named there, such as "dask" or "ray".
    verbose : int or None, default=None
        Above 0 shows on stderr how much is done: by epochs in this process, by processes that are done in others. 0
        shows nothing. None shows it in a terminal or a notebook only, if it takes more than a second.

    Returns
    -------
    list of estimators
        Fitted, in the order of the seeds.

    Raises
    ------
    ValueError
        If there are not as many subsets as seeds, or a subset is empty, or `fit` raises one.
    KeyboardInterrupt
        At Ctrl-C. No model is returned then; to keep those that are done, call this for a few seeds at a time.
    distributed.KilledWorker, ray.exceptions.RayActorError
        If workers of a cluster die: with Dask when several did of one task.

    Notes
    -----
    Networks are trained together when skorch's own training loop trains them (no subclass that overrides it, no
    callback other than learning-rate schedules, no validation split), with one of torch's elementwise optimisers (SGD,
    Adam, AdamW, ...), and ``torch.vmap`` can batch the module: BatchNorm, which changes its statistics as it trains,
    cannot be. All others are fitted one after the other, and are the same to the last bit on any number of workers; of
    those trained together the rounding depends on how many there are in a process.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.references.many import fit_many
    >>> X, y = load_iris(return_X_y=True)
    >>> halves = np.random.default_rng(0).random((3, 150)) < 0.5
    >>> models = fit_many(UnlearnableClassifier(), X, y, halves, seeds=[0, 1, 2])
    >>> [len(model.training_set_) for model in models] == halves.sum(axis=1).tolist()
    True
    """
    distributed.refuse("fit_many")
    if subsets is not None and len(subsets) != len(seeds):
        raise ValueError(f"subsets and seeds must be as many as there are models, got {len(subsets)} and {len(seeds)}.")
    chosen: list[NDArray[np.int64] | None] = [None] * len(seeds)
    if subsets is not None:
        chosen = [_as_indices(subset, len(y), number) for number, subset in enumerate(subsets)]
    if isinstance(X, OutsideRows):
        X = X.reading()  # whatever these models are asked to forget, it is for a measure
    ids = as_identifiers(sample_id, len(y))
    columns = {"sample_weight": sample_weight, "sample_id": ids}
    given: dict[str, Any] = {name: column for name, column in columns.items() if column is not None}
    n_parts = max(effective_n_jobs(n_jobs), -(-len(seeds) // _MODELS_A_STACK))
    parts = [part for part in np.array_split(np.arange(len(seeds)), n_parts) if len(part)]
    work = [(estimator, X, y, given, [chosen[i] for i in part], [int(seeds[i]) for i in part]) for part in parts]
    with progress(len(seeds), "training", unit="model", verbose=verbose, bar_format=SHARE) as bar:
        if runs_here(n_jobs):
            fitted = [_fit_part(*arguments, bar.update) for arguments in work]
        else:
            calls = [delayed(_fit_part)(*arguments) for arguments in work]
            fitted = list(carried_out(calls, n_jobs, advance=lambda share: bar.update(share * len(seeds))))
    return [model for part in fitted for model in part]


def _nowhere(n_models: float) -> object:
    """Show no progress."""


def _fit_part(
    estimator: Any,
    X: Any,
    y: Any,
    given: dict[str, Any],
    subsets: Sequence[NDArray[np.int64] | None],
    seeds: Sequence[int],
    advance: Callable[[float], object] = _nowhere,
) -> list[Any]:
    """Fit some of the models in this process; `advance` is told how many more are done, in fractions of one."""
    models = [_seeded(estimator, seed) for seed in seeds]
    if len(models) > 1 and _trains_as_skorch_does(models[0]):
        _fit_together(models, X, y, given, subsets, advance)
    for model, subset in zip(models, subsets, strict=True):
        if not hasattr(model, "net_") or not isinstance(model, BaseUnlearnable):
            model.fit(_rows(X, subset), _rows(y, subset), **{k: _rows(v, subset) for k, v in given.items()})
            advance(1)
    return models


def _fit_together(
    models: Sequence[BaseUnlearnable],
    X: Any,
    y: Any,
    given: dict[str, Any],
    subsets: Sequence[NDArray[np.int64] | None],
    advance: Callable[[float], object],
) -> None:
    """Fit those of the models that can be trained in a stack with others; leave the rest unfitted."""
    members, seeds, weights, targets = [], [], [], []
    n_rows = len(y)
    for model, subset in zip(models, subsets, strict=True):
        model._validate_params()
        (X_own, y_own, weight, seed), _ = begin_fit(
            model, _rows(X, subset), _rows(y, subset), _rows(given.get("sample_weight"), subset)
        )
        if not isinstance(X_own, np.ndarray) or has_parts(X_own):
            return  # a stack shares one dense array
        with seeded_torch(seed):
            net, X_net, y_net = new_net(model, X_own, y_own, weight)
            state = torch.get_rng_state()
        rows = np.arange(n_rows) if subset is None else subset
        seen = np.arange(len(rows)) if weight is None else np.flatnonzero(weight)
        members.append(Member(net, rows[seen], y_net[seen], None if weight is None else weight[seen], state))
        seeds.append(seed)
        weights.append(weight)
        targets.append(y_net)
    shared = np.require(check_array(X, dtype="numeric", allow_nd=True), X_net.dtype, ["C_CONTIGUOUS", "WRITEABLE"])
    for group in groups_to_stack(members, shared):
        roles = train_stacked([members[i] for i in group], shared, advance)
        for i, seen_role in zip(group, roles, strict=True):
            net, weight, subset = members[i].net, weights[i], subsets[i]
            check_trained(net.module_, buffers_not_finite(net.module_))  # buffers do not change in a stack
            role = np.full(len(targets[i]), RowRole.UNSEEN, dtype=np.int8)
            role[slice(None) if weight is None else np.flatnonzero(weight)] = seen_role
            ids = given.get("sample_id")
            end_fit(
                models[i],
                Trained(net, role),
                TrainingSet(
                    _rows(shared, subset), targets[i], sample_weight=weight, sample_id=_rows(ids, subset), role=role
                ),
                seeds[i],
            )


def _trains_as_skorch_does(model: Any) -> bool:
    """Tell whether nothing but the net itself takes part in the training."""
    if not isinstance(model, BaseUnlearnable) or type(model).fit is not BaseUnlearnable.fit:
        return False
    recorder = getattr(model.unlearner, "recorder", None)
    watched = recorder is not None and recorder() is not None
    return not watched and not getattr(model, "_skl_callbacks", None)


def _seeded(estimator: Any, seed: int) -> Any:
    model = clone(estimator)
    last: BaseEstimator = model[-1] if isinstance(model, Pipeline) else model
    if "random_state" in last.get_params(deep=False):
        last.set_params(random_state=seed)
    return model


def _rows(values: Any, subset: NDArray[np.int64] | None) -> Any:
    return values if values is None or subset is None else taken(values, subset)


def _as_indices(subset: ArrayLike, n_rows: int, number: int) -> NDArray[np.int64]:
    array = np.asarray(subset)
    if array.dtype == bool and array.shape == (n_rows,):
        array = np.flatnonzero(array)
    valid = array.ndim == 1 and array.dtype.kind in "iu" and array.size > 0
    if not valid or array.min() < 0 or array.max() >= n_rows:
        raise ValueError(
            f"subsets[{number}] must be a boolean mask of shape ({n_rows},) or indices in [0, {n_rows}), and hold at "
            f"least one row; got {array.dtype} values of shape {np.shape(subset)}."
        )
    return array.astype(np.int64)
