"""The contract of unlearning, as checks that anyone's own unlearner or estimator can be run through.

Use it as scikit-learn's checks are used, in a test file::

    from sk_unlearn.utils.estimator_checks import parametrize_with_checks


    @parametrize_with_checks([MyUnlearner(), UnlearnableClassifier(unlearner=MyUnlearner(), keep_training_set=False)])
    def test_contract(estimator, check):
        check(estimator)

Every check takes an unfitted estimator, works on clones of it, and raises an ``AssertionError`` that says what was
expected. Only pytest's decorator needs pytest.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import ValidSplit
from torch import nn

from sk_unlearn.estimators import UnlearnableClassifier, UnlearnableRegressor, UnlearningReport
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.shards.base import BaseSharded
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.rows import RowRole
from sk_unlearn.rows.storage import dense
from sk_unlearn.unlearners import (
    Retrain,
    Status,
    StoCuReNU,
    TrainingRecorder,
    Unlearner,
    UnlearnerTags,
    UnlearningProblem,
    UnlearningResult,
)

__all__ = [
    "check_all_rows_refused",
    "check_clone_is_unfitted",
    "check_copies_go_together",
    "check_empty_change_is_identity",
    "check_empty_request_refused",
    "check_estimator",
    "check_exact_on_quadratics",
    "check_extra_names",
    "check_fault_leaves_untouched",
    "check_finite_and_deterministic",
    "check_forget_by_id",
    "check_forget_needs_rows",
    "check_forget_then_refuse",
    "check_nested_parameters",
    "check_no_erased_bytes",
    "check_no_resurrection",
    "check_not_fitted_refused",
    "check_predictions_keep_their_form",
    "check_refit_after_forget",
    "check_report",
    "check_sparse_rows",
    "check_status",
    "check_unknown_row_refused",
    "check_unlearner_changes_nothing",
    "check_unlearner_that_needs_rows_refused",
    "check_wrong_width_refused",
    "estimator_checks",
    "parametrize_with_checks",
]

Check = Callable[[Any], None]

#: What may be left of the distance to the closed-form optimum in :func:`check_exact_on_quadratics`. It leaves room for
#: algorithms that stop at a hundredth of the first gradient, as the package's own do, on problems of condition 3.
QUADRATIC_TOLERANCE = 0.05

#: What may be left, in :func:`check_no_resurrection`, of the influence that the first request took away.
RESURRECTION_TOLERANCE = 0.5

_N_ROWS, _N_FEATURES, _N_ERASED = 48, 3, 5


# ---------------------------------------------------------------------------------------------------------- the suite


def estimator_checks(estimator: Any) -> Iterator[tuple[BaseUnlearnable, Check]]:
    """Yield the checks that apply, each with the estimator to call it with.

    Parameters
    ----------
    estimator : UnlearnableClassifier, UnlearnableRegressor, ShardedClassifier, ShardedRegressor, subclass or instance \
            of one, or Unlearner instance
        A class is built with its defaults. A bare unlearner is wrapped into both estimators (into the classifier alone
        if it ``needs_logits``), and once more with ``keep_training_set=False`` unless it ``needs_rows``.

    Yields
    ------
    estimator : estimator instance
        Unfitted.

    check : callable
        Takes it.

    Raises
    ------
    TypeError
        For anything else.
    """
    for subject in _subjects(estimator):
        for check in _applicable(subject):
            yield subject, check


def check_estimator(estimator: Any) -> None:
    """Run all checks that apply; see :func:`estimator_checks` for what can be given.

    Raises
    ------
    AssertionError
        By the first check that fails.
    """
    for subject, check in estimator_checks(estimator):
        check(subject)


def parametrize_with_checks(estimators: Iterable[Any]) -> Any:
    """Decorate a pytest function of ``estimator`` and ``check`` so that it runs once for each check of each estimator.

    Parameters
    ----------
    estimators : iterable
        Of what :func:`estimator_checks` takes.

    Returns
    -------
    decorator : pytest.MarkDecorator
    """
    import pytest

    pairs = [pair for estimator in estimators for pair in estimator_checks(estimator)]
    return pytest.mark.parametrize(
        ("estimator", "check"), [pytest.param(e, check, id=f"{_name(e)}-{check.__name__}") for e, check in pairs]
    )


def _subjects(estimator: Any) -> list[BaseUnlearnable]:
    if isinstance(estimator, type) and issubclass(estimator, BaseUnlearnable | BaseSharded):
        return [estimator()]
    if isinstance(estimator, BaseUnlearnable | BaseSharded):
        return [estimator]
    if isinstance(estimator, Unlearner):
        tags = estimator.__unlearner_tags__()
        kept = [True] if tags.needs_rows else [True, False]
        classifier_only = [UnlearnableClassifier]
        kinds = classifier_only if tags.needs_logits else [*classifier_only, UnlearnableRegressor]
        return [kind(unlearner=clone(estimator), keep_training_set=keep) for keep in kept for kind in kinds]
    raise TypeError(
        "estimators must hold UnlearnableClassifier or UnlearnableRegressor (or subclasses; classes or instances) or "
        f"Unlearner instances; got {estimator!r}."
    )


def _applicable(estimator: BaseUnlearnable) -> list[Check]:
    tags = _unlearner(estimator).__unlearner_tags__()
    general: list[Check] = [check_not_fitted_refused, check_clone_is_unfitted, check_nested_parameters]
    if not estimator.keep_training_set and tags.needs_rows:
        return [*general, check_unlearner_that_needs_rows_refused]
    general += [
        check_all_rows_refused,
        check_empty_request_refused,
        check_extra_names,
        check_fault_leaves_untouched,
        check_finite_and_deterministic,
        check_no_erased_bytes,
        check_predictions_keep_their_form,
        check_refit_after_forget,
        check_report,
        check_sparse_rows,
        check_status,
        check_unlearner_changes_nothing,
        check_wrong_width_refused,
    ]
    if tags.aims_at_retrained:
        general.append(check_no_resurrection)
    if tags.exact_on_quadratics:
        general.append(check_exact_on_quadratics)
    if not estimator.keep_training_set:
        return [*general, check_forget_needs_rows]
    return [
        *general,
        check_copies_go_together,
        check_empty_change_is_identity,
        check_forget_by_id,
        check_forget_then_refuse,
        check_unknown_row_refused,
    ]


def _name(estimator: BaseUnlearnable) -> str:
    rows = "" if estimator.keep_training_set else ", no rows"
    return f"{type(estimator).__name__}({type(_unlearner(estimator)).__name__}{rows})"


# ------------------------------------------------------------------------------------------------------- refused ones


def check_not_fitted_refused(estimator: Any) -> None:
    """Check that ``forget``, ``partial_forget``, ``correct`` and ``predict`` before ``fit`` raise a NotFittedError."""
    X, y = _data(estimator)
    requests: dict[str, Callable[[Any], Any]] = {
        "forget": lambda est: est.forget(X[:1]),
        "partial_forget": lambda est: est.partial_forget(X[:1], y[:1]),
        "correct": lambda est: est.correct(X[:1], y_new=y[:1]),
        "predict": lambda est: est.predict(X),
    }
    for name, request in requests.items():
        with _raises(NotFittedError, f"{name} before fit"):
            request(clone(estimator))


def check_forget_then_refuse(estimator: Any) -> None:
    """Check that what was forgotten has left the training set, and that a second request for it is refused."""
    est, X, _ = _fitted(estimator)
    returned = est.forget(X[:_N_ERASED])
    assert returned is est, "forget must return self"
    assert len(est.training_set_) == _N_ROWS - _N_ERASED, (
        f"{_N_ERASED} of {_N_ROWS} rows were forgotten and the training set has {len(est.training_set_)}"
    )
    left = est.training_set_.X
    assert not _contains(left, X[:_N_ERASED]), "a forgotten row is still in the training set"
    with _refused(est, "a row forgotten before"):
        est.forget(X[:1])
    with _refused(est, "a row forgotten before, together with a stored one"):
        est.forget(X[[0, _N_ERASED]])


def check_unknown_row_refused(estimator: Any) -> None:
    """Check that a row that was never trained on is refused, with or without known ones beside it."""
    est, X, _ = _fitted(estimator)
    unknown = X[:1] + 17
    with _refused(est, "an unknown row"):
        est.forget(unknown)
    with _refused(est, "an unknown row beside a known one"):
        est.forget(np.concatenate([X[:1], unknown]))


def check_empty_request_refused(estimator: Any) -> None:
    """Check that a request for no row is refused."""
    est, X, y = _fitted(estimator)
    with _refused(est, "partial_forget of no rows"):
        est.partial_forget(X[:0], y[:0])
    if est.keep_training_set:
        with _refused(est, "forget of no rows"):
            est.forget(X[:0])
        with _refused(est, "forget without arguments"):
            est.forget()


def check_all_rows_refused(estimator: Any) -> None:
    """Check that a request for every row is refused: nothing would be left to model."""
    est, X, y = _fitted(estimator)
    with _refused(est, "a request for every row"):
        _request(est, X, y)


def check_wrong_width_refused(estimator: Any) -> None:
    """Check that rows of another width than those of ``fit`` are refused."""
    est, X, y = _fitted(estimator)
    for rows in (X[:1, 1:], np.column_stack([X, X])[:1]):
        with _refused(est, f"a row of width {rows.shape[1]} instead of {_N_FEATURES}"):
            _request(est, rows, y[:1])


def check_forget_needs_rows(estimator: Any) -> None:
    """Check that ``forget`` with ``keep_training_set=False`` says that it cannot look rows up, and names what works."""
    est, X, _ = _fitted(estimator)
    assert not hasattr(est, "training_set_"), "keep_training_set=False and yet there is a training_set_"
    with _refused(est, "forget with keep_training_set=False", says="partial_forget"):
        est.forget(X[:1])


def check_unlearner_that_needs_rows_refused(estimator: Any) -> None:
    """Check that an unlearner that reads retained rows is refused where none are kept, with the cure named."""
    est, X, y = _fitted(estimator)
    with _refused(est, "an unlearner that needs rows, without any", says="keep_training_set=True"):
        est.partial_forget(X[:1], y[:1])


# ----------------------------------------------------------------------------------------------------- what must hold


def check_copies_go_together(estimator: Any) -> None:
    """Check that every stored copy of a row goes, and that ``y_del`` narrows this to copies with that target."""
    X, y = _data(estimator)
    other = y[np.flatnonzero(y != y[0])[0]]
    X, y = np.concatenate([X, X[:1], X[:1]]), np.concatenate([y, y[:1], [other]])
    est = _prepared(estimator).fit(X, y)
    est.forget(X[:1], [other])
    assert len(est.training_set_) == len(X) - 1, "y_del must narrow the request to the copies with this target"
    est.forget(X[:1])
    assert len(est.training_set_) == len(X) - 3, "every stored copy of a row must go"


def check_forget_by_id(estimator: Any) -> None:
    """Check that all rows of an identifier go together, and that it is unknown afterwards."""
    X, y = _data(estimator)
    ids = np.array([f"person-{i // 3}" for i in range(len(X))])
    est = _prepared(estimator).fit(X, y, sample_id=ids)
    est.forget(sample_id=["person-1"])
    assert len(est.training_set_) == len(X) - 3, "all three rows of the identifier must go"
    assert not _contains(est.training_set_.X, X[3:6]), "a row of the identifier is still in the training set"
    with _refused(est, "an identifier forgotten before"):
        est.forget(sample_id=["person-1"])


def check_empty_change_is_identity(estimator: Any) -> None:
    """Check that forgetting rows that never entered a gradient moves no parameter by a single bit.

    Such are rows of weight zero, and rows that were held out for validation.
    """
    X, y = _data(estimator)
    weight = np.ones(len(X))
    weight[:3] = 0
    est = _prepared(estimator).fit(X, y, sample_weight=weight)
    before = _parameters(est)
    est.forget(X[:3])
    assert torch.equal(before, _parameters(est)), "rows of weight zero were forgotten and parameters have moved"
    assert len(est.training_set_) == len(X) - 3, "rows of weight zero must leave the training set like others"

    est = _prepared(estimator)
    net, prefix = _given_net(est)
    if not isinstance(net, NeuralNet):
        return
    est.set_params(**{f"{prefix}__train_split": ValidSplit(4)}).fit(X, y)
    held_out = est.training_set_.role == RowRole.VALIDATED
    before = _parameters(est)
    est.forget(est.training_set_.X[held_out])
    assert torch.equal(before, _parameters(est)), "held-out rows were forgotten and parameters have moved"
    assert not est.unlearning_report_.parameters_moved, "parameters_moved of the report must be False"


def check_no_resurrection(estimator: Any) -> None:
    """Check that forgetting A and then B is close to forgetting both at once, and that A stays unknown.

    Only for unlearners that claim to aim at the retrained model. Measured on a well-conditioned linear model in which A
    are outliers: what a sequence of requests may leave of the
    influence of A is at most ``RESURRECTION_TOLERANCE`` of it.
    """
    X, y = _outliers(estimator)
    A, B = np.arange(_N_ERASED), np.arange(_N_ERASED, 2 * _N_ERASED)

    def after(*requests: NDArray[np.int64]) -> Any:
        est = _least_squares(estimator).fit(X, y)
        for rows in requests:
            _request(est, X[rows], y[rows])
        return est

    sequence, joint, only_B = after(A, B), after(np.concatenate([A, B])), after(B)
    influence = (_parameters(only_B) - _parameters(joint)).norm()
    left = (_parameters(sequence) - _parameters(joint)).norm()
    assert left <= RESURRECTION_TOLERANCE * influence, (
        f"after forgetting A and then B, {float(left / influence):.0%} of the influence of A is there"
    )
    if sequence.keep_training_set:
        with _refused(sequence, "a row of the first request, after the second"):
            sequence.forget(X[A[:1]])


def check_exact_on_quadratics(estimator: Any) -> None:
    r"""Check that on a linear model with squared loss and weight decay forgetting gives the ridge solution.

    The model is trained to its optimum by full-batch gradient descent. With rows X (a column of ones appended), targets
    Y of k columns, n retained rows and weight decay λ, the optimum on them is
    :math:`W = (X^\top X + \tfrac{\lambda n k}{2} I)^{-1} X^\top Y`. The distance left to it may be at most
    ``QUADRATIC_TOLERANCE`` of the distance at the start. Only for unlearners with ``exact_on_quadratics``.
    """
    X, y = _outliers(estimator)
    est = _least_squares(estimator).fit(X, y)
    start = _parameters(est)
    assert _relative(start, _optimum(est, X, y), start) < 1e-10, "the model did not train to its optimum: a broken fit?"
    _request(est, X[:_N_ERASED], y[:_N_ERASED])
    optimum = _optimum(est, X[_N_ERASED:], y[_N_ERASED:])
    left = float((_parameters(est) - optimum).norm() / (start - optimum).norm())
    assert left <= QUADRATIC_TOLERANCE, (
        f"{left:.1%} of the way to the optimum on the retained rows is left; at most {QUADRATIC_TOLERANCE:.0%} may be"
    )


def check_fault_leaves_untouched(estimator: Any) -> None:
    """Check that an unlearner that raises, is interrupted or returns nan leaves everything bit for bit as it was.

    That is: parameters, buffers, optimiser, training set, report, history and predictions. The same request without the
    fault then does what it would have done.
    """
    expected = {
        "raises": RuntimeError,
        "interrupted": KeyboardInterrupt,
        "interrupted between steps": KeyboardInterrupt,
        "nan": FloatingPointError,
        "infinite": FloatingPointError,
    }
    est, X, y = _fitted(estimator)
    _request(est, X[:2], y[:2])
    sound = est.unlearner
    unharmed = pickle.loads(pickle.dumps(est))
    for fault, error in expected.items():
        est.set_params(unlearner=_Faulty(_unlearner(est), fault))
        with _refused(est, f"an unlearner that fails ({fault})", error=error):
            _request(est, X[2:4], y[2:4])
        est.set_params(unlearner=sound)
    for each in (est, unharmed):
        _request(each, X[2:4], y[2:4])
    assert torch.equal(_parameters(est), _parameters(unharmed)), "a request after a failed one does something else"


def check_unlearner_changes_nothing(estimator: Any) -> None:
    """Check that ``unlearn`` changes neither the net nor anything else that it is given."""
    est, X, y = _fitted(estimator)
    est.set_params(unlearner=_Watched(_unlearner(est)))
    _request(est, X[:_N_ERASED], y[:_N_ERASED])


def check_finite_and_deterministic(estimator: Any) -> None:
    """Check that under one ``random_state`` the same fit and requests give the same finite parameters, bit for bit.

    Also when the estimator has been pickled in between, and whatever the state of the global generators.
    """
    results = []
    for k in range(3):
        torch.manual_seed(k)
        est, X, y = _fitted(estimator)
        for rows in (slice(0, 3), slice(3, 6)):
            if k == 2:
                est = pickle.loads(pickle.dumps(est))
            _request(est, X[rows], y[rows])
            assert bool(torch.isfinite(_parameters(est)).all()), "parameters are not finite after a request"
        results.append(_parameters(est))
    assert torch.equal(results[0], results[1]), "the same fit and requests under one random_state gave other parameters"
    assert torch.equal(results[0], results[2]), "pickling in between changed what a request does"


def check_report(estimator: Any) -> None:
    """Check that every request fills the report and appends it to the history, and that fit leaves none."""
    est, X, y = _fitted(estimator)
    assert est.unlearning_history_ == [], "unlearning_history_ must be empty after fit"
    assert not hasattr(est, "unlearning_report_"), "there must be no unlearning_report_ before the first request"
    reports: list[UnlearningReport] = []
    for k in (1, 2):
        _request(est, X[k * _N_ERASED : (k + 1) * _N_ERASED], y[k * _N_ERASED : (k + 1) * _N_ERASED])
        report = est.unlearning_report_
        reports.append(report)
        assert isinstance(report, UnlearningReport), "unlearning_report_ must be an UnlearningReport"
        history = est.unlearning_history_
        assert history[-1] is report, "unlearning_history_ must end with unlearning_report_"
        ids = [each.request_id for each in reports]
        assert [each.request_id for each in history] == ids, "unlearning_history_ must hold all reports since fit"
        assert [each.request_id for each in est.receipts_] == ids, "receipts_ must have a receipt of every request"
        facts = {
            "request": "forget" if est.keep_training_set else "partial_forget",
            "method": type(_unlearner(est)).__name__,
            "n_erased": _N_ERASED,
            "n_trained_erased": _N_ERASED,
            "n_retained": _N_ROWS - k * _N_ERASED,
        }
        for name, value in facts.items():
            assert getattr(report, name) == value, f"{name} of the report is {getattr(report, name)!r}, not {value!r}"
        assert report.seconds > 0, "seconds of the report must be positive"
        assert report.stop_reason, "stop_reason of the report must say why the algorithm ended"
        for text in (str(report), report._repr_html_()):
            assert report.method in text, f"the report must print itself, method included; it prints {text!r}"


def check_status(estimator: Any) -> None:
    """Check that a request ends with a Status, that ``converged`` means that of this name alone, and that it is told.

    A request that leaves the parameters where they were, although rows that were trained on have gone, must say so in
    ``notes``.
    """
    est, X, y = _fitted(estimator)
    _request(est, X[:_N_ERASED], y[:_N_ERASED])
    report = est.unlearning_report_
    assert isinstance(report.status, Status), f"status of the report must be a Status, and is {report.status!r}"
    assert report.converged == (report.status is Status.CONVERGED), (
        f"converged of the report is {report.converged!r} at the status {str(report.status)!r}"
    )
    assert str(report.status) in str(report), f"the report must print its status; it prints {report!s}"
    assert report.parameters_moved or report.notes, (
        "rows that were trained on were forgotten, no parameter has moved, and notes of the report do not say so"
    )


def check_extra_names(estimator: Any) -> None:
    """Check that what an unlearner tells in ``extra`` is named in its tags, by names that the report does not have.

    A name that the report has is refused before the unlearner runs.
    """
    own = _unlearner(estimator).__unlearner_tags__().extra
    taken = {each.name for each in fields(UnlearningReport)} | {"converged"}
    assert not taken & set(own), f"extra of the tags has names that the report has: {sorted(taken & set(own))}"
    est, X, y = _fitted(estimator)
    sound = est.unlearner
    est.set_params(unlearner=_Colliding(_unlearner(est)))
    with _refused(est, "a name in extra of the tags that the report has", says="n_steps"):
        _request(est, X[:_N_ERASED], y[:_N_ERASED])
    est.set_params(unlearner=sound)
    _request(est, X[:_N_ERASED], y[:_N_ERASED])
    of_shards = {"n_shards", "n_shards_touched", "n_shards_emptied"} if isinstance(est, BaseSharded) else set()
    unnamed = sorted(set(est.unlearning_report_.extra) - set(own) - of_shards)
    assert not unnamed, f"the result has {unnamed} in extra, which the tags do not name"


def check_no_erased_bytes(estimator: Any) -> None:
    """Check that no feature row, target (of a regressor) or id that was erased is in the pickled estimator.

    Searched for are the bytes of each row in float32 and in float64.
    """
    X, y = _data(estimator)
    ids = np.array([f"subject-{i}-{i * i}" for i in range(len(X))])
    est = _prepared(estimator).fit(X, y, sample_id=ids)
    erased = slice(0, _N_ERASED)
    patterns: dict[str, bytes] = {}
    for i in range(_N_ERASED):
        for dtype in (np.float32, np.float64):
            patterns[f"row {i} in {np.dtype(dtype)}"] = X[i].astype(dtype).tobytes()
            if not is_classifier(est):
                patterns[f"the target of row {i} in {np.dtype(dtype)}"] = y[i].astype(dtype).tobytes()
        patterns[f"the id of row {i}"] = ids[i].encode()
        patterns[f"the id of row {i} as NumPy stores it"] = ids[i : i + 1].tobytes()
    if est.keep_training_set and isinstance(est.training_set_.X, np.ndarray):
        stored = pickle.dumps(est)
        assert all(any(patterns[f"row {i} in float{b}"] in stored for b in (32, 64)) for i in range(_N_ERASED)), (
            "rows cannot be found in the pickle of an estimator that keeps them: this check would see nothing"
        )
    _request(est, X[erased], y[erased])
    content = pickle.dumps(est)
    found = [name for name, pattern in patterns.items() if pattern in content]
    assert not found, f"found in the pickled estimator after they were forgotten: {', '.join(found)}"


def check_predictions_keep_their_form(estimator: Any) -> None:
    """Check that a request changes neither shape nor data type of predictions, nor the classes, and all are finite."""
    est, X, y = _fitted(estimator)
    methods = ["predict", "predict_proba"] if is_classifier(est) else ["predict"]
    before = {name: getattr(est, name)(X) for name in methods}
    classes = est.classes_.copy() if is_classifier(est) else None
    # All rows of a class, so that it is the list of classes that must not change.
    rows = np.flatnonzero(y == y[0]) if is_classifier(est) else np.arange(_N_ERASED)
    _request(est, X[rows], y[rows])
    for name, old in before.items():
        new = getattr(est, name)(X)
        assert new.shape == old.shape, f"{name} gave shape {old.shape} and now gives {new.shape}"
        assert new.dtype == old.dtype, f"{name} gave {old.dtype} and now gives {new.dtype}"
        assert new.dtype.kind != "f" or np.isfinite(new).all(), f"{name} gives values that are not finite"
    assert classes is None or np.array_equal(classes, est.classes_), "classes_ must stay as it is"


def check_sparse_rows(estimator: Any) -> None:
    """Check that sparse rows are fitted and forgotten as the same rows are when they are dense, bit for bit."""
    X, y = _data(estimator)
    X[np.abs(X) < np.median(np.abs(X))] = 0.0
    results = []
    for kind in (np.asarray, csr_array):
        est = _prepared(estimator).fit(kind(X), y)
        _request(est, kind(X[:_N_ERASED]), y[:_N_ERASED])
        results.append(_parameters(est))
    assert torch.equal(*results), "after a request sparse rows led to other parameters than the same rows as an array"


def check_refit_after_forget(estimator: Any) -> None:
    """Check that ``fit`` after a request starts afresh: same parameters, empty history, all rows known."""
    est, X, y = _fitted(estimator)
    fresh = _parameters(est)
    _request(est, X[:_N_ERASED], y[:_N_ERASED])
    est.fit(X, y)
    assert torch.equal(fresh, _parameters(est)), "fit after a request gives other parameters than a first fit"
    assert est.unlearning_history_ == [], "fit must start a new history"
    assert not hasattr(est, "unlearning_report_"), "fit must drop the report of a request before it"
    _request(est, X[:_N_ERASED], y[:_N_ERASED])


def check_clone_is_unfitted(estimator: Any) -> None:
    """Check that a ``clone`` of a fitted estimator is not fitted, and has the same parameters."""
    est, _, _ = _fitted(estimator)
    copy = clone(est)
    assert copy is not est, "clone must be another object"
    with _raises(NotFittedError, "check_is_fitted on a clone"):
        check_is_fitted(copy)
    assert copy.get_params(deep=False).keys() == est.get_params(deep=False).keys(), "a clone must have the parameters"
    learnt = [name for name in vars(copy) if name.endswith("_") and not name.startswith("_")]
    assert not learnt, f"a clone must have learnt nothing, and has {learnt}"
    check_is_fitted(est)


def check_nested_parameters(estimator: Any) -> None:
    """Check that ``get_params`` and ``set_params`` reach into net and unlearner, and that ``fit`` changes neither."""
    est = _prepared(estimator).set_params(unlearner=clone(_unlearner(estimator)))
    nested = {k: v for k, v in est.get_params().items() if k.startswith("unlearner__")}
    own = est.unlearner.get_params(deep=False)
    for name, value in own.items():
        assert f"unlearner__{name}" in nested, f"get_params() has no unlearner__{name}"
        marker = object()
        est.set_params(**{f"unlearner__{name}": marker})
        assert est.get_params()[f"unlearner__{name}"] is marker, f"set_params(unlearner__{name}=...) sets nothing"
        est.set_params(**{f"unlearner__{name}": value})
    net, prefix = _given_net(est)
    if isinstance(net, NeuralNet):
        est.set_params(**{f"{prefix}__lr": 0.25})
        assert net.lr == 0.25, f"{prefix}__lr must reach the net"
        assert _given_net(clone(est))[0].lr == 0.25, f"{prefix}__lr must reach the net of a clone"
    X, y = _data(estimator)
    given_unlearner, given = est.unlearner, est.estimator
    est.fit(X, y)
    assert est.unlearner is given_unlearner, "fit must leave the parameter unlearner as it is"
    assert est.estimator is given, "fit must leave the parameter estimator as it is"
    assert all(each is not net for each in _nets(est)), "fit must train a clone of the net"


# ------------------------------------------------------------------------------------------------- faults and watching


class _Wrapped(Unlearner):
    """An unlearner around another one."""

    def __init__(self, inner: Unlearner) -> None:
        self.inner = inner

    def __unlearner_tags__(self) -> UnlearnerTags:
        return self.inner.__unlearner_tags__()

    def recorder(self) -> TrainingRecorder | None:
        return self.inner.recorder()


class _Faulty(_Wrapped):
    """Does what the inner one does, and fails."""

    def __init__(self, inner: Unlearner, fault: str) -> None:
        super().__init__(inner)
        self.fault = fault

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        reported = False

        def interrupt(record: Any) -> None:
            nonlocal reported
            reported = True
            raise KeyboardInterrupt

        between_steps = self.fault == "interrupted between steps"
        result = self.inner.unlearn(replace(problem, report_step=interrupt) if between_steps else problem)
        assert not reported, f"{type(self.inner).__name__} swallowed a KeyboardInterrupt"
        if self.fault == "raises":
            raise RuntimeError("injected")
        if self.fault in ("nan", "infinite"):
            parameters = result.parameters.clone()
            parameters[-1] = float("nan" if self.fault == "nan" else "inf")
            return replace(result, parameters=parameters)
        raise KeyboardInterrupt


class _Colliding(_Wrapped):
    """Announces a number that the report has already; must not be run."""

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.extra = ("n_steps",)
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        raise AssertionError("an unlearner whose extra names collide with the report's was run")


class _Watched(_Wrapped):
    """Does what the inner one does, and asserts that it leaves no trace."""

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        def state() -> dict[str, Any]:
            tensors = {"parameters": problem.parameters, "gradient": problem.gradient, "residual": problem.residual}
            module = {f"net {k}": v for k, v in problem.net.module_.state_dict().items()}
            modes = {f"mode of {k}": m.training for k, m in problem.net.module_.named_modules()}
            copies = {k: v.detach().clone() for k, v in (tensors | module).items()}
            return copies | modes | {"net's history": len(problem.net.history), "global seed": torch.get_rng_state()}

        before = state()
        result = self.inner.unlearn(problem)
        _assert_same(before, state(), f"{type(self.inner).__name__}.unlearn")
        assert isinstance(result, UnlearningResult), "unlearn must return an UnlearningResult"
        assert isinstance(result.status, Status), f"status of the result must be a Status, and is {result.status!r}"
        assert result.parameters.data_ptr() != problem.parameters.data_ptr(), "unlearn must return new parameters"
        assert result.parameters.shape == problem.parameters.shape, "unlearn must return a vector of the same shape"
        return result


@contextmanager
def _raises(error: type[BaseException], what: str, says: str = "") -> Iterator[None]:
    try:
        yield
    except error as raised:
        if says not in str(raised):
            raise AssertionError(
                f"{what} must be refused with a message that names {says!r}; it says: {raised}"
            ) from raised
        return
    except AssertionError:
        raise
    except Exception as raised:
        raise AssertionError(f"{what} must raise {error.__name__}, not {type(raised).__name__}: {raised}") from raised
    raise AssertionError(f"{what} must raise {error.__name__}, and nothing was raised")


@contextmanager
def _refused(est: Any, what: str, *, error: type[BaseException] = ValueError, says: str = "") -> Iterator[None]:
    """Assert that an error is raised inside and that the estimator is bit for bit as it was."""
    before = _snapshot(est)
    with _raises(error, what, says):
        yield
    _assert_same(before, _snapshot(est), what)


def _snapshot(est: Any) -> dict[str, Any]:
    """Return by name everything about a fitted estimator that a failed request must leave alone."""
    state: dict[str, Any] = {}
    for n, net in enumerate(_nets(est)):
        state |= {f"module {n} {k}": v.detach().clone() for k, v in net.module_.state_dict().items()}
        for name in net._optimizers:
            groups = getattr(net, f"{name}_").state_dict()["state"]
            state |= {f"{name} {n} {i} {k}": _copied(v) for i, slot in groups.items() for k, v in slot.items()}
    rows = getattr(est, "training_set_", None)
    if rows is not None:
        columns = ("X", "y", "sample_weight", "sample_id", "role")
        state |= {f"training_set_.{name}": dense(getattr(rows, name)) for name in columns}
    state["unlearning_history_"] = list(map(id, est.unlearning_history_))
    state["receipts_"] = id(getattr(est, "receipts_", None))
    state["unlearning_report_"] = id(getattr(est, "unlearning_report_", None))
    X = np.linspace(-2, 2, 4 * est.n_features_in_).reshape(4, -1)
    state["predictions"] = est.predict_proba(X) if is_classifier(est) else est.predict(X)
    return state


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _assert_same(before: dict[str, Any], after: dict[str, Any], what: str) -> None:
    assert before.keys() == after.keys(), f"{what} must change nothing; {sorted(before.keys() ^ after.keys())} changed"
    changed = [name for name in before if not _same(before[name], after[name])]
    assert not changed, f"{what} must change nothing; changed are: {', '.join(changed)}"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return bool(a == b)


# ------------------------------------------------------------------------------------------------------------ problems


class _SmallNetwork(nn.Module):
    """Smooth and tiny."""

    def __init__(self, n_features_in: int, n_outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features_in, 6), nn.Tanh(), nn.Linear(6, n_outputs))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.body(X)


class _SmallLinear(nn.Linear):
    """One linear layer, for unlearners that are for nothing else."""

    def __init__(self, n_features_in: int, n_outputs: int) -> None:
        super().__init__(n_features_in, n_outputs)


class _Affine(nn.Linear):
    """One linear layer in float64, from zero."""

    def __init__(self, n_features_in: int, n_outputs: int) -> None:
        super().__init__(n_features_in, n_outputs, dtype=torch.float64)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class _SquaredLoss(nn.MSELoss):
    """Squared distance between outputs and the one-hot label."""

    #: Declares the loss convex, with a Hessian that is constant.
    hessian_lipschitz = 0.0

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:  # noqa: A002
        return super().forward(input, nn.functional.one_hot(target, input.shape[1]).to(input))


def _unlearner(estimator: Any) -> Unlearner:
    if estimator.unlearner is None:
        return Retrain() if isinstance(estimator, BaseSharded) else StoCuReNU()
    return estimator.unlearner


def _nets(est: Any) -> list[NeuralNet]:
    """Return the net of an estimator, or those of all shards that have rows."""
    if isinstance(est, BaseSharded):
        return [each.net_ for each in est.estimators_ if each is not None]
    return [est.net_]


def _given_net(est: Any) -> tuple[Any, str]:
    """Return the net that an estimator was given, or the estimator of its shards, and the parameter that it is."""
    if isinstance(est, BaseSharded) and est.estimator is not None:
        return est.estimator.estimator, "estimator__estimator"
    return est.estimator, "estimator"


def _parameters(est: Any) -> torch.Tensor:
    return torch.cat([flat_parameters(net) for net in _nets(est)])


def _request(est: Any, X: NDArray[Any], y: NDArray[Any]) -> None:
    """Forget rows in the way that is open to the estimator."""
    if est.keep_training_set:
        est.forget(X)
    else:
        est.partial_forget(X, y)


def _contains(rows: Any, wanted: NDArray[Any]) -> bool:
    rows, wanted = dense(rows), wanted.astype(rows.dtype)
    return bool((rows[:, None] == wanted[None]).all(-1).any())


def _relative(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> float:
    return float((a - b).norm() / scale.norm())


def _data(estimator: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows that follow a pattern, with three labels or one real target."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(_N_ROWS, _N_FEATURES))
    score = X @ rng.normal(size=_N_FEATURES) + 0.3 * rng.normal(size=_N_ROWS)
    if not is_classifier(estimator):
        return X, score
    return X, np.array(["low", "middle", "top"])[np.searchsorted(np.quantile(score, [1 / 3, 2 / 3]), score)]


def _prepared(estimator: Any) -> Any:
    """Return a seeded clone, with a tiny net in place of the default one, which is sized for real data.

    The net is linear for an unlearner that ``requires_linear_module``.
    """
    est = clone(estimator)
    if est.random_state is None:
        est.set_params(random_state=0)
    if est.estimator is not None:
        return est
    if isinstance(est, BaseSharded):
        single = _prepared(UnlearnableClassifier() if is_classifier(est) else UnlearnableRegressor())
        return est.set_params(estimator=single.set_params(random_state=None), n_shards=3)
    settings: dict[str, Any] = {
        "max_epochs": 4,
        "batch_size": 16,
        "optimizer": torch.optim.Adam,
        "optimizer__weight_decay": 1e-3,
        "lr": 0.03,
        "iterator_train__shuffle": True,
        "train_split": None,
        "verbose": 0,
    }
    module = _SmallLinear if _unlearner(est).__unlearner_tags__().requires_linear_module else _SmallNetwork
    if is_classifier(est):
        return est.set_params(estimator=NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, **settings))
    return est.set_params(estimator=NeuralNetRegressor(module, **settings))


def _fitted(estimator: Any) -> tuple[Any, NDArray[Any], NDArray[Any]]:
    X, y = _data(estimator)
    return _prepared(estimator).fit(X, y), X, y


_DECAY = 0.05


def _outliers(estimator: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows with X'X = n I, of which the first 2 * _N_ERASED are outliers."""
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(np.column_stack([np.ones(_N_ROWS), rng.normal(size=(_N_ROWS, _N_FEATURES))]))[0]
    X = basis[:, 1:] * np.sqrt(_N_ROWS)
    score = X @ np.array([1.0, -2.0, 0.5])
    shifted = np.arange(2 * _N_ERASED)
    if is_classifier(estimator):
        y = score > 0
        y[shifted] = ~y[shifted]
        return X, y.astype(np.int64)
    score[shifted] += np.where(shifted < _N_ERASED, 6.0, -9.0)
    return X, score


