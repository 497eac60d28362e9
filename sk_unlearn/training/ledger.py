"""Train a skorch net while keeping a ledger of which rows entered a gradient, and with which weight."""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, Checkpoint, LRScheduler
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import get_len
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from sk_unlearn.privacy import Assumption, Certificate
from sk_unlearn.risks.empirical import weighted_loss
from sk_unlearn.rows import RowRole
from sk_unlearn.rows.parts import for_net, tensors_for_net
from sk_unlearn.rows.storage import RowStorage
from sk_unlearn.training._parameter_log import ParameterLog
from sk_unlearn.training._shown import epochs_shown
from sk_unlearn.training.finite import buffers_not_finite, check_trained
from sk_unlearn.training.pace import Pace, Paced, PacedTraining, paced
from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.training.shared import Sharing, shared_steps
from sk_unlearn.training.side_state import SideState
from sk_unlearn.training.start import TrainingStart, recorded_steps
from sk_unlearn.utils._interrupts import noticed_interrupts

__all__ = [
    "RowLedger",
    "Trained",
    "check_one_item_a_row",
    "decides_by_measure",
    "drop_best_weights",
    "monitors_validation",
    "record_rows",
    "train",
    "train_rows",
    "uses_validation_rows",
]

OWN_LOOP = "The net's own training loop did not go through get_iterator; all rows are counted as trained."
OWN_POLISH = (
    "Parameters also changed outside the batches that get_iterator gave out, as in a final polish or by averaging; all "
    "rows are counted as trained."
)
_WEIGHTS_UNUSED = (
    "sample_weight cannot be honoured: the net trains on batches that did not come from get_iterator, so that the "
    "weights of their rows are not known. Take the batches from get_iterator, or give no weights."
)
_TARGETS_UNUSED = (
    "Predictions cannot be put in place of targets: the net trains on batches that did not come from get_iterator, so "
    "that their rows are not known. Take the batches from get_iterator."
)


_ONE_ROW = (
    "A training batch has one row, and BatchNorm needs more than 1 value per channel: the rows to train on, in batches "
    "of {size}, leave one over. Set iterator_train__drop_last=True or another batch_size of the net. Where rows have "
    "gone, any training anew on the others meets this, shortened or not, even if fit did not."
)


class RowLedger:
    """What happened to each row during training.

    Attributes
    ----------
    role : ndarray of shape (n_rows,), dtype=int8
        A :class:`~sk_unlearn.rows.training_set.RowRole` a row.

    in_batch : ndarray of int64 or None
        The rows of the training batch that is out at present; None while there is none.

    recorder : TrainingRecorder or None
        Is told the rows of each batch.

    parameters : ParameterLog
        Knows whether parameters changed at another time than while a recorded batch was out.

    recording : object
        What the recorder made of the training.

    note : str
        What reports should say of the training; empty where it went by the book.

    start : TrainingStart or None
        Where training started and the steps that it took; None where the net's optimisers were not seen to step.

    paced : PacedTraining or None
        Goes through the schedule of another training, and ends where that ends; None where it has its own.

    sharing : Sharing or None
        How several processes share batches; None where this one computes with whole batches.

    is_shared : bool
        Whether the batch that is out holds only this process's part of its rows.
    """

    def __init__(self, net: NeuralNet, n_rows: int, recorder: TrainingRecorder | None = None) -> None:
        self.role: NDArray[np.int8] = np.full(n_rows, RowRole.UNSEEN, dtype=np.int8)
        self.in_batch: NDArray[np.int64] | None = None
        self.recorder = recorder
        self.parameters: ParameterLog = ParameterLog(net)
        self.recording: Any = None
        self.note: str = ""
        self.start: TrainingStart | None = None
        self.paced: PacedTraining | None = None
        self.sharing: Sharing | None = None
        self.is_shared = False

    @property
    def given_out(self) -> NDArray[np.int64] | None:
        """The rows whose content the present batch holds: all of them, or this process's part."""
        if self.sharing is None or not self.is_shared or self.in_batch is None:
            return self.in_batch
        return self.sharing.part(self.in_batch)

    def hand_out(self, rows: NDArray[np.int64] | None) -> None:
        """Note which rows are in the training batch that is out now; None for a validation batch or none."""
        self.in_batch = rows
        if rows is not None:
            self.role[rows] = RowRole.TRAINED
        if self.recorder is not None:
            self.recorder.rows = rows

    def look_at(self, rows: NDArray[np.int64]) -> None:
        """Note the rows of a batch that no gradient is taken of."""
        self.role[rows] = np.where(self.role[rows] == RowRole.TRAINED, RowRole.TRAINED, RowRole.VALIDATED)

    def count_all_where_unrecorded(self) -> None:
        """Count all rows as trained where parameters changed without a recorded batch: any row may have done it.

        Raises
        ------
        ValueError
            When no row entered a gradient, or a recorder missed a part of the training.
        """
        recorded = self.role == RowRole.TRAINED
        if not recorded.any() and not self.parameters.changed_elsewhere:
            raise ValueError(
                "No row entered a gradient, so that there is nothing to forget later: max_epochs is 0, or the loader "
                "gave out no batch. For a net that was trained elsewhere use from_fitted."
            )
        if not self.parameters.changed_elsewhere or recorded.all():
            return
        if self.recorder is not None:
            raise ValueError(
                "The unlearner records the training, and a part of it did not go through get_iterator; use an "
                "unlearner that records nothing, or take the batches from get_iterator."
            )
        self.role[:] = RowRole.TRAINED
        self.note = OWN_POLISH if recorded.any() else OWN_LOOP


