"""The built-in network: its module, what it takes from the rows it is fitted on, and the defaults of training."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from torch import nn

from sk_unlearn.estimators._decay import ridge_decay, some_rows
from sk_unlearn.estimators._standardise import coarse_standardisation
from sk_unlearn.rows import SparseRows
from sk_unlearn.rows.storage import RowStorage, dense

__all__ = [
    "CUT",
    "MLP",
    "MLPNetClassifier",
    "MLPNetRegressor",
    "built_in_spec",
    "default_net",
    "wrap_module",
]


# So many deviations from the mean count at most. A category that one row in a thousand has stands just as far from its
# mean: 0 and 1 stay apart.
CUT = 32.0


class MLP(nn.Module):
    """A small multi-layer perceptron that standardises what goes in and, for regression, what comes out.

    Parameters
    ----------
    n_features_in : int
        Number of input features.

    n_outputs : int
        Number of outputs: one logit a class, or one value a target.

    width : int, default=64
        Units of the first hidden layer.

    depth : int, default=2
        Number of hidden layers, each half as wide as the one before it.

    input_shift, input_scale : sequence of float of length n_features_in, default=None
        The network sees ``(x - input_shift) / input_scale``, cut off at 32, so that no row drowns the others.

    output_shift, output_scale : sequence of float of length n_outputs, default=None
        The network returns ``output_shift + output_scale * z``.

    dtype : torch.dtype, default=torch.float32
        Data type of parameters and inputs.

    Raises
    ------
    ValueError
        For a width below 1, a negative depth, and numbers that are not whole.
    """

    def __init__(
        self,
        n_features_in: int,
        n_outputs: int,
        *,
        width: int = 64,
        depth: int = 2,
        input_shift: Sequence[float] | None = None,
        input_scale: Sequence[float] | None = None,
        output_shift: Sequence[float] | None = None,
        output_scale: Sequence[float] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        for setting, value, least in (("width", width, 1), ("depth", depth, 0)):
            if not isinstance(value, Integral) or value < least:
                raise ValueError(f"module__{setting} must be a whole number of at least {least}, got {value!r}.")

        def constant(name: str, values: Sequence[float] | None) -> None:
            self.register_buffer(name, None if values is None else torch.tensor(values, dtype=dtype))

        constant("input_shift", input_shift)
        constant("input_scale", input_scale)
        constant("output_shift", output_shift)
        constant("output_scale", output_scale)
        widths = [n_features_in, *(max(1, width >> k) for k in range(depth))]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            # A smooth unit: where a unit has kinks, second derivatives at a point do not tell of them.
            layers += [nn.Linear(n_in, n_out, dtype=dtype), nn.SiLU()]
        self.body: nn.Sequential = nn.Sequential(*layers, nn.Linear(widths[-1], n_outputs, dtype=dtype))

    input_shift: torch.Tensor | None
    input_scale: torch.Tensor
    output_shift: torch.Tensor | None
    output_scale: torch.Tensor

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Map rows (n, n_features_in) to outputs (n, n_outputs)."""
        if self.input_shift is not None:
            X = ((X - self.input_shift) / self.input_scale).clamp(-CUT, CUT)
        z = self.body(X)
        if self.output_shift is not None:
            z = self.output_shift + self.output_scale * z
        return z


# Numbers of sparse rows that are dense at a time.
_DENSE = 2**20
# Settings that may be "auto".
_FROM_ROWS = ("batch_size", "max_epochs", "weight_decay")
_CONSTANTS = ("module__input_shift", "module__input_scale", "module__output_shift", "module__output_scale")


