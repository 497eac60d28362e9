"""Training in slices: each stage adds a slice of the rows, and a request goes back to the last state without its rows.

The scheme is that of Bourtoule et al., "Machine unlearning", IEEE Symposium on Security and Privacy 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import LRScheduler

from sk_unlearn.estimators._request import Content
from sk_unlearn.rows import SetDigest, SparseRows, TrainingSet
from sk_unlearn.rows.digests import digest_ids, digest_rows
from sk_unlearn.training.ledger import Trained, train_rows
from sk_unlearn.utils._numpy_state import NumpyStateMixin
from sk_unlearn.utils._random import seeded_torch
from sk_unlearn.utils._twins import uncompiled

__all__ = ["SavedSlices", "Slicing", "slices_left", "trained_in_slices"]


@dataclass(frozen=True)
class Slicing:
    """How the rows of an estimator are sliced.

    Attributes
    ----------
    seed : int
        Together with the row, or with whose it is, it decides which slice a row is in; no other row has a say in it.

    n_slices : int

    by_id : bool
        Whether all rows of an identifier are in one slice, so that a request by identifier goes back once.
    """

    seed: int
    n_slices: int
    by_id: bool

    def slice_of(self, X: Any, ids: Any) -> NDArray[np.int64]:
        """Return the number of the slice of each row, as it is stored."""
        key = b"slice" + self.seed.to_bytes(8, "little")
        rows = X.csr if isinstance(X, SparseRows) else X
        by_id = self.by_id and ids is not None
        digests = digest_ids(key, ids.tolist()) if by_id else digest_rows(key, rows)
        numbers: NDArray[np.int64] = (digests.view(np.uint64)[:, 0] % np.uint64(self.n_slices)).astype(np.int64)
        return numbers


class _State(NumpyStateMixin):
    """Parameters and buffers of all modules of a net, by name."""

    def __init__(self, net: NeuralNet) -> None:
        for part in (*net._modules, *net._criteria):
            for name, value in uncompiled(getattr(net, part + "_")).state_dict().items():
                self.__dict__[f"{part}:{name}"] = value.detach().cpu().clone()

    def load(self, net: NeuralNet) -> None:
        for part in (*net._modules, *net._criteria):
            own = {
                name.removeprefix(f"{part}:"): value
                for name, value in vars(self).items()
                if name.startswith(f"{part}:")
            }
            uncompiled(getattr(net, part + "_")).load_state_dict(own)


@dataclass(frozen=True)
class SavedSlices:
    """The state after a stage of training, which holds nothing of the rows of later slices.

    Attributes
    ----------
    number : int
        Of the last slice that it has learnt.

    rows : SetDigest
        Of the rows that it has learnt: another set of rows makes it void.

    state : object
        Parameters and buffers.
    """

    number: int
    rows: SetDigest
    state: Any


def trained_in_slices(
    slicing: Slicing,
    content: Content,
    ids: NDArray[Any] | None,
    saved: Sequence[SavedSlices],
    *,
    key: bytes,
    seed: int,
    blank: Callable[[Content], NeuralNet],
) -> Trained:
    """Train a net one slice after the other, going on from the last saved state that has learnt the same rows.

    Stage r trains on the slices up to r, from the parameters after the stage before, for so many epochs that all stages
    together take as many steps as a training on all rows at once. The optimiser and its schedule begin anew in each.

    Parameters
    ----------
    slicing : Slicing

    content : Content
        All rows, as the net takes them.

    ids : ndarray or None
        Their identifiers as they are stored.

    saved : sequence of SavedSlices
        Of a training before.

    key : bytes
        Of digests.

    seed : int
        From which the seeds of the stages follow.

    blank : callable
        Builds the net for some rows, not initialised. It is given those of the first slice: what the built-in network
        takes of its rows must not come from later ones.

    Returns
    -------
    trained : Trained
        With the states after all stages but the last.
    """
    numbers = slicing.slice_of(content.X, ids)
    counts = np.ones(len(numbers), dtype=bool) if content.weight is None else content.weight > 0
    stages = np.unique(numbers[counts]).tolist()
    digests, total = [], SetDigest(0, 0)
    before = -1
    for stage in stages:
        at = np.flatnonzero((before < numbers) & (numbers <= stage))
        own = _part(content, at)
        total = total.plus(SetDigest.of_content(key, *own, None if ids is None else ids[at]))
        digests.append(total)
        before = stage
    known = {(each.number, each.rows): each for each in saved}
    usable = [n for n, stage in enumerate(stages[:-1]) if (stage, digests[n]) in known]
    first = usable[-1] + 1 if usable else 0
    states = [known[stages[n], digests[n]] for n in usable]
    base = _part(content, np.flatnonzero(numbers <= stages[0]))
    trained = None
    for n in range(first, len(stages)):
        is_last = n == len(stages) - 1
        rows = content if is_last else _part(content, np.flatnonzero(numbers <= stages[n]))
        with seeded_torch(int(np.random.SeedSequence([seed, stages[n]]).generate_state(1)[0])):
            net = blank(base).initialize()
            if trained is not None:
                _State(trained.net).load(net)
            elif states:
                states[-1].state.load(net)
            with _shortened(net, slicing.n_slices) as epochs:
                trained = train_rows(net, rows.X, rows.y, rows.weight, epochs=epochs)
        if not is_last:
            states.append(SavedSlices(stages[n], digests[n], _State(net)))
    assert trained is not None
    # Where the last stage began, and its steps, are not those of a training.
    return trained._replace(start=None, slices=tuple(states))


def slices_left(
    slicing: Slicing | None, saved: tuple[SavedSlices, ...], rows: TrainingSet | None, positions: NDArray[np.int64]
) -> tuple[SavedSlices, ...]:
    """Return the saved states that have learnt none of the rows in some slots."""
    if slicing is None or rows is None or not saved or not len(positions):
        return saved
    ids = None if rows.raw_id is None else rows.raw_id[positions]
    first = int(slicing.slice_of(rows.raw_X[positions], ids).min())
    return tuple(each for each in saved if each.number < first)


def _part(content: Content, at: NDArray[np.int64]) -> Content:
    return Content(content.X[at], content.y[at], None if content.weight is None else content.weight[at])


@contextmanager
def _shortened(net: NeuralNet, n_slices: int) -> Iterator[int]:
    """Give a net, and a schedule as long as its training, the epochs of one stage of several."""
    whole = net.max_epochs
    epochs = max(1, round(2 * whole / (n_slices + 1)))
    schedules = [
        each.kwargs for _, each in net.callbacks_ if isinstance(each, LRScheduler) and each.kwargs.get("T_max") == whole
    ]
    net.max_epochs = epochs
    for each in schedules:
        each["T_max"] = epochs
    try:
        yield epochs
    finally:
        net.max_epochs = whole
        for each in schedules:
            each["T_max"] = whole
