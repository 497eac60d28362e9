"""Audit one deletion."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import skorch
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_consistent_length

from sk_unlearn import distributed
from sk_unlearn._version import __version__
from sk_unlearn.estimators.lookup import find_rows, named, stored_features
from sk_unlearn.estimators.shards.base import BaseSharded
from sk_unlearn.inspection._audit._asked import told_of_erased
from sk_unlearn.inspection._audit._measures import Case, Measured, measure
from sk_unlearn.inspection._audit._references import chosen, fitted, handed_in
from sk_unlearn.inspection._audit._repeated import repeated
from sk_unlearn.inspection._audit._report import AuditReport
from sk_unlearn.inspection._audit._shown import Shown, whole
from sk_unlearn.inspection._audit._verdict import ENOUGH_REFERENCES
from sk_unlearn.metrics.distances import last_step
from sk_unlearn.references.cases import stored_targets
from sk_unlearn.references.retrained import References, Rows, train_references
from sk_unlearn.rows.forms import rows_kept

__all__ = ["audit"]

_OTHER_STEPS = (
    "{n} of the models compared have steps of their own that make other features, and the pipeline does not keep its "
    "rows as they came: on retained rows these models were shown the features that the audited steps make. Give "
    "X_retained and y_retained, or fit with keep_raw=True."
)
_NOT_LOOKED_UP = "Whether parts of the model hold erased rows was not looked up; sk_unlearn.which_parts_know tells."


def audit(
    estimator: Any,
    X_del: Any,
    y_del: ArrayLike,
    X_test: Any,
    y_test: ArrayLike,
    *,
    before: Any = None,
    X_retained: Any = None,
    y_retained: ArrayLike | None = None,
    n_references: int = 8,
    references: Sequence[Any] | str | os.PathLike[str] | None = None,
    n_runs: int = 0,
    random_state: int = 0,
    n_jobs: int | None = None,
    verbose: int | None = None,
) -> AuditReport:
    """Judge one deletion: how close the model is to retrained ones, and what an attacker still learns from it.

    Several models are retrained on the rows that stay, each from another seed. None of them has seen the erased rows,
    and yet they differ from each other. A model that is no farther from them than that cannot be told from a retrained
    one by its distance. So the distance of the audited model from them is measured in units of their distance from
    each other: on the erased rows, on those that stay and on rows never seen. A membership attack is run on it and on
    each of them.

    Parameters
    ----------
    estimator : unlearnable estimator, Pipeline that ends in one, or search that was refitted with one
        The model *after* the request. It is left as it is. The earlier steps of a pipeline transform all rows and are
        not audited; of a search, such as ``GridSearchCV``, the ``best_estimator_`` is. Any other model, such as an
        ensemble, is audited as a whole if `references` and retained rows are given.
    X_del : array-like of shape (n_erased, ...)
        The erased rows.
    y_del : array-like of shape (n_erased,)
        Their targets.
    X_test : array-like of shape (n_test, ...)
        Rows that no model was trained on, of the same distribution; for an erased class some of that class among them.
    y_test : array-like of shape (n_test,)
        Their targets.
    before : estimator or Pipeline, default=None
        The model before the request, such as a ``copy.deepcopy`` of it. Its figures, if given, show what doing nothing
        would have come to. A Pipeline is shown rows as its own steps make them.
    X_retained : array-like of shape (n_retained, ...), default=None
        Rows to retrain on. None takes the rows that the estimator keeps, less any erased ones among them.
    y_retained : array-like of shape (n_retained,), default=None
        Their targets.
    n_references : int, default=8
        How many models to retrain; at least 3. The more there are, the narrower the intervals: with fewer than eight
        many a retrained model is not decided.
    references : sequence of at least three estimators or Pipelines, or path, default=None
        Models that were retrained elsewhere, on none of the erased rows, or the folder to which `references.save` wrote
        them. If given, none are retrained here. A Pipeline takes rows as they came; any other model is taken to stand
        behind the earlier steps of `estimator`.
    n_runs : int, default=0
        How often training and forgetting are done anew from other seeds, to judge the procedure and not one outcome by
        KLoM (`metrics.klom`), beside as many retrained models; at least 2, and 20 or more tell something. Each takes
        three trainings and one request; where rows have weights, erased ones count as 1. 0 leaves it out.
    random_state : int, default=0
        The seeds of the references and of the bootstrap are derived from it.
    n_jobs : int, default=None
        Number of processes for the references; the workers of a cluster under ``joblib.parallel_config``.
    verbose : int or None, default=None
        Above 0 shows progress on stderr, 0 does not. None does in a terminal or a notebook only, for what takes more
        than a second.

    Returns
    -------
    AuditReport
        To be printed, shown in a notebook, or saved by ``to_html`` and ``to_json``. If Ctrl-C is pressed while
        models are retrained, it rests on those that were done and is marked as incomplete.

    Raises
    ------
    ValueError
        If rows and targets differ in number, there are fewer than two erased or two test rows, or fewer than three
        references, or if there are no rows to retrain on, or none that a model can be trained on. For a model without
        ``forget``, if `references` or retained rows are not given. If erased rows are among those that a reference
        stores, or not among those that saved references were retrained without. If a reference is a copy of another, or
        does not know a class of the rows that stay. If `X_retained` comes without `y_retained` or the other way round.
    TypeError
        If `estimator`, `before` or a reference is no estimator, or `references` no list of them.
    sklearn.exceptions.NotFittedError
        If one of them is not fitted.
    PersistenceError
        As `references.load`, if `references` is a path.

    Notes
    -----
    Two figures are taken of each retrained model: its distance from the others, and the AUC of a membership attack by
    losses on it; where a whole class was erased also what its features tell of the class (`metrics.feature_probe`).
    From them follow 99 % prediction intervals for one more retrained model, by Student's t, for distances on a
    logarithmic scale. The verdict is one of six:

    - "over_forgotten" or "not_yet": the model that forgot lies above the interval of the distance, on the erased rows
      or on rows never seen, or outside that of the attack's AUC. It is over-forgotten where the erased rows look
      stranger to it than to retrained models, by the attack or by their losses.
    - "outputs_only": neither, but features inside the network tell an erased class better than those of retrained ones,
      or weights that erased rows alone had used are as they were.
    - "closer": it is no farther than retrained models are on average, on both sets of rows.
    - "within": it is farther than that, but within the interval, which ends below four times the average.
    - "undecided" otherwise: more references would narrow the interval.

    The rules are tried on what is known: each retrained model is judged by the others, and `before` by all of them
    (``calibration``). Where more than a quarter of the retrained models fail, so that failing says nothing, the verdict
    is "undecided" as well.

    Distances are Jensen-Shannon divergences of probabilities, for regressors RMS differences. With few references the
    intervals are wide, and only gross failures are found.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.inspection import audit
    >>> X, y = load_iris(return_X_y=True)
    >>> forgetful = UnlearnableClassifier(random_state=0).fit(X[::2], y[::2]).forget(X[:10:2])
    >>> audit(forgetful, X[:10:2], y[:10:2], X[1::2], y[1::2]).n_still_stored
    0
    """
    distributed.refuse("audit")
    started = time.perf_counter()
    _check_int("random_state", random_state, 0)
    if n_runs != 0:
        _check_int("n_runs", n_runs, 2)
    estimator = chosen(fitted("estimator", estimator))
    before = None if before is None else chosen(fitted("before", before))
    model, steps = last_step(estimator), _earlier_steps(estimator)
    shown = Shown(steps)

    def checked(X_name: str, X: Any, y_name: str, y: Any) -> tuple[Any, Rows]:
        return _checked_rows(steps, shown, X_name, X, y_name, y)

    if not hasattr(model, "forget") and (references is None or X_retained is None):
        raise ValueError(
            f"{type(model).__name__} does not forget by itself, so that nothing is retrained like it. Give references, "
            "retrained models, with X_retained and y_retained; or audit the parts that forget, each by itself."
        )
    X_del, erased = checked("X_del", X_del, "y_del", y_del)
    X_test, test = checked("X_test", X_test, "y_test", y_test)
    given = None
    if (X_retained is None) != (y_retained is None):
        raise ValueError("X_retained and y_retained belong together: give both or neither.")
    if X_retained is not None and y_retained is not None:
        X_retained, given = checked("X_retained", X_retained, "y_retained", y_retained)
    retained, n_still_stored, stays = _rows_that_stay(model, erased, given)
    if references is None:
        _check_int("n_references", n_references, ENOUGH_REFERENCES)
        seeds = _seeds(random_state, n_references)
        try:
            trained = train_references(model, retained, seeds, n_jobs=n_jobs, verbose=verbose)
        except ValueError as reason:
            raise ValueError(f"No model can be retrained on the rows that stay: {reason}") from reason
        told = f"retrained here from seeds {', '.join(map(str, trained.seeds))}"
    else:
        trained, told = handed_in(references, model, X_del, erased, retained, steps)
    models = [whole(each, steps) for each in trained.models]
    untouched = None if before is None else whole(before, steps)
    notes: list[str] = []
    if stays is not None:
        X_retained = None if steps is None else _as_they_came(estimator, stays)
        if X_retained is None:
            X_retained = retained.X
            shown.keep_as_it_is(X_retained)
            notes = _of_others_steps(shown, [each for each in (untouched, *models) if each is not None], X_test)
        else:
            shown.keep(X_retained, retained.X)
    case = Case(
        whole(model, steps), untouched, models,
        erased._replace(X=X_del), retained._replace(X=X_retained), test._replace(X=X_test),
    )  # fmt: skip

    def one_more(seed: int) -> list[Any]:
        return train_references(model, retained, [seed]).models  # none, if it was interrupted

    measured = measure(
        case, shown, n_still_stored=n_still_stored, random_state=random_state, verbose=verbose,
        retrain=one_more if references is None else None,
    )  # fmt: skip
    if n_runs:
        sets = {"erased": erased, "retained": retained, "test": test}
        notes.append(_repeat(measured, model, sets, _seeds(random_state, 3 * n_runs), n_jobs, verbose))
    assumptions = [
        *_assumptions(model, len(models), told, told_of_erased(estimator, X_del, erased.X)),
        *notes,
        *measured.notes,
    ]
    seconds = time.perf_counter() - started
    return _report(case, trained, measured, n_still_stored, assumptions, random_state, seconds)


def _report(
    case: Case,
    trained: References,
    measured: Measured,
    n_still_stored: int | None,
    assumptions: list[str],
    random_state: int,
    seconds: float,
) -> AuditReport:
    model = last_step(case.after)
    request = getattr(model, "unlearning_report_", None)
    certificate, no_certificate = _certificate(model)
    return AuditReport(
        verdict=measured.verdict.code,
        headline=measured.verdict.headline,
        reasons=measured.verdict.reasons,
        calibration=measured.calibration,
        complete=trained.complete,
        measures=measured.table.frame(),
        request=request,
        n_requests=len(getattr(model, "unlearning_history_", [])),
        certificate=certificate,
        no_certificate=no_certificate,
        n_erased=len(case.erased.y),
        n_still_stored=n_still_stored,
        n_retained=len(case.retained.y),
        n_test=len(case.test.y),
        assumptions=assumptions,
        seeds={"random_state": int(random_state), "references": trained.seeds},
        versions=_versions(),
        seconds={
            "forgetting": float("nan") if request is None else request.seconds,
            "retraining one model": trained.seconds,
            "audit": seconds,
        },
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=" ".join(str(model).split()),
        losses=measured.losses,
        attacks=measured.attacks,
    )


def _repeat(
    measured: Measured, model: Any, sets: dict[str, Rows], seeds: list[int], n_jobs: int | None, verbose: int | None
) -> str:
    """Add what many runs come to to the table, and return what is to be said of it."""
    try:
        found = repeated(model, sets, seeds, n_jobs=n_jobs, verbose=verbose)
    except (ValueError, TypeError, AttributeError) as reason:
        return f"KLoM was not measured: {reason}"
    except KeyboardInterrupt:
        return "KLoM was not measured: it was interrupted."
    for kind, scores in found._asdict().items():
        for rows, value in scores.items():
            measured.table.add(_KLOM, rows, kind, value)
    return (
        f"KLoM compares {len(seeds) // 3} models of each kind; what retrained models have of it is due to their number."
    )


_KLOM = "KLoM, 95th percentile (nats)"


def _earlier_steps(estimator: Any) -> Any:
    return estimator[:-1] if isinstance(estimator, Pipeline) and len(estimator) > 1 else None


def _checked_rows(steps: Any, shown: Shown, X_name: str, X: Any, y_name: str, y: Any) -> tuple[Any, Rows]:
    """Return rows as they came, and as the audited net takes them with their targets."""
    if steps is None:
        X = made = rows_kept(X)
    else:
        made = rows_kept(steps.transform(X))
        shown.keep(X, made)
    return X, _with_targets(X_name, made, y_name, y)


def _with_targets(X_name: str, X: Any, y_name: str, y: Any) -> Rows:
    y = np.asarray(y)
    try:
        check_consistent_length(X, y)
    except ValueError:
        raise ValueError(f"{X_name} has {len(X)} rows and {y_name} {len(y)}; give one target for each row.") from None
    if len(y) < 2:
        raise ValueError(f"{X_name} must hold at least 2 rows for an audit, got {len(y)}.")
    return Rows(X, y)


def _rows_that_stay(model: Any, erased: Rows, given: Rows | None) -> tuple[Rows, int | None, NDArray[np.bool_] | None]:
    """Return the rows to retrain on, how many erased rows, with their targets, the model still holds, and which stay.

    The last is of the stored rows, and None where others were given.
    """
    stored = getattr(model, "training_set_", None)
    if stored is None:
        if given is None:
            raise ValueError(
                f"{type(model).__name__} keeps no training rows (keep_training_set=False): give X_retained and "
                "y_retained, the rows to retrain on."
            )
        return given, None, None
    left = find_rows(model, erased.X, erased.y).positions
    if given is not None:
        return given, len(left), None
    stays = ~np.isin(np.flatnonzero(stored.live_mask), left)
    if not stays.any():
        raise ValueError("X_del covers all rows that the estimator keeps; there is nothing to retrain on.")
    X, y = stored_features(model), stored_targets(model)
    # Identifiers say which rows are in one shard; other trainings do not ask.
    columns = stored.sample_weight, stored.sample_id if isinstance(model, BaseSharded) else None
    weight, ids = (None if each is None else each[stays] for each in columns)
    return Rows(named(model, X[stays]), y[stays], weight, ids), len(left), stays


def _as_they_came(estimator: Any, stays: NDArray[np.bool_]) -> Any:
    """Return the rows that stay as they came to a pipeline; None where it does not keep them, one for one."""
    state = getattr(estimator, "pipeline_state_", None)
    if state is None or state.raw is None or state.resampled is not None or len(state.raw) != len(stays):
        return None
    return state.raw.rows(np.flatnonzero(stays)).X


def _of_others_steps(shown: Shown, models: Sequence[Any], X: Any) -> list[str]:
    """Say of which models the figures on retained rows are those of rows that other steps than their own made."""
    n = sum(shown.differs(model, X) for model in models)
    return [_OTHER_STEPS.format(n=n)] if n else []


def _seeds(random_state: int, n: int) -> list[int]:
    # Below 2**31, which every seed argument of torch and NumPy takes.
    return [int(seed) for seed in np.random.SeedSequence(random_state).generate_state(n) >> 1]


def _certificate(model: Any) -> tuple[Any, str]:
    if not hasattr(model, "forget"):
        return None, f"A {type(model).__name__} has no certificate of its own."
    try:
        return model.certificate_, ""
    except AttributeError as reason:
        return None, str(reason)


def _assumptions(model: Any, n_references: int, told: str, erased: str) -> list[str]:
    parts = [] if hasattr(model, "forget") else [_NOT_LOOKED_UP]
    return [
        *parts,
        f"The standard is retraining: {n_references} models, {told}, with the settings of the audited one.",
        erased,
        "The test rows were used for no training and come from the same distribution.",
        "Closeness is that of predictions on these rows, not a proof about all rows, nor about parameters.",
        "The attack knows losses only. Stronger attacks exist; what they would find is not excluded.",
        "Copies of the model, files, logs, and predictions made earlier are outside this audit.",
    ]


def _versions() -> dict[str, str]:
    return {
        "sk-unlearn": __version__,
        "torch": torch.__version__,
        "skorch": skorch.__version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "pandas": pd.__version__,
        "Python": platform.python_version(),
    }


def _check_int(name: str, value: Any, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an int of at least {least}, got {value!r}.")
