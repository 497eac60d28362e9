"""Train several nets of one architecture at once, their parameters stacked along a first axis.

Each net sees the batches that it would have seen alone, in the same order, and takes the same optimiser steps: what
comes out is what training it alone gives, up to rounding (and up to the noise of dropout, which is drawn anew).
"""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import EpochScoring, EpochTimer, LRScheduler, PassthroughScoring, PrintLog
from skorch.dataset import Dataset as SkorchDataset
from skorch.history import History
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset, RandomSampler

from sk_unlearn.risks.empirical import weighted_loss
from sk_unlearn.rows import RowRole
from sk_unlearn.utils._random import forked_torch

__all__ = ["Member", "groups_to_stack", "train_stacked"]

# Each of these treats every element of a parameter separately, and so treats a stack of parameters correctly.
_ELEMENTWISE = {
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
}
_NETS = {NeuralNetClassifier, NeuralNetBinaryClassifier, NeuralNetRegressor}
# These only write down what happened.
_WATCHING = {EpochTimer, PassthroughScoring, PrintLog}
_PROBED_ROWS = 4


@dataclass
class Member:
    """A net and the rows it is to be trained on.

    Attributes
    ----------
    net : skorch.NeuralNet
        Initialised.

    rows : ndarray of shape (n,), dtype=int64
        Their numbers in the shared X.

    y : ndarray of shape (n, ...)
        Their targets as this net takes them.

    weight : ndarray of shape (n,) or None
        Their weights, all positive.

    random_state : Tensor
        State of torch's generator right after the net was initialised; the order of the batches follows from it.
    """

    net: NeuralNet
    rows: NDArray[np.int64]
    y: NDArray[Any]
    weight: NDArray[np.float64] | None
    random_state: Tensor


def groups_to_stack(members: Sequence[Member], X: NDArray[Any]) -> list[list[int]]:
    """Return the numbers of the members that can be trained together, group by group; those in none go alone.

    Two nets go together when they have the same shapes, optimiser, schedule and number of batches.
    """
    groups: dict[Hashable, list[int]] = {}
    for number, member in enumerate(members):
        if _is_stackable(member.net):
            groups.setdefault(_kind(member), []).append(number)
    return [group for group in groups.values() if len(group) > 1 and _stack_agrees([members[i] for i in group], X)]


def train_stacked(
    members: Sequence[Member], X: NDArray[Any], advance: Callable[[float], object] | None = None
) -> list[NDArray[np.int8]]:
    """Train the members of one group and return the role that every row of each played.

    Parameters
    ----------
    members : sequence of Member
        A group from :func:`groups_to_stack`. Their nets are trained in place.

    X : ndarray of shape (n_rows, ...)
        The rows that they share, as the nets take them.

    advance : callable, default=None
        Called after each epoch with the number of nets that it has brought nearer to their end, as a fraction.
    """
    leader = members[0].net
    device = torch.device(leader.device)
    _let_memory_stay()
    trainable, fixed = _stacked_state(members)
    optimiser = _optimiser(leader, trainable)
    stage = SimpleNamespace(optimizer_=optimiser, history=History())
    schedules = _begin_schedules(leader, stage)
    compute_loss = _stacked_loss(leader)
    dtype = next(iter(trainable.values())).dtype
    X_all = torch.from_numpy(X).to(device)
    y_all = _padded([member.y for member in members]).to(device)
    member_number = torch.arange(len(members), device=device)[:, None]
    losses, seconds = [], []
    leader.module_.train()
    with forked_torch([device] if device.type == "cuda" else []):
        # The noise of dropout follows from the seeds too.
        torch.set_rng_state(members[0].random_state)
        torch.manual_seed(int(torch.randint(2**31 - 1, ())))
        batches = _Batches(members, dtype, device)
        for _ in range(leader.max_epochs):
            started = time.perf_counter()
            stage.history.new_epoch()
            in_epoch: list[Tensor] = []
            for position, row, weight in batches.epoch():
                stage.history.new_batch()
                optimiser.zero_grad()
                # Faster than indexing by a matrix of numbers.
                rows = X_all.index_select(0, row.reshape(-1)).view(*row.shape, *X_all.shape[1:])
                loss = compute_loss(trainable, fixed, rows, y_all[member_number, position], weight)
                loss.sum().backward()
                optimiser.step()
                in_epoch.append(loss.detach())
                for schedule in schedules:
                    schedule.on_batch_end(stage, training=True)
            for schedule in schedules:
                schedule.on_epoch_end(stage)
            if advance is not None:
                advance(len(members) / leader.max_epochs)
            losses.append(torch.stack(in_epoch))
            seconds.append(time.perf_counter() - started)
    _hand_back(members, trainable, optimiser)
    # One transfer, whatever the number of epochs.
    mean_losses = np.einsum("ebk,bk->ek", torch.stack(losses).cpu().double().numpy(), batches.share)
    for k, member in enumerate(members):
        _write_history(member.net, mean_losses[:, k], seconds)
    return batches.role