class _FromRows(NeuralNet):
    """A net some of whose settings are filled in when the rows are known that it is to be trained on."""

    _skorch_class: ClassVar[type[NeuralNet]]

    @property
    def has_own_constants(self) -> bool:
        """Whether the user has set how in- and outputs are scaled."""
        return any(name in vars(self) for name in _CONSTANTS)

    @property
    def has_own_decay(self) -> bool:
        """Whether the user has set the weight decay in the units of the loss."""
        return "optimizer__weight_decay" in vars(self)

    def for_rows(self, X: Any, y: NDArray[Any], sample_weight: NDArray[np.float64] | None) -> NeuralNet:
        """Return another net, not initialised, in which all is filled in but the numbers of in- and outputs.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features) or SparseRows
            Training rows. The network takes their float32; every other data type becomes float64.

        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Class numbers, or values.

        sample_weight : ndarray of shape (n_samples,) or None
            Constants and the number of epochs count a weight as so many rows.

        Returns
        -------
        net : skorch.NeuralNet
            Of skorch's own class, so that whatever knows skorch knows it; a subclass of a user's stays what it is.
        """
        settings: dict[str, Any] = {"module__dtype": torch.float32 if X.dtype == np.float32 else torch.float64}
        if not self.has_own_constants:
            settings |= self._constants(X, y, sample_weight)
        settings |= clone(self).get_params(deep=False)
        n_rows = _n_rows(X, sample_weight)
        defaults = _training_defaults(n_rows, most_epochs=100, largest_batch=128)
        settings |= {name: value for name, value in defaults.items() if settings[name] == "auto"}
        if settings["weight_decay"] == "auto":
            some = some_rows(X)
            ridge = ridge_decay(
                _standardised_blocks(X[some], settings),
                self._for_ridge(y[some], settings),
                None if sample_weight is None else sample_weight[some],
                n_rows,
                X.shape[1],
            )
            settings["weight_decay"] = _coarse(self._decay_beside(ridge))
        if "weight_decay" in inspect.signature(self.optimizer).parameters:
            settings.setdefault("optimizer__weight_decay", settings["weight_decay"] * self._unit_of_loss(settings))
        if settings["callbacks"] != "disable":
            settings["callbacks"] = [_schedule(settings["max_epochs"]), *(settings["callbacks"] or [])]
        if type(self) not in (MLPNetClassifier, MLPNetRegressor):
            return type(self)(**settings)
        del settings["weight_decay"]
        return self._skorch_class(**settings)

    def initialize(self) -> NeuralNet:
        """Initialise the net as skorch does, where nothing is left to be filled in.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If a setting is ``"auto"``.
        """
        missing = [name for name in _FROM_ROWS if vars(self)[name] == "auto"]
        if missing:
            wrapper = "UnlearnableClassifier" if isinstance(self, NeuralNetClassifier) else "UnlearnableRegressor"
            raise ValueError(
                f'{", ".join(missing)} of {type(self).__name__} are "auto" and depend on the rows to train on; fit '
                f"{wrapper}({type(self).__name__}()), whose net_ is then the trained net."
            )
        return super().initialize()

    def _constants(self, X: Any, y: NDArray[Any], sample_weight: NDArray[np.float64] | None) -> dict[str, list[float]]:
        shift, scale = coarse_standardisation(X, sample_weight)
        return {"module__input_shift": shift, "module__input_scale": scale}

    def _for_ridge(self, y: NDArray[Any], settings: dict[str, Any]) -> NDArray[np.float64]:
        classes, code = np.unique(y, return_inverse=True)
        return np.eye(len(classes))[code.ravel()]

    def _decay_beside(self, ridge: float) -> float:
        """Return the decay that suits the network where it is known which one suits ridge regression."""
        # Factor and exponent are those of `benchmarks.built_in`. Far above the bound layers die out.
        return min(ridge / 8, 2.0**-5)

    def _unit_of_loss(self, settings: dict[str, Any]) -> float:
        return 1.0


class MLPNetClassifier(_FromRows, NeuralNetClassifier):
    """The built-in network for classification of tables: what ``estimator=None`` stands for, with its settings.

    A multi-layer perceptron that standardises its inputs. Settings that depend on the rows are filled in when
    :class:`UnlearnableClassifier` is fitted: the number of features and classes, the data type, shift and scale of the
    inputs, and what says ``"auto"``. They are so coarse that a net trained on a few rows less nearly always gets the
    same. The fitted ``net_`` is a :class:`skorch.NeuralNetClassifier` with all of them.

    Parameters
    ----------
    module : subclass of torch.nn.Module, default=MLP
        The perceptron; a class given in its place must take the same arguments.

    criterion : class, default=torch.nn.CrossEntropyLoss
        Loss.

    optimizer : class, default=torch.optim.Adam
        Optimiser.

    lr : float, default=1e-2
        Learning rate at the beginning; it falls to zero along a cosine, so that training ends near a stationary point.

    max_epochs : int or "auto", default="auto"
        Passes over the rows; fewer where there are more rows.

    batch_size : int or "auto", default="auto"
        Rows a step; more where there are more rows.

    weight_decay : float or "auto", default="auto"
        Weight of half the squared norm of the parameters in the objective. By default it grows with the noise that a
        linear model leaves, and falls with the number of rows. ``optimizer__weight_decay``, if given,
        counts in its place.

    module__width : int, default=64
        Units of the first hidden layer.

    module__depth : int, default=2
        Number of hidden layers, each half as wide as the one before it.

    iterator_train__shuffle : bool, default=True
        Whether each pass takes the rows in another order.

    train_split : callable, default=None
        What holds rows out of training; see skorch.

    verbose : int, default=0
        1 prints a line an epoch.

    **kwargs : dict
        All else that :class:`skorch.NeuralNetClassifier` takes. Of ``callbacks``, those given come after the schedule
        of the learning rate; ``"disable"`` takes that away too.

    See Also
    --------
    MLPNetRegressor : The same for regression.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sk_unlearn import MLPNetClassifier, UnlearnableClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(MLPNetClassifier(max_epochs=20), random_state=0)
    >>> search = GridSearchCV(est, {"estimator__module__width": [4, 32], "estimator__lr": [0.01]}, cv=2).fit(X, y)
    >>> search.best_estimator_.net_.lr
    0.01
    """

    _skorch_class = NeuralNetClassifier

    def __init__(
        self,
        module: Any = MLP,
        *,
        criterion: Any = nn.CrossEntropyLoss,
        optimizer: Any = torch.optim.Adam,
        lr: float = 1e-2,
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        weight_decay: float | str = "auto",
        module__width: int = 64,
        module__depth: int = 2,
        iterator_train__shuffle: bool = True,
        train_split: Any = None,
        verbose: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            module, criterion=criterion, optimizer=optimizer, lr=lr, max_epochs=max_epochs, batch_size=batch_size,
            module__width=module__width, module__depth=module__depth, iterator_train__shuffle=iterator_train__shuffle,
            train_split=train_split, verbose=verbose, **kwargs
        )  # fmt: skip
        self.weight_decay = weight_decay


