"""Audit one deletion."""

from __future__ import annotations

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
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sk_unlearn._version import __version__
from sk_unlearn.estimators.lookup import find_rows, named, stored_features
from sk_unlearn.inspection._audit._measures import Case, Measured, measure
from sk_unlearn.inspection._audit._report import AuditReport
from sk_unlearn.inspection._audit._verdict import ENOUGH_REFERENCES, judge
from sk_unlearn.metrics.distances import last_step
from sk_unlearn.references.cases import stored_targets
from sk_unlearn.references.retrained import References, Rows, train_references
from sk_unlearn.rows.forms import rows_kept

__all__ = ["audit"]

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
    n_references: int = 3,
    references: Sequence[Any] | None = None,
    random_state: int = 0,
    n_jobs: int | None = None,
    verbose: int = 0,
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
        would have come to.
    X_retained : array-like of shape (n_retained, ...), default=None
        Rows to retrain on. None takes the rows that the estimator keeps, less any erased ones among them.
    y_retained : array-like of shape (n_retained,), default=None
        Their targets.
    n_references : int, default=3
        How many models to retrain; at least 3. The more there are, the narrower the intervals.
    references : sequence of at least three estimators or Pipelines, default=None
        Models that were retrained elsewhere. If given, none are retrained here.
    random_state : int, default=0
        The seeds of the references and of the bootstrap are derived from it.
    n_jobs : int, default=None
        Number of processes for the references.
    verbose : int, default=0
        Above 0 shows progress on stderr.

    Returns
    -------
    AuditReport
        To be printed, shown in a notebook, or saved by ``to_html`` and ``to_json``. If Ctrl-C is pressed while
        models are retrained, it rests on those that were done and is marked as incomplete.

    Raises
    ------
    ValueError
        If rows and targets differ in number, there are fewer than two erased or two test rows, or fewer than three
        references, or if there are no rows to retrain on. For a model without ``forget``, if `references` or retained
        rows are not given.

    Notes
    -----
    Two figures are taken of each retrained model: its distance from the others, and the AUC of a membership attack by
    losses on it. From them follow 95 % prediction intervals for one more retrained model, by Student's t, for distances
    on a logarithmic scale. The verdict is one of five:

    - "over_forgotten" or "not_yet": the model that forgot lies above the interval of the distance, on the erased rows
      or on rows never seen, or outside that of the attack's AUC. It is over-forgotten where the erased rows look
      stranger to it than to retrained models, by the attack or by their losses.
    - "closer": it is no farther than retrained models are on average, on both sets of rows.
    - "within": it is farther than that, but within the interval, which ends below twice the average.
    - "undecided" otherwise: more references would narrow the interval.

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
    started = time.perf_counter()
    _check_int("random_state", random_state, 0)
    check_is_fitted(last_step(estimator))
    estimator = _chosen(estimator)
    model, transform = last_step(estimator), _earlier_steps(estimator)
    if not hasattr(model, "forget") and (references is None or X_retained is None):
        raise ValueError(
            f"{type(model).__name__} does not forget by itself, so that nothing is retrained like it. Give references, "
            "retrained models, with X_retained and y_retained; or audit the parts that forget, each by itself."
        )
    erased = _checked_rows("X_del", transform(X_del), "y_del", y_del)
    test = _checked_rows("X_test", transform(X_test), "y_test", y_test)
    given = None
    if X_retained is not None and y_retained is not None:
        given = _checked_rows("X_retained", transform(X_retained), "y_retained", y_retained)
    retained, n_still_stored = _rows_that_stay(model, erased, given)
    if references is None:
        _check_int("n_references", n_references, ENOUGH_REFERENCES)
        seeds = _seeds(random_state, n_references)
        trained = train_references(model, retained, seeds, n_jobs=n_jobs, verbose=verbose)
    else:
        if len(references) < ENOUGH_REFERENCES:
            raise ValueError(
                f"references must hold at least {ENOUGH_REFERENCES} retrained models, got {len(references)}."
            )
        trained = References([last_step(_chosen(each)) for each in references], [], float("nan"), True)
    untouched = None if before is None else last_step(_chosen(before))
    case = Case(model, untouched, trained.models, erased, retained, test)
    measured = measure(case, n_still_stored=n_still_stored, random_state=random_state, verbose=verbose)
    return _report(case, trained, measured, random_state, time.perf_counter() - started)