# ------------------------------------------------------------------ what can be stacked


def _is_stackable(net: NeuralNet) -> bool:
    """Tell whether skorch's own training loop, without any code of the user's, trains the net."""
    loader = net.get_params_for("iterator_train")
    return (
        type(net) in _NETS
        and net.optimizer in _ELEMENTWISE
        and net.iterator_train is DataLoader
        and set(loader) <= {"shuffle", "batch_size", "drop_last"}
        and net.dataset is SkorchDataset
        and net.train_split is None
        and net.verbose == 0
        and not net.compile
        and net.max_epochs > 0
        and net._modules == ["module"]
        and net._criteria == ["criterion"]
        and not list(net.criterion_.parameters())
        and all(_only_watches(callback) or _is_schedule(callback) for _, callback in net.callbacks_)
    )


def _only_watches(callback: Any) -> bool:
    # A score over validation rows does nothing where there are none.
    return type(callback) in _WATCHING or (type(callback) is EpochScoring and not callback.on_train)


def _is_schedule(callback: Any) -> bool:
    if type(callback) is not LRScheduler:
        return False
    policy = callback._get_policy_cls()
    return not (isinstance(policy, type) and issubclass(policy, ReduceLROnPlateau))


def _kind(member: Member) -> Hashable:
    """Return what must be equal for two nets to be trained in one stack."""
    net, module = member.net, member.net.module_
    return (
        tuple((name, p.shape, p.dtype, p.requires_grad) for name, p in module.named_parameters()),
        tuple((name, b.shape, b.dtype) for name, b in module.named_buffers()),
        _loader(member).batch_size,
        len(_loader(member)),
        net.max_epochs,
        net.lr,
        repr(sorted(net.get_params_for("optimizer").items())),
        repr([callback.get_params() for _, callback in net.callbacks_ if _is_schedule(callback)]),
    )


def _stack_agrees(members: Sequence[Member], X: NDArray[Any]) -> bool:
    """Tell whether the stack computes what the nets compute, and a training step changes nothing but parameters."""
    leader = members[0].net
    device = torch.device(leader.device)
    ends = [members[0], members[-1]]
    n_probed = min(_PROBED_ROWS, *(len(member.rows) for member in ends))
    x = torch.stack([torch.from_numpy(X[member.rows[:n_probed]]) for member in ends]).to(device)
    y = torch.stack([torch.from_numpy(np.ascontiguousarray(member.y[:n_probed])) for member in ends]).to(device)
    with forked_torch([device] if device.type == "cuda" else []):
        try:
            trainable, fixed = _stacked_state(ends)
            probe = copy.deepcopy(leader.module_).train()
            buffers = [b.clone() for b in probe.buffers()]
            with torch.no_grad():
                probe(x[0])
            if not all(torch.equal(b, old) for b, old in zip(probe.buffers(), buffers, strict=True)):
                return False
            weight = torch.ones(x.shape[:2], device=device)
            leader.module_.train()
            _stacked_loss(leader)(trainable, fixed, x, y, weight).sum().backward()
            leader.module_.eval()
            together = _stacked_loss(leader)(trainable, fixed, x, y, weight)
            for k, member in enumerate(ends):
                net = member.net
                net.module_.eval()
                alone = net.get_loss(net.module_(x[k]), y[k], X=x[k], training=True)
                torch.testing.assert_close(together[k], alone, rtol=1e-3, atol=1e-5)
        # Nets that vmap cannot evaluate, or evaluates differently, are trained one after the other. If something is
        # wrong with the net itself, that training raises it.
        except Exception:
            return False
    return True


# ------------------------------------------------------------------ the stack


def _let_memory_stay() -> None:
    """Let the process keep the memory of one step for the next.

    The C library of Linux returns what is free at the top of its heap to the system, if this is more than twice the
    largest block that was freed so far, and gets it back page by page: a fifth of the time of a large stack. Only
    blocks of up to 32 MB count, so that at most 64 MB are held back. Other libraries take no notice.
    """
    torch.empty(2**25 - 2**20, dtype=torch.uint8)