class MLPNetRegressor(_FromRows, NeuralNetRegressor):
    """The built-in network for regression on tables: what ``estimator=None`` stands for, with its settings.

    A multi-layer perceptron that standardises its inputs and its outputs. Settings that depend on the rows are filled
    in when :class:`UnlearnableRegressor` is fitted: the number of features and targets, the data type, shift and scale
    of in- and outputs, and what says ``"auto"``. They are so coarse that a net trained on a few rows less nearly always
    gets the same. The fitted ``net_`` is a :class:`skorch.NeuralNetRegressor` with all of them.

    Parameters
    ----------
    module : subclass of torch.nn.Module, default=MLP
        The perceptron; a class given in its place must take the same arguments.

    criterion : class, default=torch.nn.MSELoss
        Loss.

    optimizer : class, default=torch.optim.Adam
        Optimiser.

    lr : float, default=1e-2
        Learning rate at the beginning; it falls to zero along a cosine, so that training ends near a stationary point.

    max_epochs : int or "auto", default="auto"
        Passes over the rows; fewer where there are more rows.

    batch_size : int or "auto", default="auto"
        Rows a step; more where there are more rows.

    weight_decay : float or "auto", default="auto"
        Weight of half the squared norm of the parameters in the objective, in units of the squared scale of the
        targets, so that it means the same for metres and millimetres. By default it grows with the noise that a linear
        model leaves, and falls with the number of rows. ``optimizer__weight_decay``, if given, counts in
        its place, as it is.

    module__width : int, default=64
        Units of the first hidden layer.

    module__depth : int, default=2
        Number of hidden layers, each half as wide as the one before it.

    iterator_train__shuffle : bool, default=True
        Whether each pass takes the rows in another order.

    train_split : callable, default=None
        What holds rows out of training; see skorch.

    verbose : int, default=0
        1 prints a line an epoch.

    **kwargs : dict
        All else that :class:`skorch.NeuralNetRegressor` takes. Of ``callbacks``, those given come after the schedule
        of the learning rate; ``"disable"`` takes that away too.

    See Also
    --------
    MLPNetClassifier : The same for classification.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sk_unlearn import MLPNetRegressor, UnlearnableRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> est = UnlearnableRegressor(MLPNetRegressor(module__width=16, max_epochs=20), random_state=0).fit(X, y)
    >>> est = est.forget(X[:3])
    >>> est.net_.module_.body[0].out_features
    16
    """

    _skorch_class = NeuralNetRegressor

    def __init__(
        self,
        module: Any = MLP,
        *,
        criterion: Any = nn.MSELoss,
        optimizer: Any = torch.optim.Adam,
        lr: float = 1e-2,
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        weight_decay: float | str = "auto",
        module__width: int = 64,
        module__depth: int = 2,
        iterator_train__shuffle: bool = True,
        train_split: Any = None,
        verbose: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            module, criterion=criterion, optimizer=optimizer, lr=lr, max_epochs=max_epochs, batch_size=batch_size,
            module__width=module__width, module__depth=module__depth, iterator_train__shuffle=iterator_train__shuffle,
            train_split=train_split, verbose=verbose, **kwargs
        )  # fmt: skip
        self.weight_decay = weight_decay

    def _constants(self, X: Any, y: NDArray[Any], sample_weight: NDArray[np.float64] | None) -> dict[str, list[float]]:
        shift, scale = coarse_standardisation(y.reshape(len(y), -1), sample_weight)
        outputs = {"module__output_shift": shift, "module__output_scale": scale}
        return super()._constants(X, y, sample_weight) | outputs

    def _for_ridge(self, y: NDArray[Any], settings: dict[str, Any]) -> NDArray[np.float64]:
        return _standardised(y.reshape(len(y), -1), "output", settings)

    def _decay_beside(self, ridge: float) -> float:
        return min(5 * ridge**1.5, 2.0**-3)

    def _unit_of_loss(self, settings: dict[str, Any]) -> float:
        # The squared loss is in squared units of the target, and the penalty goes along.
        return float(np.mean(np.square(settings.get("module__output_scale") or 1.0)))


