"""Trained nets that joblib keeps, found by all that training depends on and by nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet

from sk_unlearn.estimators._check import check_net
from sk_unlearn.estimators._inputs import cast_targets, cast_values, feature_dtype
from sk_unlearn.training.ledger import Trained, train_rows
from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.utils._cache import cached
from sk_unlearn.utils._random import seeded_torch

__all__ = ["TrainingTask", "cached_training", "recorder_rng"]


@dataclass(frozen=True)
class TrainingTask:
    """One training, entirely.

    Attributes
    ----------
    net : skorch.NeuralNet
        Not initialised; with the shapes of the data, and with verbose=0, which has no part in training.

    X, y, weight : ndarray
        Validated rows, encoded targets, and weights or None.

    seed : int
        Of initial weights, batches and the recorder.

    classifier : bool
        The kind of target.

    recorder : TrainingRecorder or None
        Watches the training or takes part in it. The unlearner has no other influence on training.

    content : str
        A hash of the rows that stay in a file, of which the cache would else see the path alone.
    """

    net: NeuralNet
    X: Any
    y: NDArray[Any]
    weight: NDArray[np.float64] | None
    seed: int
    classifier: bool
    recorder: TrainingRecorder | None
    content: str = ""


def cached_training(memory: Any, task: TrainingTask, *, verbose: int) -> Trained:
    """Carry the task out, or load what came of it before; the net belongs to the caller alone.

    Parameters
    ----------
    memory : str or joblib.Memory
        Where to look and to keep.

    task : TrainingTask

    verbose : int
        That of the net that is returned.
    """
    trained = cached(memory, partial(_carry_out, verbose), task)
    trained.net.verbose = verbose
    # With memory-mapped files joblib returns arrays that cannot be written to.
    return trained._replace(role=np.array(trained.role))


def recorder_rng(seed: int) -> np.random.Generator:
    """Return the generator of a recorder; those of requests count from 1."""
    return np.random.default_rng([seed, 0])


def _carry_out(verbose: int, task: TrainingTask) -> Trained:
    net = task.net
    net.verbose = verbose
    with seeded_torch(task.seed):
        net.initialize()
        X = cast_values(task.X, feature_dtype(net, task.X))
        y = cast_targets(net, X, task.y, classifier=task.classifier)
        check_net(net, X, y, task.weight, classifier=task.classifier, target_shape=task.y.shape[1:])
        return train_rows(net, X, y, task.weight, recorder=task.recorder, rng=recorder_rng(task.seed))
