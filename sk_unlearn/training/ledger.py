"""Train a skorch net while keeping a ledger of which rows entered a gradient, and with which weight."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, Checkpoint
from skorch.dataset import Dataset as SkorchDataset
from torch.utils.data import DataLoader, Dataset, default_collate

from sk_unlearn.risks.empirical import weighted_loss
from sk_unlearn.rows import RowRole
from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.utils._interrupts import noticed_interrupts

__all__ = ["RowLedger", "Trained", "check_trained", "record_rows", "train", "train_rows", "uses_validation_rows"]


class RowLedger:
    """What happened to each row during training.

    Attributes
    ----------
    role : ndarray of shape (n_rows,), dtype=int8
        A :class:`~sk_unlearn.rows.training_set.RowRole` a row.

    recorder : TrainingRecorder or None
        Is told the rows of each batch.

    recording : object
        What the recorder made of the training.
    """

    def __init__(self, n_rows: int, recorder: TrainingRecorder | None = None) -> None:
        self.role: NDArray[np.int8] = np.full(n_rows, RowRole.UNSEEN, dtype=np.int8)
        self.in_batch: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.recorder = recorder
        self.recording: Any = None

    def enter_gradient(self, rows: NDArray[np.int64]) -> None:
        """Note the rows of a training batch."""
        self.in_batch = rows
        self.role[rows] = RowRole.TRAINED
        if self.recorder is not None:
            self.recorder.rows = rows

    def enter_validation(self, rows: NDArray[np.int64]) -> None:
        """Note the rows of a validation batch."""
        if self.recorder is not None:
            self.recorder.rows = None
        self.role[rows] = np.where(self.role[rows] == RowRole.TRAINED, RowRole.TRAINED, RowRole.VALIDATED)


class _Fetched:
    """A batch, or one item of it, together with the rows it came from."""

    __slots__ = ("content", "rows")

    def __init__(self, content: Any, rows: Any) -> None:
        self.content = content
        self.rows = rows


class _NumberedDataset(Dataset[Any]):
    """A dataset whose items remember their number, under any split, sampler and number of workers."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        # skorch's own dataset over plain arrays is fetched a batch at a time: same content, no loop over rows.
        self.sliceable = type(inner) is SkorchDataset and all(isinstance(a, np.ndarray) for a in (inner.X, inner.y))

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, i: int) -> _Fetched:
        return _Fetched(self.inner[i], i)

    def __getitems__(self, rows: list[int]) -> list[_Fetched] | _Fetched:
        if not self.sliceable:
            return [self[i] for i in rows]
        return _Fetched(None, np.asarray(rows, dtype=np.int64))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


class _Collate:
    """The loader's own collate function under which the row numbers travel along."""

    def __init__(self, dataset: _NumberedDataset, collate: Callable[[list[Any]], Any] | None) -> None:
        self.dataset = dataset
        self.collate = collate

    def __call__(self, fetched: list[_Fetched] | _Fetched) -> _Fetched:
        if isinstance(fetched, _Fetched) and self.collate is None:
            rows, inner = fetched.rows, self.dataset.inner
            return _Fetched([torch.from_numpy(inner.X[rows]), torch.from_numpy(inner.y[rows])], rows)
        if isinstance(fetched, _Fetched):
            fetched = [self.dataset[int(i)] for i in fetched.rows]
        collate = default_collate if self.collate is None else self.collate
        return _Fetched(collate([item.content for item in fetched]), np.array([item.rows for item in fetched]))


class _NumberedLoader:
    """A data loader that tells the ledger which rows it is handing out, then hands out the plain batch."""

    def __init__(self, loader: DataLoader[Any], entered: Callable[[NDArray[np.int64]], None]) -> None:
        self.loader = loader
        self.entered = entered

    def __iter__(self) -> Iterator[Any]:
        for fetched in self.loader:
            self.entered(fetched.rows)
            yield fetched.content

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)


