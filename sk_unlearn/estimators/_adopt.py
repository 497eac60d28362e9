"""From a net that was trained elsewhere, and the rows it was trained on, to a fitted estimator."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sk_unlearn import distributed
from sk_unlearn.estimators._batch_norm import not_renewed
from sk_unlearn.estimators._check import check_net, output_of
from sk_unlearn.estimators._inputs import cast_targets, cast_values, feature_dtype, warn_of_merged_rows
from sk_unlearn.estimators._nets import check_kind
from sk_unlearn.estimators._notes import perhaps_side_state
from sk_unlearn.estimators._receipts import kept_ids
from sk_unlearn.estimators.default_net import wrap_module
from sk_unlearn.estimators.fitting import blank_net, draw_seed, end_fit
from sk_unlearn.rows import RowRole, TrainingSet
from sk_unlearn.training.ledger import Trained, drop_best_weights
from sk_unlearn.training.side_state import SideState
from sk_unlearn.training.start import TrainingStart
from sk_unlearn.utils._random import seeded_torch
from sk_unlearn.utils._twins import pinned, training_copy, uncompiled

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = ["FromFittedMixin"]


class FromFittedMixin:
    """How an estimator comes to a net that it has not trained."""

    @classmethod
    def from_fitted(
        cls,
        net: NeuralNet | nn.Module,
        X: Any,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        sample_id: ArrayLike | None = None,
        trained: ArrayLike | None = None,
        initial_parameters: Any = None,
        **params: Any,
    ) -> BaseUnlearnable:
        """Make a fitted estimator of a net that was trained elsewhere, without training it.

        Afterwards :meth:`forget`, :meth:`correct`, :meth:`partial_fit` and the rest work as after :meth:`fit`. The
        estimator shares nothing with the net that was given.

        Parameters
        ----------
        net : skorch.NeuralNet or torch.nn.Module
            Trained. A skorch net brings its loss and weight decay along. A module, which must return logits or values,
            is wrapped as ``fit`` wraps it: with cross-entropy or squared loss, and a weight decay of 1e-4. If it was
            trained with another loss, put it into an initialised skorch net first.

        X : {array-like, sparse matrix} of shape (n_samples, n_features) or (n_samples, ...)
            All rows the net was trained on, as they are to be found again, and others if you like (see `trained`).

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Their targets. For a classifier, class numbers k from 0, output k standing for class k; or other labels, as
            many as the net has outputs, in the order of ``classes_`` of the net or else sorted.

        sample_weight, sample_id : array-like of shape (n_samples,), default=None
            As in :meth:`fit`.

        trained : array-like of bool of shape (n_samples,), default=None
            Which rows entered a gradient. None: all of positive weight. Forgetting another one moves no parameter.

        initial_parameters : mapping, torch.nn.Module or array-like of shape (n_parameters,), default=None
            Where training started: a ``state_dict``, a module, or the trainable parameters as one vector. Kept in
            ``unlearning_state_`` for unlearners that go back there. If `net` holds a module *instance*,
            a later ``fit`` or retraining starts from there. Only a ``state_dict`` or a module tells what training
            changed beside the trainable parameters (see Notes).

        **params : dict
            Parameters of the estimator, such as ``unlearner`` or ``random_state``. By default ``estimator`` becomes
            what ``fit`` needs to train the same architecture afresh: the skorch net without what it has learnt, or,
            where it holds a module instance, a copy of that with parameters reset (``reset_parameters`` of each part;
            frozen ones stay).

        Returns
        -------
        est : object
            A fitted estimator.

        Raises
        ------
        TypeError
            If `net` is neither, or of the wrong kind.

        ValueError
            For a net that is not initialised, has numbers that are not finite, or cannot be evaluated on `X` as
            requests do; for rows, labels, masks or initial parameters that do not belong to it; and where a fit of
            ``estimator`` would begin at the trained weights, train another architecture, or cannot begin anywhere
            because a part of a module instance has no ``reset_parameters``.

        Notes
        -----
        A buffer, such as a running maximum, may have been changed by training and carry rows that no request can take
        out of it; or it may be a constant. After :meth:`fit` it is known which are which, here it is not, unless
        `initial_parameters` tells. Otherwise every report names the buffers of floating point that are no BatchNorm
        statistics. Those of a module instance that ``reset_parameters`` does not set are copied as they are, so that
        retraining begins with them; give `initial_parameters` or a module class as ``estimator``.

        Examples
        --------
        >>> import torch
        >>> from sklearn.datasets import load_iris
        >>> from sk_unlearn import UnlearnableClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> module = torch.nn.Linear(4, 3)
        >>> optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
        >>> for _ in range(50):
        ...     optimizer.zero_grad()
        ...     outputs = module(torch.tensor(X, dtype=torch.float32))
        ...     torch.nn.functional.cross_entropy(outputs, torch.tensor(y)).backward()
        ...     _ = optimizer.step()
        >>> est = UnlearnableClassifier.from_fitted(module, X, y, random_state=0)
        >>> len(est.forget(X[:3]).training_set_)
        147
        """
        distributed.refuse("from_fitted")
        est: BaseUnlearnable = cls(**params)  # type: ignore[assignment]
        est._validate_params()
        return _adopt(est, net, X, y, sample_weight, sample_id, trained, initial_parameters)


def _adopt(
    estimator: BaseUnlearnable,
    net: NeuralNet | nn.Module,
    X: Any,
    y: Any,
    sample_weight: ArrayLike | None,
    sample_id: ArrayLike | None,
    trained: ArrayLike | None,
    initial_parameters: Any,
) -> BaseUnlearnable:
    """Make an estimator that is not fitted a fitted one; its ``estimator`` is filled in where it is None."""
    module = _trained_module(net, classifier=estimator._classifier)
    initial = None if initial_parameters is None else _initial(initial_parameters, module)
    X, y, weight = estimator._validate_training_rows(X, y, sample_weight, reset=True, net=net)
    role = _roles(trained, len(X), weight)
    seed = draw_seed(estimator)
    if estimator.estimator is None:
        with seeded_torch(seed):
            estimator.estimator = _untrained(net, initial)
    own = _copy_of(net, X, weight, estimator)
    X_net = cast_values(X, feature_dtype(own, X))
    warn_of_merged_rows(X, X_net)
    n_outputs = _n_outputs(own, X_net)
    labels = _labels(net, y, n_outputs) if estimator._classifier else None
    encoded = estimator._learn_targets(y, labels)
    if not estimator._classifier and n_outputs != encoded[:1].size:
        raise ValueError(
            f"y has {encoded[:1].size} targets a row and the net gives {n_outputs} values; pass its own y."
        )
    y_net = cast_targets(own, X_net, encoded, classifier=estimator._classifier)
    check_net(own, X_net, y_net, weight, classifier=estimator._classifier, target_shape=encoded.shape[1:])
    with seeded_torch(seed):
        _check_trains_afresh(blank_net(estimator, X, encoded, weight).initialize(), module)
    sample_id = kept_ids(estimator, sample_id, len(X_net))
    rows = TrainingSet(X_net, y_net, sample_weight=weight, sample_id=sample_id, role=role)
    adopted = _as_trained(own, role, start=initial if isinstance(initial_parameters, Mapping | nn.Module) else None)
    if initial is not None:
        adopted = adopted._replace(start=_start(initial))
    return end_fit(estimator, adopted, rows, seed)


def _trained_module(net: Any, *, classifier: bool) -> nn.Module:
    """Return the trained module, or say why there is none."""
    if isinstance(net, NeuralNet):
        check_kind(net, "net", classifier=classifier)
        if not getattr(net, "initialized_", False):
            raise ValueError("net is not initialised, so that nothing can have been trained; pass it to fit instead.")
        module: nn.Module = uncompiled(net.module_)
    elif isinstance(net, nn.Module):
        module = uncompiled(net)
    else:
        raise TypeError(f"net must be a trained skorch NeuralNet or torch.nn.Module; got {type(net).__name__}.")
    if not any(p.requires_grad for p in module.parameters()):
        raise ValueError("net has no trainable parameter; set requires_grad of those that were trained.")
    if any(p.is_inference() for p in module.parameters()):
        raise ValueError(
            "net has parameters that were made in torch.inference_mode(), of which no gradient can be taken; load its "
            "state_dict into a net made outside."
        )
    if not all(bool(torch.isfinite(p).all()) for p in module.parameters()):
        raise ValueError("net has parameters that are not finite, so that nothing can be forgotten; train it anew.")
    return module


def _roles(trained: ArrayLike | None, n_rows: int, weight: NDArray[np.float64] | None) -> NDArray[np.int8]:
    """Return the role of each row; one of weight zero had no part in training."""
    mask = np.ones(n_rows, dtype=bool) if trained is None else np.asarray(trained)
    if mask.dtype != bool or mask.shape != (n_rows,):
        raise ValueError(
            f"trained must be a boolean mask of shape ({n_rows},), one entry a row of X; got {mask.dtype} values of "
            f"shape {mask.shape}."
        )
    if weight is not None:
        mask = mask & (weight > 0)
    if not mask.any():
        raise ValueError(
            "trained leaves no row of positive weight that the net was trained on; mark those, or leave it out."
        )
    return np.where(mask, RowRole.TRAINED, RowRole.UNSEEN).astype(np.int8)


# --------------------------------------------------------------------------------------------------- the net itself


def _copy_of(
    net: NeuralNet | nn.Module, X: NDArray[Any], weight: NDArray[np.float64] | None, estimator: BaseUnlearnable
) -> NeuralNet:
    """Return an initialised net that shares nothing with the user's."""
    device = estimator.device
    if not isinstance(net, NeuralNet):
        module = copy.deepcopy(uncompiled(net))
        own = wrap_module(module, X, weight, classifier=estimator._classifier)
        present = next((p.device for p in module.parameters()), torch.device("cpu"))
        return own.set_params(
            device=str(present if device is None else device), verbose=int(estimator.verbose or 0)
        ).initialize()
    own = training_copy(net)
    drop_best_weights(own)
    settings = vars(clone(net))
    own.__dict__.update({k: v for k, v in settings.items() if k == "_kwargs" or not (k[0] == "_" or k[-1] == "_")})
    if device is not None:
        _move(own, str(device))
    return own