def _report(case: Case, trained: References, measured: Measured, random_state: int, seconds: float) -> AuditReport:
    request = getattr(case.after, "unlearning_report_", None)
    verdict = judge(measured.findings)
    certificate, no_certificate = _certificate(case.after)
    return AuditReport(
        verdict=verdict.code,
        headline=verdict.headline,
        reasons=verdict.reasons,
        complete=trained.complete,
        measures=measured.frame(),
        request=request,
        n_requests=len(getattr(case.after, "unlearning_history_", [])),
        certificate=certificate,
        no_certificate=no_certificate,
        n_erased=len(case.erased.y),
        n_still_stored=measured.findings.n_still_stored,
        n_retained=len(case.retained.y),
        n_test=len(case.test.y),
        assumptions=_assumptions(case, trained) + measured.notes,
        seeds={"random_state": int(random_state), "references": trained.seeds},
        versions=_versions(),
        seconds={
            "forgetting": float("nan") if request is None else request.seconds,
            "retraining one model": trained.seconds,
            "audit": seconds,
        },
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        model=" ".join(str(case.after).split()),
        losses=measured.losses,
        attacks=measured.attacks,
    )


def _chosen(estimator: Any) -> Any:
    """Return what a search predicts with, and any other estimator as it is."""
    return getattr(estimator, "best_estimator_", estimator)


def _earlier_steps(estimator: Any) -> Any:
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        return estimator[:-1].transform
    return lambda X: X


def _checked_rows(X_name: str, X: Any, y_name: str, y: Any) -> Rows:
    X, y = rows_kept(X), np.asarray(y)
    try:
        check_consistent_length(X, y)
    except ValueError:
        raise ValueError(f"{X_name} has {len(X)} rows and {y_name} {len(y)}; give one target for each row.") from None
    if len(y) < 2:
        raise ValueError(f"{X_name} must hold at least 2 rows for an audit, got {len(y)}.")
    return Rows(X, y)


def _rows_that_stay(model: Any, erased: Rows, given: Rows | None) -> tuple[Rows, int | None]:
    """Return the rows to retrain on, and how many erased rows, with their targets, the model still holds."""
    stored = getattr(model, "training_set_", None)
    if stored is None:
        if given is None:
            raise ValueError(
                f"{type(model).__name__} keeps no training rows (keep_training_set=False): give X_retained and "
                "y_retained, the rows to retrain on."
            )
        return given, None
    left = find_rows(model, erased.X, erased.y).positions
    if given is not None:
        return given, len(left)
    stays = np.ones(len(stored), dtype=bool)
    stays[left] = False
    if not stays.any():
        raise ValueError("X_del covers all rows that the estimator keeps; there is nothing to retrain on.")
    X, y, weight = stored_features(model), stored_targets(model), stored.sample_weight
    return Rows(named(model, X[stays]), y[stays], None if weight is None else weight[stays]), len(left)


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


def _assumptions(case: Case, trained: References) -> list[str]:
    where = (
        f"retrained here from seeds {', '.join(map(str, trained.seeds))}"
        if trained.seeds
        else "handed in as retrained without the erased rows, which was not checked"
    )
    whole = [] if hasattr(case.after, "forget") else [_NOT_LOOKED_UP]
    return [
        *whole,
        f"The standard is retraining: {len(trained.models)} models, {where}, with the settings of the audited one.",
        "The erased rows are those handed to the audit, and the test rows were used for no training and come from the "
        "same distribution.",
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