@contextmanager
def record_rows(
    net: NeuralNet, n_rows: int, sample_weight: NDArray[np.float64] | None, recorder: TrainingRecorder | None = None
) -> Iterator[RowLedger]:
    """Record in a ledger what the net does with its rows for the time of the context.

    Only the *instance* is instrumented (dataset, iterator and loss), so that a user's subclass keeps working, and
    nothing of it remains afterwards. Without weights the net computes exactly what it computes without the ledger.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised or not.

    n_rows : int
        Number of rows that the net will be given.

    sample_weight : ndarray of shape (n_rows,) or None
        Weights that the training loss of each batch honours.

    recorder : TrainingRecorder or None
        Is told the rows of each batch.

    Yields
    ------
    ledger : RowLedger
    """
    ledger = RowLedger(n_rows, recorder)
    get_dataset, get_iterator, get_loss = net.get_dataset, net.get_iterator, net.get_loss

    def numbered_dataset(X: Any, y: Any = None) -> Any:
        dataset = get_dataset(X, y)
        # A dataset that exists already, such as the held-out part that a callback scores, is not wrapped again.
        if dataset is X:
            return dataset
        if len(dataset) != n_rows:
            raise TypeError(
                f"dataset of the net must have one item a row: {net.dataset!r} has {len(dataset)} for {n_rows} rows."
            )
        return _NumberedDataset(dataset)

    def numbered_iterator(dataset: Any, training: bool = False) -> Any:
        base = dataset
        while isinstance(base, torch.utils.data.Subset):
            base = base.dataset
        if not isinstance(base, _NumberedDataset):
            return get_iterator(dataset, training=training)
        iterator = net.iterator_train if training else net.iterator_valid
        prefix = "iterator_train" if training else "iterator_valid"
        if not (isinstance(iterator, type) and issubclass(iterator, DataLoader)):
            raise TypeError(
                f"{prefix} of the net must be torch.utils.data.DataLoader or a subclass, so that the rows that enter "
                f"a gradient can be recorded; got {iterator!r}."
            )
        collate = net.get_params_for(prefix).get("collate_fn")
        net.__dict__[prefix + "__collate_fn"] = _Collate(base, collate)
        try:
            loader = get_iterator(dataset, training=training)
        finally:
            if collate is None:
                del net.__dict__[prefix + "__collate_fn"]
            else:
                net.__dict__[prefix + "__collate_fn"] = collate
        return _NumberedLoader(loader, ledger.enter_gradient if training else ledger.enter_validation)

    def loss_with_weights(y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> torch.Tensor:
        if not training:
            return get_loss(y_pred, y_true, X=X, training=training)
        assert sample_weight is not None
        weight = torch.from_numpy(sample_weight[ledger.in_batch])
        return weighted_loss(net, get_loss, y_pred, y_true, weight, X=X, training=training)

    instrumented: dict[str, Any] = {"get_dataset": numbered_dataset, "get_iterator": numbered_iterator}
    if sample_weight is not None:
        instrumented["get_loss"] = loss_with_weights
    net.__dict__.update(instrumented)
    try:
        yield ledger
    finally:
        for name in instrumented:
            del net.__dict__[name]


def _raised_by_callback(error: KeyboardInterrupt) -> bool:
    """Tell whether a skorch callback ended the training (EarlyStopping does it so) and not the user's Ctrl-C."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return isinstance(frame.f_locals.get("self"), Callback)


def train(
    net: NeuralNet,
    X: NDArray[Any],
    y: NDArray[Any],
    sample_weight: NDArray[np.float64] | None,
    *,
    epochs: int | None = None,
    interruptible: bool = True,
    recorder: TrainingRecorder | None = None,
    rng: np.random.Generator | None = None,
) -> RowLedger:
    """Train an initialised net on rows of positive weight and return the ledger.

    Parameters
    ----------
    epochs : int or None
        None for the net's own ``max_epochs``.

    interruptible : bool, default=True
        As in skorch, Ctrl-C ends the training and keeps what was learnt. False raises it instead, for a caller who
        must not take a half-trained net for a trained one.

    recorder : TrainingRecorder or None
        Watches, or takes part.

    rng : numpy.random.Generator or None
        Its source of randomness; needed with a recorder.
    """
    with record_rows(net, len(X), sample_weight, recorder) as ledger, _installed(net, recorder):
        if recorder is not None:
            assert rng is not None
            recorder.begin(net, len(X), float(len(X) if sample_weight is None else sample_weight.sum()), rng)
        net.notify("on_train_begin", X=X, y=y)
        with noticed_interrupts() as noticed:
            try:
                net.fit_loop(X, y, epochs=epochs)
            except KeyboardInterrupt as error:
                # A Ctrl-C may strike while a callback runs, and look like the callback's own.
                if not interruptible and (noticed or not _raised_by_callback(error)):
                    raise
        net.notify("on_train_end", X=X, y=y)
    if recorder is not None:
        recorder.rows = None
        recorder.trained = np.flatnonzero(ledger.role == RowRole.TRAINED)
        ledger.recording = recorder.recording(net)
    for _, callback in net.callbacks_:
        # No longer needed, and a deletion would not reach this copy of the parameters.
        if getattr(callback, "best_model_weights_", None) is not None:
            callback.best_model_weights_ = None
    return ledger


@contextmanager
def _installed(net: NeuralNet, recorder: TrainingRecorder | None) -> Iterator[None]:
    """Have the recorder among the callbacks, behind those that may change parameters."""
    if recorder is None:
        yield
        return
    entry = ("unlearning", recorder.initialize())
    net.callbacks_.append(entry)
    try:
        yield
    finally:
        net.callbacks_[:] = [each for each in net.callbacks_ if each is not entry]


class Trained(NamedTuple):
    """What came of a training.

    Attributes
    ----------
    net : skorch.NeuralNet
        The trained net.

    role : ndarray of shape (n_rows,), dtype=int8, or None
        What each row was used for (:class:`~sk_unlearn.rows.RowRole`); None where an earlier training counts too.

    recording : object
        What a recorder recorded; None without one.
    """

    net: NeuralNet
    role: NDArray[np.int8] | None
    recording: Any = None


def train_rows(
    net: NeuralNet, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[np.float64] | None, **options: Any
) -> Trained:
    """Train on the rows of positive weight and tell what became of all rows.

    Parameters
    ----------
    **options
        As :func:`train` takes them.

    Raises
    ------
    ValueError
        When training diverged.
    """
    seen = slice(None) if sample_weight is None else np.flatnonzero(sample_weight)
    role = np.full(len(X), RowRole.UNSEEN, dtype=np.int8)
    weight = None if sample_weight is None or (sample_weight[seen] == 1).all() else sample_weight[seen]
    ledger = train(net, X[seen], y[seen], weight, **options)
    role[seen] = ledger.role
    check_trained(net)
    return Trained(net, role, ledger.recording)


def check_trained(net: NeuralNet) -> None:
    """Raise a ValueError if training diverged."""
    if not all(bool(torch.isfinite(p).all()) for p in net.module_.parameters()):
        raise ValueError("Training diverged: parameters are not finite. Lower the learning rate or scale X and y.")


def uses_validation_rows(net: NeuralNet) -> bool:
    """Tell whether a callback chose parameters or a learning rate by looking at validation rows."""
    for _, callback in net.callbacks_:
        monitored = getattr(callback, "monitor", None)
        only_saves = isinstance(callback, Checkpoint) and not getattr(callback, "load_best", False)
        if not monitored or only_saves:
            continue
        # A callable monitor may look at anything: assume that it looks at validation rows.
        if callable(monitored) or "train" not in str(monitored):
            return True
    return False