def _move(net: NeuralNet, device: str) -> None:
    net.__dict__["device"] = device
    for name in (*net._modules, *net._criteria):
        if isinstance(getattr(net, name + "_"), nn.Module):
            getattr(net, name + "_").to(device)
    for name in net._optimizers:  # loading puts what they have accumulated beside the parameters
        optimiser = getattr(net, name + "_")
        optimiser.load_state_dict(optimiser.state_dict())


def _as_trained(net: NeuralNet, role: NDArray[np.int8], *, start: nn.Module | None) -> Trained:
    """Return what came of the training, with what it changed beside parameters, or might have, as far as that is known.

    Parameters
    ----------
    net : skorch.NeuralNet
        The estimator's own.

    role : ndarray of shape (n_rows,)

    start : torch.nn.Module or None
        The module before training, buffers included.
    """
    if start is not None:
        before = pinned(net)
        vars(before)["module_"] = start
        return Trained(net, role, side_state=SideState(before).changed(net))
    buffers = [name for name, buffer in uncompiled(net.module_).named_buffers() if buffer.is_floating_point()]
    return Trained(net, role, note=perhaps_side_state(not_renewed(net, buffers)))


def _n_outputs(net: NeuralNet, X: NDArray[Any]) -> int:
    """Return how many values the net gives a row, or the length of the second axis where a row has a table of them."""
    output = output_of(net, X, np.zeros(len(X), dtype=np.int64))
    return 1 if output.ndim == 1 else int(output.shape[1])