def _least_squares(estimator: Any) -> Any:
    """Return the estimator with a linear model that trains to the optimum of a squared loss with weight decay."""
    settings: dict[str, Any] = {
        "max_epochs": 60,
        "batch_size": -1,
        "optimizer__weight_decay": _DECAY,
        "train_split": None,
        "verbose": 0,
    }
    # The curvature is 2 / k + weight decay, for k outputs: a rate that takes most of the way in one step.
    if is_classifier(estimator):
        net: NeuralNet = NeuralNetClassifier(_Affine, criterion=_SquaredLoss, lr=0.8, **settings)
    else:
        net = NeuralNetRegressor(_Affine, lr=0.4, **settings)
    est = clone(estimator).set_params(random_state=0)
    if not isinstance(est, BaseSharded):
        return est.set_params(estimator=net)
    # Of few rows the smallest curvature is smaller, and a stage of slices has two thirds of the epochs.
    net.set_params(max_epochs=90)
    single = UnlearnableClassifier(net) if is_classifier(est) else UnlearnableRegressor(net)
    return est.set_params(estimator=single, n_shards=2)


def _optimum(est: Any, X: NDArray[Any], y: NDArray[Any]) -> torch.Tensor:
    """Return the optimum over the given rows, or, of shards, over the rows of each."""
    if not isinstance(est, BaseSharded):
        return _ridge(est, X, y)
    stored = [each.training_set_ for each in est.estimators_ if each is not None]
    return torch.cat([_ridge(est, rows.X, rows.y.ravel()) for rows in stored])


def _ridge(est: Any, X: NDArray[Any], y: NDArray[Any]) -> torch.Tensor:
    """Return the optimum over the given rows, as a flat vector of weights and biases."""
    Y = np.eye(2)[y] if is_classifier(est) else y[:, None]
    A = np.column_stack([X, np.ones(len(X))])
    W = np.linalg.solve(A.T @ A + 0.5 * _DECAY * Y.size * np.eye(A.shape[1]), A.T @ Y)
    return torch.from_numpy(np.concatenate([W[:-1].T.ravel(), W[-1]]))