class _Fetched:
    """A batch, or one item of it, together with the rows it came from."""

    __slots__ = ("content", "rows")

    def __init__(self, content: Any, rows: Any) -> None:
        self.content = content
        self.rows = rows


class _NumberedDataset(Dataset[Any]):
    """A dataset as the loader sees it: its items remember their row, under any sampler and number of workers."""

    def __init__(self, inner: Any, base: Any, rows: NDArray[np.int64]) -> None:
        self.inner = inner
        self.rows = rows
        # skorch's own dataset over plain arrays is fetched a batch at a time: same content, no loop over rows.
        plain = type(base) is SkorchDataset and all(map(_is_plain, (base.X, base.y)))
        self.arrays = (base.X, base.y) if plain and (inner is base or type(inner) is Subset) else None

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, i: int) -> _Fetched:
        return _Fetched(self.inner[i], self.rows[i])

    def __getitems__(self, items: list[int]) -> list[_Fetched] | _Fetched:
        if self.arrays is None:
            return [self[i] for i in items]
        return _Fetched(None, np.asarray(items, dtype=np.int64))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


class _Collate:
    """The loader's own collate function under which the row numbers travel along."""

    def __init__(
        self,
        dataset: _NumberedDataset,
        collate: Callable[[list[Any]], Any] | None,
        sharing: Sharing | None = None,
    ) -> None:
        self.dataset = dataset
        self.collate = collate
        self.sharing = sharing if collate is None and dataset.arrays is not None else None

    def __call__(self, fetched: list[_Fetched] | _Fetched) -> _Fetched:
        if isinstance(fetched, _Fetched):
            items = fetched.rows
            if self.collate is None and self.dataset.arrays is not None:
                rows = self.dataset.rows[items]
                if self.sharing is not None:
                    return _Fetched(self.sharing.content(self.sharing.part(rows)), rows)
                return _Fetched([tensors_for_net(array, rows) for array in self.dataset.arrays], rows)
            fetched = [self.dataset[int(i)] for i in items]
        collate = default_collate if self.collate is None else self.collate
        return _Fetched(collate([item.content for item in fetched]), np.array([item.rows for item in fetched]))


class _NumberedLoader:
    """A data loader that tells the ledger which rows it is handing out, then hands out the plain batch."""

    def __init__(self, loader: DataLoader[Any], ledger: RowLedger, *, training: bool, sharing: Sharing | None) -> None:
        self.loader = loader
        self.ledger = ledger
        self.training = training
        self.sharing = sharing

    def __iter__(self) -> Iterator[Any]:
        ledger = self.ledger
        before = ledger.in_batch  # a callback may iterate over rows while a training batch is out
        paced = ledger.paced if self.training else None
        if self.training:
            ledger.parameters.begin_pass()
            ledger.is_shared = self.sharing is not None
        if self.sharing is not None:
            self.sharing.begin_pass()
        if paced is not None:
            paced.begin(len(self.loader))
        try:
            for fetched in self._batches():
                if not self.training:
                    ledger.look_at(fetched.rows)
                ledger.hand_out(fetched.rows if self.training else None)
                if paced is not None:
                    paced.next_batch()
                yield fetched.content
                if paced is not None and paced.is_over:
                    return
        finally:
            ledger.hand_out(before)
            if self.training:
                ledger.parameters.end_pass()

    def _batches(self) -> Iterator[_Fetched]:
        """Give the loader's batches; raise where a subclass makes them itself, past its dataset's items."""
        first = True
        try:
            for fetched in self.loader:
                if not isinstance(fetched, _Fetched):
                    raise TypeError(f"a batch is a {type(fetched).__name__}")
                first = False
                yield fetched
        except (AttributeError, TypeError) as error:
            if not first or type(self.loader).__iter__ is DataLoader.__iter__:
                raise
            raise TypeError(
                f"{type(self.loader).__name__} has an __iter__ of its own, which leaves out collate_fn: the rows that "
                "enter a gradient cannot be recorded. Use torch.utils.data.DataLoader for iterator_train and "
                "iterator_valid, or a subclass that takes its batches from super().__iter__()."
            ) from error

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)


