# Part of: python -m benchmarks.audit
"""Audits of models of which it is known whether they forgot: how many are judged rightly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_digits, load_wine, make_blobs
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.inspection import audit
from sk_unlearn.references import fit_many

PASSES = ("closer", "within")


class Case(NamedTuple):
    """Rows, which of them are erased, and an estimator that keeps no rows.

    A model that keeps the rows it should have forgotten fails by that alone, which would say nothing of the measures.
    """

    estimator: Any
    X: NDArray[Any]
    y: NDArray[Any]
    gone: NDArray[np.bool_]
    X_test: NDArray[Any]
    y_test: NDArray[Any]


def _split(X: NDArray[Any], y: NDArray[Any], estimator: Any, mark: Callable[[Any, Any], Any], seed: int = 0) -> Case:
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[: len(y) // 2], order[len(y) // 2 :]
    gone, labels = mark(X[train], y[train])
    return Case(estimator.set_params(keep_training_set=False), X[train], labels, gone, X[test], y[test])


def _near(X: NDArray[Any], among: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
    """Mark the rows nearest to the first among some."""
    reach = np.where(among, np.linalg.norm(X - X[among.argmax()], axis=1), np.inf)
    return np.isin(np.arange(len(X)), np.argsort(reach)[:n])


def digits_class() -> Case:
    return _split(*load_digits(return_X_y=True), UnlearnableClassifier(), lambda X, y: (y == 3, y))


def digits_tenth() -> Case:
    return _split(*load_digits(return_X_y=True), UnlearnableClassifier(), lambda X, y: (np.arange(len(y)) % 10 == 0, y))


def digits_group() -> Case:
    """Threes near each other that are called eights, and learnt by heart."""

    def mark(X: Any, y: Any) -> Any:
        gone = _near(X, y == 3, 40)
        return gone, np.where(gone, 8, y)

    return _split(*load_digits(return_X_y=True), UnlearnableClassifier(), mark)


def wine_group() -> Case:
    """Few rows: 89 to learn from, nine of them with another's label."""
    X, y = load_wine(return_X_y=True)

    def mark(X: Any, y: Any) -> Any:
        gone = _near(X, y == 1, 9)
        return gone, np.where(gone, 2, y)

    return _split(StandardScaler().fit_transform(X), y, UnlearnableClassifier(), mark)


def blobs_class() -> Case:
    """Return one of a small network: retrained models differ little, and now and then by much."""
    net = NeuralNetClassifier(
        lambda: nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3)), criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam, lr=0.02, max_epochs=30, batch_size=32, train_split=None, verbose=0,
    )  # fmt: skip
    X, y = make_blobs([120, 120, 120], n_features=4, cluster_std=1.5, random_state=0)
    return _split(X.astype(np.float32), y, UnlearnableClassifier(net), lambda X, y: (y == 2, y))


def diabetes_group() -> Case:
    """Regression: a group whose targets are three standard deviations too high."""
    X, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()

    def mark(X: Any, y: Any) -> Any:
        gone = _near(X, np.ones(len(y), dtype=bool), 22)
        return gone, y + 3 * gone

    return _split(StandardScaler().fit_transform(X), y, UnlearnableRegressor(), mark)


CASES = {
    "digits, a class": digits_class,
    "digits, a mislabelled group": digits_group,
    "digits, a tenth": digits_tenth,
    "wine, a mislabelled group": wine_group,
    "blobs, a class": blobs_class,
    "diabetes, a shifted group": diabetes_group,
}


def judged(name: str, n_audits: int, n_references: int) -> dict[str, Any]:
    """Audit retrained models, and models that forgot nothing, each beside retrained ones that are drawn for it."""
    case, rng = CASES[name](), np.random.default_rng(0)
    kept, erased = (case.X[~case.gone], case.y[~case.gone]), (case.X[case.gone], case.y[case.gone])
    n = n_audits + n_references
    retrained = fit_many(case.estimator, *kept, seeds=range(n))
    untouched = fit_many(case.estimator, case.X, case.y, seeds=range(n, n + n_audits))
    codes: dict[str, Counter[str]] = {"retrained": Counter(), "forgot nothing": Counter()}
    tried: Counter[str] = Counter()
    for k in range(n_audits):
        beside = rng.choice([j for j in range(n) if j != k], n_references, replace=False)
        for kind, model in (("retrained", retrained[k]), ("forgot nothing", untouched[k])):
            report = audit(
                model, *erased, case.X_test, case.y_test, before=untouched[k], X_retained=kept[0], y_retained=kept[1],
                references=[retrained[j] for j in beside], random_state=k,
            )  # fmt: skip
            codes[kind][report.verdict] += 1
        tried.update({name: getattr(report.calibration, name) for name in ("n_passed", "n_failed", "n_undecided")})
    return {"case": name, "audits": n_audits, "references": n_references, "left out": dict(tried)} | {
        kind: dict(found) for kind, found in codes.items()
    }


def told(found: dict[str, Any]) -> str:
    def counts(codes: dict[str, int]) -> tuple[int, int, int]:
        n_passed, n_undecided = sum(codes.get(code, 0) for code in PASSES), codes.get("undecided", 0)
        return n_passed, n_undecided, sum(codes.values()) - n_passed - n_undecided

    passed, undecided, failed = counts(found["retrained"])
    other_passed, other_undecided, other_failed = counts(found["forgot nothing"])
    left_out = found["left out"]
    return (
        f"{found['case']}: of {found['audits']} retrained models {passed} pass, {undecided} are not decided, {failed} "
        f"fail; of {found['audits']} that forgot nothing {other_failed} fail, {other_undecided} are not decided, "
        f"{other_passed} pass. By the audits' own count {left_out['n_passed']} of {sum(left_out.values())} retrained "
        "models pass, each judged by the others."
    )