def _labels(net: NeuralNet | nn.Module, y: NDArray[Any], n_outputs: int) -> NDArray[Any]:
    """Return the label that each output of a classifier stands for."""
    n_classes = 2 if isinstance(net, NeuralNetBinaryClassifier) else n_outputs
    labels = np.unique(y)
    if labels.dtype.kind in "iu" and labels[0] >= 0 and labels[-1] < n_classes:
        return np.arange(n_classes, dtype=labels.dtype)  # as torch's losses take them: label k is output k
    known = np.asarray(getattr(net, "classes_", labels))
    if not np.isin(labels, known).all():
        known = labels
    if not np.array_equal(known, np.unique(known)):
        raise ValueError(
            "classes of the net must be sorted, for output k stands for the k-th label; pass y as numbers."
        )
    if n_classes == 1:
        raise ValueError("net gives one value a row; put it into an initialised NeuralNetBinaryClassifier first.")
    if len(known) != n_classes:
        raise ValueError(
            f"y has {len(known)} labels and the net separates {n_classes} classes: nobody can tell which output "
            f"stands for which label. Pass y as class numbers from 0 to {n_classes - 1}, or set classes of the net."
        )
    return known


# ------------------------------------------------------------------------------------ where a fit of it would begin


def _untrained(net: NeuralNet | nn.Module, initial: nn.Module | None) -> NeuralNet | nn.Module:
    """Return the net as it can be fitted afresh: as a class, or as a module that does not know the rows."""
    if isinstance(net, nn.Module):
        return _reset(uncompiled(net)) if initial is None else initial
    fresh: NeuralNet = clone(net)
    for name, value in fresh.get_params(deep=False).items():
        if isinstance(value, nn.Module) and any(True for _ in value.parameters()):
            start = initial if name == "module" and initial is not None else _reset(value)
            vars(fresh)[name] = start  # skorch lets nobody set a module before it is initialised
    return fresh