def check_one_item_a_row(net: NeuralNet, dataset: Any, n_rows: int) -> None:
    """Raise a TypeError where the net's dataset makes fewer or more items of so many rows."""
    if len(dataset) != n_rows:
        raise TypeError(
            f"dataset of the net must have one item a row: {net.dataset!r} has {len(dataset)} for {n_rows} rows."
        )


@contextmanager
def record_rows(
    net: NeuralNet,
    X: Any,
    sample_weight: NDArray[np.float64] | None,
    recorder: TrainingRecorder | None = None,
    targets: torch.Tensor | None = None,
) -> Iterator[RowLedger]:
    """Record in a ledger what the net does with its rows for the time of the context.

    Only the *instance* is instrumented (dataset, iterator and loss), so that a user's subclass keeps working, and
    nothing of it remains afterwards. Without weights the net computes exactly what it computes without the ledger.
    Only datasets built from this very array are recorded: what a callback predicts, scores or iterates over beside it
    is none of the ledger's business.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.

    X : ndarray of shape (n_rows, ...), or what `sk_unlearn.rows.for_net` makes of others
        The rows that the net will be given; the same object.

    sample_weight : ndarray of shape (n_rows,) or None
        Weights that the training loss of each batch honours.

    recorder : TrainingRecorder or None
        Is told the rows of each batch.

    targets : Tensor of shape (n_rows, ...) or None
        What the training loss of each batch takes for the targets of its rows.

    Yields
    ------
    ledger : RowLedger
    """
    n_rows = get_len(X)
    ledger = RowLedger(net, n_rows, recorder)
    get_dataset, get_iterator, get_loss = net.get_dataset, net.get_iterator, net.get_loss
    own: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def noted_dataset(X_given: Any, y: Any = None) -> Any:
        dataset = get_dataset(X_given, y)
        if X_given is not X:
            return dataset
        check_one_item_a_row(net, dataset, n_rows)
        own[id(dataset)] = dataset
        return dataset

    def numbered_iterator(dataset: Any, training: bool = False) -> Any:
        base = _base(dataset)
        if own.get(id(base)) is not base:
            return get_iterator(dataset, training=training)
        iterator = net.iterator_train if training else net.iterator_valid
        prefix = "iterator_train" if training else "iterator_valid"
        if not (isinstance(iterator, type) and issubclass(iterator, DataLoader)):
            raise TypeError(
                f"{prefix} of the net must be torch.utils.data.DataLoader or a subclass, so that the rows that enter "
                f"a gradient can be recorded; got {iterator!r}."
            )
        numbered = _NumberedDataset(dataset, base, _rows_of(dataset))
        given = net.get_params_for(prefix).get("collate_fn")
        collate = _Collate(numbered, given, ledger.sharing if training else None)
        net.__dict__[prefix + "__collate_fn"] = collate
        try:
            loader = get_iterator(numbered, training=training)
        finally:
            if given is None:
                del net.__dict__[prefix + "__collate_fn"]
            else:
                net.__dict__[prefix + "__collate_fn"] = given
        if getattr(loader, "collate_fn", None) is not collate:  # the net builds loaders of its own
            return get_iterator(dataset, training=training)
        return _NumberedLoader(loader, ledger, training=training, sharing=collate.sharing)

    def loss_of_recorded_rows(y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> torch.Tensor:
        if not training:
            return get_loss(y_pred, y_true, X=X, training=training)
        if ledger.in_batch is None:
            raise ValueError(_WEIGHTS_UNUSED if targets is None else _TARGETS_UNUSED)
        rows = ledger.given_out
        if targets is not None:
            y_true = targets[torch.from_numpy(rows)]
        if sample_weight is None:
            return get_loss(y_pred, y_true, X=X, training=training)
        weight = torch.from_numpy(sample_weight[rows])
        return weighted_loss(net, get_loss, y_pred, y_true, weight, X=X, training=training)

    instrumented: dict[str, Any] = {"get_dataset": noted_dataset, "get_iterator": numbered_iterator}
    if sample_weight is not None or targets is not None:
        instrumented["get_loss"] = loss_of_recorded_rows
    net.__dict__.update(instrumented)
    try:
        yield ledger
    finally:
        for name in instrumented:
            del net.__dict__[name]


def _is_plain(rows: Any) -> bool:
    """Tell whether rows are arrays, or parts that are."""
    if isinstance(rows, dict | list):
        return all(map(_is_plain, rows.values() if isinstance(rows, dict) else rows))
    return isinstance(rows, np.ndarray | RowStorage)


def _base(dataset: Any) -> Any:
    """Return what a dataset is a subset, or a subset of a subset, of."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _rows_of(dataset: Any) -> NDArray[np.int64]:
    """Return which item of its base each item of a dataset is."""
    if not isinstance(dataset, Subset):
        return np.arange(len(dataset))
    return _rows_of(dataset.dataset)[np.asarray(dataset.indices, dtype=np.int64)]


def _raised_by_callback(error: KeyboardInterrupt) -> bool:
    """Tell whether a skorch callback ended the training (EarlyStopping does it so) and not the user's Ctrl-C."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return isinstance(frame.f_locals.get("self"), Callback)


def train(
    net: NeuralNet,
    X: Any,
    y: NDArray[Any],
    sample_weight: NDArray[np.float64] | None,
    *,
    epochs: int | None = None,
    pace: Pace | None = None,
    targets: torch.Tensor | None = None,
    recorder: TrainingRecorder | None = None,
    rng: np.random.Generator | None = None,
    known_start: torch.Tensor | None = None,
) -> RowLedger:
    """Train an initialised net on rows of positive weight and return the ledger.

    Ctrl-C is raised, other than in skorch, which takes the half-trained net for a trained one.

    Parameters
    ----------
    epochs : int or None
        None for the net's own ``max_epochs``.

    pace : Pace or None
        A schedule to go through in fewer and longer steps, in place of `epochs`.

    targets : Tensor of shape (n_rows, ...) or None
        What the training loss takes in place of y, such as the predictions of another net.

    recorder : TrainingRecorder or None
        Watches, or takes part.

    rng : numpy.random.Generator or None
        Its source of randomness; needed with a recorder.

    known_start : Tensor of shape (d,) or None
        Parameters at which another training started, of which no second copy is made where this one starts there.

    Raises
    ------
    ValueError
        When training diverged, when BatchNorm met a batch of one row, when no row entered a gradient, or when the net's
        own training loop leaves weights or a recorder out of account.
    """
    infinite_before = buffers_not_finite(net.module_)
    X = for_net(X)
    with (
        record_rows(net, X, sample_weight, recorder, targets) as ledger,
        shared_steps(net, X, y, sample_weight, targets, ledger) as ledger.sharing,
        paced(net, pace) as ledger.paced,
        _installed(net, recorder),
    ):
        if pace is not None:
            epochs = pace.n_epochs(net)
        if recorder is not None:
            assert rng is not None
            recorder.begin(net, len(y), float(len(y) if sample_weight is None else sample_weight.sum()), rng)
        net.notify("on_train_begin", X=X, y=y)
        planned = net.max_epochs if epochs is None else epochs
        with (
            noticed_interrupts() as noticed,
            recorded_steps(net, planned, known_start) as steps,
            epochs_shown(net, planned),
        ):
            try:
                net.fit_loop(X, y, epochs=epochs)
            except KeyboardInterrupt as error:
                # A Ctrl-C may strike while a callback runs, and look like the callback's own.
                if noticed or not _raised_by_callback(error):
                    raise
                ledger.parameters.interrupt()
                steps.interrupted = True
            except ValueError as error:
                if not str(error).startswith("Expected more than 1 value per channel"):
                    raise
                size = net.get_params_for("iterator_train").get("batch_size", net.batch_size)
                raise ValueError(_ONE_ROW.format(size=size)) from error
        ledger.start = steps.start
        net.notify("on_train_end", X=X, y=y)
        ledger.parameters.compare()
    check_trained(net.module_, infinite_before, ledger.paced.told.n_steps if ledger.paced else 0)
    ledger.count_all_where_unrecorded()
    if (sample_weight is not None or targets is not None) and ledger.note == OWN_LOOP:
        raise ValueError(_WEIGHTS_UNUSED if targets is None else _TARGETS_UNUSED)
    if recorder is not None:
        recorder.rows = None
        recorder.trained = np.flatnonzero(ledger.role == RowRole.TRAINED)
        ledger.recording = recorder.recording(net)
    drop_best_weights(net)
    _drop_gradients(net)
    return ledger


def drop_best_weights(net: NeuralNet) -> None:
    """Take from the callbacks the best parameters that they keep: a deletion would not reach this copy."""
    for _, callback in net.callbacks_:
        if getattr(callback, "best_model_weights_", None) is not None:
            callback.best_model_weights_ = None


def _drop_gradients(net: NeuralNet) -> None:
    """Take away the gradients of the last batch: nobody needs them, they are as large as the net, and know its rows."""
    for _, parameter in net.get_all_learnable_params():
        parameter.grad = None


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

    note : str
        What reports should say of the training; empty where it went by the book.

    side_state : tuple of str
        Names of the buffers and frozen parameters that training changed.

    start : TrainingStart or None
        Where training started and the steps that it took; None where that is not known.

    paced : Paced or None
        How the training went through the schedule of another; None where it had its own.

    certificate : Certificate or None
        What is guaranteed of the trained net.

    basis : tuple of Assumption
        What it takes for nothing but its rows, the settings, the seed and the parameters that it was given to have
        entered the net; empty where that is not looked at.

    slices : tuple
        States in between, for a training in slices to go back to; empty for others.
    """

    net: NeuralNet
    role: NDArray[np.int8] | None
    recording: Any = None
    note: str = ""
    side_state: tuple[str, ...] = ()
    start: TrainingStart | None = None
    paced: Paced | None = None
    certificate: Certificate | None = None
    basis: tuple[Assumption, ...] = ()
    slices: tuple[Any, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """The note, if there is one."""
        return (self.note,) if self.note else ()


def train_rows(
    net: NeuralNet,
    X: Any,
    y: NDArray[Any],
    sample_weight: NDArray[np.float64] | None,
    *,
    targets: torch.Tensor | None = None,
    **options: Any,
) -> Trained:
    """Train on the rows of positive weight and tell what became of all rows.

    Parameters
    ----------
    targets : Tensor of shape (n_rows, ...) or None
        In place of y, one for each row given, as :func:`train` takes them for the rows of positive weight.

    **options
        As :func:`train` takes them.

    Raises
    ------
    ValueError
        As :func:`train`.
    """
    seen = slice(None) if sample_weight is None else np.flatnonzero(sample_weight)
    role = np.full(len(X), RowRole.UNSEEN, dtype=np.int8)
    weight = None if sample_weight is None or (sample_weight[seen] == 1).all() else sample_weight[seen]
    before = SideState(net)
    if targets is not None and sample_weight is not None:
        targets = targets[torch.from_numpy(seen)]
    ledger = train(net, X[seen], y[seen], weight, targets=targets, **options)
    role[seen] = ledger.role
    told = None if ledger.paced is None else ledger.paced.told
    return Trained(net, role, ledger.recording, ledger.note, before.changed(net), ledger.start, told)


def uses_validation_rows(net: NeuralNet) -> bool:
    """Tell whether a callback chose parameters or a learning rate by looking at validation rows."""
    return any(monitors_validation(each) and decides_by_measure(each) for _, each in net.callbacks_)


def monitors_validation(callback: Callback) -> bool:
    """Tell whether a callback looks at a measure of validation rows."""
    monitored = _monitored(callback)
    # A callable monitor may look at anything: assume that it looks at validation rows.
    return bool(monitored) and (callable(monitored) or "train" not in str(monitored))


def decides_by_measure(callback: Callback) -> bool:
    """Tell whether a callback chooses parameters or a learning rate, or ends the training, by what it measures."""
    only_saves = isinstance(callback, Checkpoint) and not getattr(callback, "load_best", False)
    return bool(_monitored(callback)) and not only_saves


def _monitored(callback: Callback) -> Any:
    # A schedule has a monitor, and only one policy looks at it.
    if isinstance(callback, LRScheduler) and callback._get_policy_cls() is not ReduceLROnPlateau:
        return None
    return getattr(callback, "monitor", None)