def _stacked_state(members: Sequence[Member]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the trainable parameters, as leaves, and everything else the module holds."""
    states = [dict(member.net.module_.named_parameters()) for member in members]
    buffers = [dict(member.net.module_.named_buffers()) for member in members]
    trainable, fixed = {}, {}
    for name, first in states[0].items():
        stack = torch.stack([state[name].detach() for state in states])
        if first.requires_grad:
            trainable[name] = stack.requires_grad_()
        else:
            fixed[name] = stack
    fixed.update({name: torch.stack([held[name] for held in buffers]) for name in buffers[0]})
    return trainable, fixed


def _stacked_loss(net: NeuralNet) -> Any:
    """Return the function that gives the loss of every net of the stack on its own batch."""
    plain = _is_plain_cross_entropy(net)

    def output(trainable: dict[str, Tensor], fixed: dict[str, Tensor], x: Tensor) -> Any:
        return functional_call(net.module_, {**trainable, **fixed}, (x,))

    def loss(
        trainable: dict[str, Tensor], fixed: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor | None
    ) -> Tensor:
        if weight is None:
            return net.get_loss(output(trainable, fixed, x), y, X=x, training=True)
        return weighted_loss(net, net.get_loss, output(trainable, fixed, x), y, weight, X=x, training=True)

    def stacked(
        trainable: dict[str, Tensor], fixed: dict[str, Tensor], x: Tensor, y: Tensor, weight: Tensor | None
    ) -> Tensor:
        held = 0 if fixed else None  # a stack without buffers has no first axis to run over
        if plain and weight is None and y.ndim == 2:
            # vmap takes this loss apart into many small steps, which cost as much as a layer.
            logits = vmap(output, in_dims=(0, held, 0), randomness="different")(trainable, fixed, x)
            smoothing = net.criterion_.label_smoothing
            # With the classes before the rows a softmax is taken of whole rows of memory, in a quarter of the time.
            logits = logits.transpose(1, 2).contiguous()
            return cross_entropy(logits, y, reduction="none", label_smoothing=smoothing).mean(dim=1)
        in_dims = (0, held, 0, 0, None if weight is None else 0)
        losses: Tensor = vmap(loss, in_dims=in_dims, randomness="different")(trainable, fixed, x, y, weight)
        return losses

    return stacked


def _is_plain_cross_entropy(net: NeuralNet) -> bool:
    criterion = net.criterion_
    return (
        type(net) is NeuralNetClassifier
        and type(criterion) is torch.nn.CrossEntropyLoss
        and criterion.weight is None
        and criterion.reduction == "mean"
        and criterion.ignore_index < 0
    )


def _optimiser(net: NeuralNet, trainable: dict[str, Tensor]) -> torch.optim.Optimizer:
    """Return the net's own kind of optimiser, over the stack."""
    args, kwargs = net.get_params_for_optimizer("optimizer", list(trainable.items()))
    if "fused" in inspect.signature(net.optimizer).parameters and not {"fused", "foreach", "differentiable"} & set(
        kwargs
    ):
        try:
            return net.optimizer(*args, fused=True, **kwargs)
        except RuntimeError:  # not for this device or data type in this version of torch
            args, kwargs = net.get_params_for_optimizer("optimizer", list(trainable.items()))
    return net.optimizer(*args, **kwargs)


def _begin_schedules(net: NeuralNet, stage: Any) -> list[LRScheduler]:
    schedules = [copy.copy(callback).initialize() for _, callback in net.callbacks_ if _is_schedule(callback)]
    for schedule in schedules:
        schedule.on_train_begin(stage)
    return schedules


@torch.no_grad()
def _hand_back(members: Sequence[Member], trainable: dict[str, Tensor], optimiser: torch.optim.Optimizer) -> None:
    """Give every net its parameters, and its optimiser the state it would have come to."""
    for k, member in enumerate(members):
        parameters = dict(member.net.module_.named_parameters())
        for name, stack in trainable.items():
            parameters[name].copy_(stack[k])
        own = member.net.optimizer_
        for group, stacked in zip(own.param_groups, optimiser.param_groups, strict=True):
            group.update({key: stacked[key] for key in ("lr", "initial_lr") if key in stacked})
            trained = [parameter for parameter in group["params"] if parameter.requires_grad]
            for parameter, stack in zip(trained, stacked["params"], strict=True):
                own.state[parameter] = {key: _of(value, k, stack) for key, value in optimiser.state[stack].items()}


def _of(value: Any, k: int, stack: Tensor) -> Any:
    """Return what an optimiser knows of one member: its part of a stack, or what all have in common."""
    if not isinstance(value, Tensor):
        return value
    return (value[k] if value.shape == stack.shape else value).clone()


def _write_history(net: NeuralNet, losses: NDArray[np.float64], seconds: Sequence[float]) -> None:
    for epoch, (loss, duration) in enumerate(zip(losses, seconds, strict=True), 1):
        # What `new_epoch` and `record` would write; the latter searches all epochs so far for each value.
        net.history.append({"batches": [], "epoch": epoch, "train_loss": float(loss), "dur": duration})


# ------------------------------------------------------------------ batches


class _RowNumbers(Dataset[int]):
    """A dataset that has a length and no items, which is all that a sampler needs."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows

    def __len__(self) -> int:
        return self.n_rows


def _loader(member: Member) -> DataLoader[int]:
    net, n_rows = member.net, len(member.rows)
    arguments = {"batch_size": net.batch_size, **net.get_params_for("iterator_train")}
    if arguments["batch_size"] == -1:
        arguments["batch_size"] = n_rows
    return DataLoader(_RowNumbers(n_rows), **arguments)


class _Batches:
    """The batches that every member would see alone, side by side; a short one is filled up with rows of no weight.

    Attributes
    ----------
    role : list of ndarray, dtype=int8
        What each member's rows were used for so far.

    share : ndarray of shape (n_batches, n_members)
        The share of an epoch's rows that is in each batch.
    """

    def __init__(self, members: Sequence[Member], dtype: torch.dtype, device: torch.device) -> None:
        self.device = device
        self.loaders = [_loader(member) for member in members]
        self.states = [member.random_state for member in members]
        self.batch_size, self.n_batches = int(self.loaders[0].batch_size or 1), len(self.loaders[0])
        # With drop_last an epoch ends before the rows do.
        self.in_epoch = [min(len(member.rows), self.n_batches * self.batch_size) for member in members]
        self.role = [np.full(len(member.rows), RowRole.UNSEEN, dtype=np.int8) for member in members]
        starts = np.arange(self.n_batches)[:, None] * self.batch_size
        sizes = np.clip(np.array(self.in_epoch) - starts, 0, self.batch_size)
        self.share = sizes / sizes.sum(axis=0)
        self.longest = sizes.max(axis=1)
        self.rows = _padded([member.rows for member in members]).to(device)
        weights = [np.ones(len(m.rows)) if m.weight is None else m.weight for m in members]
        self.weight = _padded(weights).to(dtype).to(device)
        # Weights are only needed where some are not 1 or where batches differ in length.
        self.weighs = any(m.weight is not None for m in members) | (sizes != self.longest[:, None]).any(axis=1)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield, batch by batch and of shape (n_members, batch size): positions, row numbers in X, and weights."""
        shape = (len(self.loaders), self.n_batches * self.batch_size)
        order = np.zeros(shape, dtype=np.int64)
        present = np.zeros(shape, dtype=bool)
        noise = torch.get_rng_state()
        for k, length in enumerate(self.in_epoch):
            drawn = self._draw(k)[:length]
            order[k, :length], present[k, :length] = drawn, True
            self.role[k][drawn] = RowRole.TRAINED
        torch.set_rng_state(noise)
        position = torch.from_numpy(order).to(self.device)
        row = self.rows.gather(1, position)
        weight = self.weight.gather(1, position) * torch.from_numpy(present).to(self.weight)
        for number, longest in enumerate(self.longest.tolist()):
            batch = slice(number * self.batch_size, number * self.batch_size + longest)
            yield position[:, batch], row[:, batch], weight[:, batch] if self.weighs[number] else None

    def _draw(self, k: int) -> NDArray[np.int64]:
        """Return the order in which the net's own loader would hand out its rows, and advance its random state."""
        torch.set_rng_state(self.states[k])
        # A loader draws a number for its workers when an iteration begins, and only then the order.
        iter(self.loaders[k])
        sampler, n_rows = self.loaders[k].sampler, len(self.role[k])
        if type(sampler) is RandomSampler and sampler.generator is None and not sampler.replacement:
            # What it does itself, before it hands out the numbers one by one.
            generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
            order = torch.randperm(n_rows, generator=generator).numpy()
        else:
            order = np.fromiter(sampler, dtype=np.int64, count=n_rows)
        self.states[k] = torch.get_rng_state()
        return order


def _padded(arrays: Sequence[NDArray[Any]]) -> Tensor:
    """Stack arrays of different lengths, the shorter ones filled up with their first row."""
    longest = max(map(len, arrays))
    return torch.stack(
        [torch.from_numpy(np.concatenate([a, np.repeat(a[:1], longest - len(a), axis=0)])) for a in arrays]
    )