def _standardised(A: NDArray[Any], of: str, settings: dict[str, Any]) -> NDArray[np.float64]:
    """Return columns as the network sees them."""
    Z = A.astype(np.float64)
    if settings.get(f"module__{of}_shift") is None:
        return Z
    Z = (Z - settings[f"module__{of}_shift"]) / settings[f"module__{of}_scale"]
    return np.clip(Z, -CUT, CUT)


def _standardised_blocks(X: Any, settings: dict[str, Any]) -> Iterator[NDArray[np.float64]]:
    """Give the inputs as the network sees them: an array as a whole, other storages some columns at a time."""
    width = max(1, _DENSE // max(1, len(X))) if isinstance(X, RowStorage) else X.shape[1]
    columns = X.csr.tocsc() if isinstance(X, SparseRows) else dense(X)
    for start in range(0, X.shape[1], width):
        part = slice(start, start + width)
        constants: dict[str, Any] = {
            name: settings[name] and settings[name][part]
            for name in ("module__input_shift", "module__input_scale")
            if name in settings
        }
        block = columns[:, part]
        yield _standardised(block.toarray() if isinstance(X, SparseRows) else block, "input", constants)


def _coarse(decay: float) -> float:
    """Round to a power of two: it says almost nothing about one row, and is nearly always that of a few rows less."""
    return float(np.exp2(np.round(np.log2(max(decay, 2.0**-20)))))


def _training_defaults(n_rows: float, *, most_epochs: int, largest_batch: int) -> dict[str, Any]:
    """Epochs fall and batches grow with the number of rows, so that small and large sets both train well."""
    return {
        "max_epochs": int(np.clip(round(200 * np.sqrt(500 / max(n_rows, 1.0))), 10, most_epochs)),
        "batch_size": int(np.clip(2 ** np.round(np.log2(max(n_rows, 1.0) / 20)), 64, largest_batch)),
    }


def _n_rows(X: Any, sample_weight: NDArray[np.float64] | None) -> float:
    return len(X) if sample_weight is None else max(len(X), float(sample_weight.sum()))


def _schedule(max_epochs: int) -> tuple[str, LRScheduler]:
    # The rate falls to zero, so that the fit ends near a stationary point: a deletion is best undone from there.
    return "schedule", LRScheduler(policy=torch.optim.lr_scheduler.CosineAnnealingLR, T_max=max_epochs)


def built_in_spec(estimator: Any, *, classifier: bool) -> MLPNetClassifier | MLPNetRegressor | None:
    """Return the settings of the built-in network where an estimator is it; None where it is another."""
    if estimator is None:
        return MLPNetClassifier() if classifier else MLPNetRegressor()
    return estimator if isinstance(estimator, MLPNetClassifier | MLPNetRegressor) else None


def default_net(X: Any, y: NDArray[Any], sample_weight: NDArray[np.float64] | None, *, classifier: bool) -> NeuralNet:
    """Build the skorch net used for ``estimator=None``, as :meth:`MLPNetClassifier.for_rows` does."""
    return (MLPNetClassifier() if classifier else MLPNetRegressor()).for_rows(X, y, sample_weight)


def wrap_module(
    module: type[nn.Module] | nn.Module,
    X: Any,
    sample_weight: NDArray[np.float64] | None,
    *,
    classifier: bool,
) -> NeuralNet:
    """Wrap a bare module in a skorch net with gentle defaults: nothing is known of how it takes its inputs."""
    kind, criterion = (NeuralNetClassifier, nn.CrossEntropyLoss) if classifier else (NeuralNetRegressor, nn.MSELoss)
    settings = _training_defaults(_n_rows(X, sample_weight), most_epochs=200, largest_batch=512)
    return kind(
        module,
        criterion=criterion,
        optimizer=torch.optim.Adam,
        optimizer__weight_decay=1e-4,
        lr=3e-3,
        train_split=None,
        iterator_train__shuffle=True,
        callbacks=[_schedule(settings["max_epochs"])],
        verbose=0,
        **settings,
    )
