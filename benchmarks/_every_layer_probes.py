# Part of: python -m benchmarks.every_layer
"""What a model that forgot still knows elsewhere than in its predictions: embedding rows, features, relearning."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import nn

from benchmarks._tasks import Task
from sk_unlearn.metrics import relearn_time

LABELS = 20  # of each class, on which the probe of features is trained
ROWS, STEPS = 200, 200  # of relearning, at most


def users(task: Task, erased: NDArray[np.int64], model: Any, retrained: Any, fitted: Any) -> dict[str, float]:
    """Measure what an embedding knows of the users erased.

    ``row`` is the largest relative distance of a user's row from the one of the model retrained from the same seed;
    ``row_left`` the same over the distance of the fitted row, which is defined for rows that decay took to zero, too.
    ``known`` is the correlation over erased rows between p(1 | user), the mean over all items, and the label.
    """
    them = np.unique(task.X[erased, 0])
    rows, goal, start = (m.net_.module_.body.users.weight.detach()[them] for m in (model, retrained, fitted))
    items = np.unique(task.X[:, 1])
    pairs = np.stack([np.repeat(them, len(items)), np.tile(items, len(them))], 1)
    of_user = model.predict_proba(pairs)[:, 1].reshape(len(them), -1).mean(1)
    p = of_user[np.searchsorted(them, task.X[erased, 0])]
    away = (rows - goal).norm(dim=1)
    tiny = torch.finfo(away.dtype).tiny
    return {
        "row": float((away / goal.norm(dim=1).clamp_min(tiny)).max()),
        "row_left": float((away / (start - goal).norm(dim=1).clamp_min(tiny)).max()),
        "known": float(np.corrcoef(p, task.y[erased])[0, 1]) if p.std() > 0 else 0.0,
    }


def _class(task: Task, erased: NDArray[np.int64]) -> Any:
    """Return the class of which all rows are erased, or None."""
    labels = np.unique(task.y[erased])
    gone = len(labels) == 1 and np.count_nonzero(task.y == labels[0]) == len(erased)
    return labels[0] if gone else None


def _head(model: Any) -> nn.Linear:
    return [m for m in model.net_.module_.modules() if isinstance(m, nn.Linear)][-1]


def penultimate(model: Any, X: NDArray[Any]) -> NDArray[Any]:
    """Return what goes into the last linear layer, of shape (n, width)."""
    seen: list[torch.Tensor] = []
    hook = _head(model).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    try:
        model.predict(X)
    finally:
        hook.remove()
    return torch.cat(seen).cpu().numpy()


def features(task: Task, erased: NDArray[np.int64], model: Any, retrained: Any, fitted: Any) -> dict[str, float]:
    """Measure how often a logistic probe on the penultimate features finds the erased class: its recall on test rows.

    The probe is trained on `LABELS` test rows of each class and scored on the others, five times.
    """
    label = _class(task, erased)
    if label is None:
        return {}
    F, y, found = penultimate(model, task.X_test), task.y_test, []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        of = {c: rng.permutation(np.flatnonzero(y == c)) for c in np.unique(y)}
        seen = np.concatenate([rows[: min(LABELS, len(rows) // 2)] for rows in of.values()])
        unseen = np.setdiff1d(of[label], seen)
        centre, scale = F[seen].mean(0), F[seen].std(0) + 1e-3
        probe = LogisticRegression(max_iter=500, C=0.1).fit((F[seen] - centre) / scale, y[seen])
        found.append(np.mean(probe.predict((F[unseen] - centre) / scale) == label))
    return {"probe": float(np.mean(found))}


def relearning(task: Task, erased: NDArray[np.int64], model: Any, retrained: Any, fitted: Any) -> dict[str, float]:
    """Count the steps that bring an erased class back to nine tenths of the accuracy before, its output row fresh.

    The row is fresh, the same for every model, since what is asked is what the layers below know.
    """
    label = _class(task, erased)
    if label is None:
        return {}
    some = erased[:ROWS]
    X, y = task.X[some], task.y[some]
    copied = copy.deepcopy(model)
    head, at = _head(copied), int(np.searchsorted(copied.classes_, label))
    with torch.no_grad():
        fresh = torch.randn(head.in_features, generator=torch.Generator().manual_seed(0)) / head.in_features**0.5
        head.weight[at] = 0.1 * fresh.to(head.weight)
        head.bias[at] = 0.0
    target = 0.9 * float(np.mean(fitted.predict(X) == y))
    return {"relearning": float(relearn_time(copied, X, y, target=target, max_steps=STEPS).steps)}


PROBES: dict[str, Callable[..., dict[str, float]]] = {
    "users": users,
    "features": features,
    "relearning": relearning,
}