def _reset(module: nn.Module) -> nn.Module:
    """Return a copy of a module with initial parameters drawn anew; frozen ones stay, as they do in training."""
    fresh = copy.deepcopy(module)
    stuck = set()
    for part in fresh.modules():
        reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
        if not any(p.requires_grad for p in part.parameters(recurse=False)):
            continue
        if reset is None:
            stuck.add(type(part).__name__)
        else:
            reset()
    if stuck:
        raise ValueError(
            f"The net holds a module instance, and {sorted(stuck)} in it have parameters but no reset_parameters, so "
            "that no untrained net can be made of it, which retraining needs. Pass initial_parameters (where its "
            "training started), or estimator (a module class, or a net or module that is not trained)."
        )
    return fresh


def _initial(given: Any, module: nn.Module) -> nn.Module:
    """Return a copy of the module as it was before training."""
    start = copy.deepcopy(module)
    if isinstance(given, nn.Module):
        given = uncompiled(given).state_dict()
    if isinstance(given, Mapping):
        try:
            start.load_state_dict(given)
        except RuntimeError as error:
            raise ValueError(f"initial_parameters must be those of the net's module: {error}") from error
    else:
        flat, wanted = torch.as_tensor(given), _flat(start)
        if flat.shape != wanted.shape:
            raise ValueError(
                f"initial_parameters must be a state_dict, a module or a vector of shape ({len(wanted)},), the net's "
                f"trainable parameters in their order; got shape {tuple(flat.shape)}."
            )
        vector_to_parameters(flat.detach().to(wanted), [p for p in start.parameters() if p.requires_grad])
    if not bool(torch.isfinite(_flat(start)).all()):
        raise ValueError("initial_parameters must be finite.")
    return start


def _flat(module: nn.Module) -> Tensor:
    return parameters_to_vector(p for p in module.parameters() if p.requires_grad).detach()


def _start(module: nn.Module) -> TrainingStart:
    """Return that training began at these parameters, with steps that nobody knows."""
    sizes = tuple(p.numel() for p in module.parameters() if p.requires_grad)
    return TrainingStart(_flat(module).cpu().clone(), sizes)


def _check_trains_afresh(blank: NeuralNet, trained: nn.Module) -> None:
    """Check that a fit of the estimator would train the same architecture and not begin at the trained weights."""
    fresh = uncompiled(blank.module_)
    if any(isinstance(p, UninitializedParameter) for p in fresh.parameters()):
        return  # shapes come with the first rows
    shapes = [[(name, tuple(p.shape)) for name, p in module.named_parameters()] for module in (fresh, trained)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "estimator builds another architecture than that of net: names or shapes of the parameters differ. Pass "
            "one that builds the same, or leave it out."
        )
    pairs = [(p, q) for p, q in zip(fresh.parameters(), trained.parameters(), strict=True) if q.requires_grad]
    if all(torch.equal(p.detach().cpu(), q.detach().cpu().to(p.dtype)) for p, q in pairs):
        raise ValueError(
            "A fit would begin at the trained weights, so that retraining would forget nothing. Pass as estimator a "
            "module class, or a net or module that is not trained; initial_parameters must be those before training."
        )
