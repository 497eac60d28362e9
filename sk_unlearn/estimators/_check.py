"""A look at a net before it is trained: what later requests will ask of it is asked of it on a few rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch.nn.parameter import is_lazy

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.rows.parts import for_net, has_parts, part_name
from sk_unlearn.training.ledger import check_one_item_a_row
from sk_unlearn.utils._random import untouched_generators
from sk_unlearn.utils._twins import pinned, twin

__all__ = ["UNSTEADY", "check_net", "check_steady", "make_lazy_parameters", "output_of"]

_N_ROWS = 4
UNSTEADY = (
    "Two evaluations of the same rows at the same parameters differ, so that a request may not find its way and losses "
    "in its report change by chance: the module or dataset has a generator, or a counter, of its own. Draw from the "
    "global generators of PyTorch, NumPy or Python, or augment in iterator_train__collate_fn, which only training sees."
)


@untouched_generators()
def output_of(net: NeuralNet, X: Any, y: NDArray[Any]) -> Any:
    """Return what the module gives for the first rows (the first of a tuple), in evaluation mode, without a trace.

    No random number is drawn for it, no buffer changes, and no module is switched to another mode.

    Raises
    ------
    ValueError
        If the net cannot be evaluated on these rows.
    """
    X, y = X[:2], y[:2]
    with _failures_told(X):
        risk = EmpiricalRisk(_stand_in(net, X), X, y)
        with risk.evaluator.at(risk.parameters(), needs_grad=False):
            output = risk.evaluator.infer(next(risk.evaluator.chunks()))
    return output[0] if isinstance(output, tuple) else output


@untouched_generators()
def check_net(
    net: NeuralNet,
    X: Any,
    y: NDArray[Any],
    weight: NDArray[np.float64] | None,
    *,
    classifier: bool,
    target_shape: tuple[int, ...],
) -> None:
    """Raise before training what would otherwise be raised after it, by a prediction or a request.

    The net is left as it is, random numbers included, so that it trains as it would have without this look.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.

    X, y, weight : ndarray or None
        The training rows as the net takes them.

    classifier : bool

    target_shape : tuple of int
        Of one row's target, as the user gave it.

    Raises
    ------
    ValueError
        If the loss and its gradient cannot be evaluated as requests do, or predictions do not fit the targets.

    TypeError
        If predictions are of a data type that NumPy lacks, or the net's dataset has not one item a row.
    """
    few = np.arange(len(X))[:_N_ROWS] if weight is None else np.flatnonzero(weight)[:_N_ROWS]
    X, y = X[few], y[few]
    # Weights that differ if the others do: whether the loss can be taken apart for them shows at once.
    weights = None if weight is None or (weight == weight[0]).all() else 1.0 + np.arange(len(few))
    check_one_item_a_row(net, net.get_dataset(for_net(X), y), len(X))
    with _failures_told(X):
        risk = EmpiricalRisk(_stand_in(net, X), X, y, weights)
        w = risk.parameters()
        with risk.evaluator.at(w, needs_grad=False):
            predicted = np.asarray(risk.net.predict_proba(for_net(X)))
        if classifier:
            _check_columns(predicted, int(y.max()) + 1)
        else:
            _check_size(predicted, target_shape)
        risk.gradient(w)
        if risk.evaluator.parameters.is_widened:  # which was not seen as it will train
            pinned(net).predict_proba(for_net(X))


def check_steady(risk: EmpiricalRisk) -> tuple[str, ...]:
    """Warn where a risk gives other numbers when it is asked again, and return the note on it for reports, if any."""
    w, few = risk.parameters(), risk.sample(_N_ROWS, np.random.default_rng(0))
    (value, gradient), (value_again, gradient_again) = (risk.value_and_gradient(w, few) for _ in range(2))
    # On a graphics card sums may come in another order each time: what rounding does is no matter.
    rounding = math.sqrt(torch.finfo(risk.dtype).eps)
    same_value = abs(value - value_again) <= rounding * abs(value)
    if same_value and (gradient - gradient_again).norm() <= rounding * gradient.norm():
        return ()
    warnings.warn(UNSTEADY, UserWarning, stacklevel=2)
    return (UNSTEADY,)


@contextmanager
def _failures_told(X: Any) -> Iterator[None]:
    """Say of what fails on some rows that the net fails on them, and what can be done about it."""
    try:
        yield
    except (ValueError, Warning, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        if "same dtype" in str(error) and "BFloat16" in str(error):
            raise ValueError(
                f"The module has its parameters in bfloat16 and is given {_told(X)}: let forward begin with "
                "x = x.bfloat16() and return output.float()."
            ) from error
        if "BFloat16" in str(error):
            raise TypeError(
                "predict of the net fails, for NumPy has no bfloat16: have forward return output.float()."
            ) from error
        raise ValueError(
            f"The net fails on {len(X)} of the training rows in X, {_told(X)} each, in "
            f"evaluation mode, with {type(error).__name__}: {str(error).rstrip('.')}. If it takes other rows, pass "
            "these. Requests to forget evaluate its loss and gradient so, and so does predict; mend its module or "
            "criterion."
        ) from error


def _told(X: Any) -> str:
    if not has_parts(X):
        return f"{X.dtype} of shape {X.shape[1:]}"
    kinds = {name: X.dtype[name] for name in X.dtype.names}
    return ", ".join(f"{part_name('X', name)} {kind.base} of shape {kind.shape}" for name, kind in kinds.items())


def _stand_in(net: NeuralNet, X: Any) -> NeuralNet:
    """Return a net for a short look at another: what is noted of it goes with it, being of a few rows alone."""
    tensors = (*net.module_.parameters(), *net.module_.buffers())
    if not any(is_lazy(tensor) for tensor in tensors):
        return pinned(net)
    # The first rows that a lazy module sees say how large it is. In the net itself training is to show it these.
    copied = twin(net, share_tensors=False)
    copied.predict_proba(for_net(X))
    return copied


def make_lazy_parameters(net: NeuralNet, X: Any) -> None:
    """Have the first rows tell the lazy layers of a net how large they are; a net without such stays as it is."""
    if any(is_lazy(tensor) for tensor in (*net.module_.parameters(), *net.module_.buffers())):
        net.predict_proba(for_net(X[:_N_ROWS]))


def _check_columns(proba: NDArray[Any], n_classes: int) -> None:
    if proba.ndim == 2 and proba.shape[1] < n_classes:
        raise ValueError(
            f"The net gives {proba.shape[1]} probabilities a row, and y has at least {n_classes} classes: "
            "give its last layer one output for each class."
        )


def _check_size(predicted: NDArray[Any], target_shape: tuple[int, ...]) -> None:
    if predicted.size == len(predicted) * math.prod(target_shape):
        return
    raise ValueError(
        f"The net predicts values of shape {predicted.shape[1:]} for each row, and y has targets of shape "
        f"{target_shape}. Where the loss needs more outputs than there are targets, such as quantiles or a variance, "
        "have forward return a tuple whose first entry is the prediction (the criterion is given the whole tuple), or "
        "set predict_nonlinearity of the net to a function that picks the prediction from the output."
    )
