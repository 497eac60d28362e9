"""Where training started, which steps it took from there, and what these make of parameters that see no data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from sk_unlearn.training._adam_without_data import adam_without_data, is_plain_adam
from sk_unlearn.utils._numpy_state import NumpyStateMixin

__all__ = ["GroupSteps", "Phase", "Schedule", "StepLog", "TrainingStart", "recorded_steps"]

# With gradients of zero these move nothing unless there is weight decay. Others may decay in ways of their own.
_STILL = ("SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "SparseAdam", "LBFGS")
# These divide each gradient by its usual size.
_ADAPTIVE = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "SparseAdam")
# Here a step multiplies all parameters of a group that see no data by the same number.
_LINEAR = ("SGD", "AdamW")
# How a step is carried out, which is of no account to what it does.
_IMPLEMENTATION = ("foreach", "fused", "capturable")
# Settings of a loader that say how many batches there are, whatever the rows.
_SAMPLING = frozenset({"sampler", "batch_sampler"})


@dataclass(frozen=True)
class GroupSteps:
    """The settings of one parameter group in every step of a phase.

    Attributes
    ----------
    members : tuple of int
        Numbers of its parameters among the trainable ones of the module, in the order of ``named_parameters()``.

    fixed : dict of str to object
        Settings that were the same in all steps.

    varying : dict of str to (int64 ndarray of shape (k,), ndarray of shape (k,) or (k, m))
        The others: the steps from which on a value held, and the values.
    """

    members: tuple[int, ...]
    fixed: Mapping[str, Any]
    varying: Mapping[str, tuple[NDArray[np.int64], NDArray[Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, members: tuple[int, ...], changes: Sequence[tuple[int, dict[str, Any]]]) -> GroupSteps:
        """Make one of all settings at the first step and at each at which one of them changed."""
        first = changes[0][1]
        names = {name for _, settings in changes for name in settings}
        varies = {name for name in names if any(s.get(name) != first.get(name) for _, s in changes)}
        at = np.array([step for step, _ in changes], dtype=np.int64)
        return cls(
            members,
            {name: value for name, value in first.items() if name not in varies},
            {name: (at, np.array([s.get(name) for _, s in changes])) for name in sorted(varies)},
        )

    def values(self, name: str, n_steps: int) -> NDArray[Any]:
        """Return a setting in each of so many steps, the whole phase."""
        if name not in self.varying:
            value = np.asarray(self.fixed[name])
            return np.broadcast_to(value, (n_steps, *value.shape))
        first, values = self.varying[name]
        return np.repeat(values, np.diff(np.append(first, n_steps)), axis=0)

    def each(self, n_steps: int) -> Iterator[dict[str, Any]]:
        """Give all settings of one step after the other."""
        varying = {name: self.values(name, n_steps) for name in self.varying}
        for step in range(n_steps):
            yield {**self.fixed, **{name: _setting(values[step]) for name, values in varying.items()}}

    def changes(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the first step and those at which a setting changed, and all settings from there on."""
        steps = sorted({0, *(int(step) for at, _ in self.varying.values() for step in at)})
        found = []
        for step in steps:
            varying = {
                name: values[np.searchsorted(at, step, side="right") - 1] for name, (at, values) in self.varying.items()
            }
            found.append((step, {**self.fixed, **{name: _setting(value) for name, value in varying.items()}}))
        return found

    @property
    def decays(self) -> bool:
        """Whether there was weight decay in any step."""
        known = self.varying.get("weight_decay")
        return bool(np.any(known[1] if known is not None else self.fixed.get("weight_decay", 0)))


def _setting(value: Any) -> Any:
    return tuple(value.tolist()) if np.ndim(value) else value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class Phase:
    """Steps that one optimiser took without a break.

    Attributes
    ----------
    optimizer : type
        Its class.

    n_steps : int

    groups : tuple of GroupSteps

    name : str
        Of the optimiser in the net.
    """

    optimizer: type[Optimizer]
    n_steps: int
    groups: tuple[GroupSteps, ...]
    name: str = "optimizer"

    @property
    def _torch_name(self) -> str:
        """Name of the class if it is one of PyTorch's, which then tells what a step does; else nothing."""
        return self.optimizer.__name__ if self.optimizer.__module__.split(".")[0] == "torch" else ""

    @property
    def is_adaptive(self) -> bool:
        """Whether it divides each gradient by its usual size."""
        return self._torch_name in _ADAPTIVE

    @property
    def moves_without_data(self) -> bool:
        """Whether parameters may have moved where the data have no gradient."""
        return self._torch_name not in _STILL or any(group.decays for group in self.groups)

    @property
    def is_linear_without_data(self) -> bool:
        """Whether all such parameters of a group were multiplied by the same number."""
        decoupled = all(group.fixed.get("decoupled_weight_decay") for group in self.groups)
        return self._torch_name in _LINEAR or (bool(self._torch_name) and decoupled)

    def continued_by(self, later: Phase) -> Phase | None:
        """Return this phase and a later one as one; None where they have not the same optimiser and groups."""
        members = [group.members for group in self.groups]
        if self.optimizer is not later.optimizer or members != [group.members for group in later.groups]:
            return None
        groups = []
        for mine, other in zip(self.groups, later.groups, strict=True):
            changes = [*mine.changes(), *((self.n_steps + step, settings) for step, settings in other.changes())]
            groups.append(GroupSteps.of(mine.members, _without_repeats(changes)))
        return replace(self, n_steps=self.n_steps + later.n_steps, groups=tuple(groups))

    def with_epochs_cut(self, n_epochs: int, n_left: int) -> Phase:
        """Return this phase with so many steps in each of its epochs, which are of equal length.

        A schedule by epochs goes on by epochs; one that changed settings within an epoch goes on by steps.
        """
        length = self.n_steps // n_epochs
        n_steps = n_left * n_epochs
        changes = [group.changes() for group in self.groups]
        by_epochs = all(step % length == 0 for of_group in changes for step, _ in of_group)
        groups = []
        for group, of_group in zip(self.groups, changes, strict=True):
            moved = [(step // length * n_left if by_epochs else step, settings) for step, settings in of_group]
            kept = [(step, settings) for step, settings in moved if step < n_steps]
            groups.append(GroupSteps.of(group.members, kept))
        return replace(self, n_steps=n_steps, groups=tuple(groups))

    def without_data(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return where the steps lead with gradients of zero, from one vector a group."""
        if self._torch_name == "Adam" and all(map(is_plain_adam, self.groups)):
            pairs = zip(self.groups, tensors, strict=True)
            return [adam_without_data(group, self.n_steps, each) if len(each) else each for group, each in pairs]
        return self.replayed(tensors)

    def factors(self) -> list[float]:
        """Return by what each group multiplies its parameters that see no data, where it does so."""
        return [_shrunk_to(group, self.n_steps) for group in self.groups]

    def replayed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Take all steps with gradients of zero, from one vector a group, and return where they lead to."""
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        settings = [group.each(self.n_steps) for group in self.groups]

        def without_data() -> Tensor:
            for leaf in leaves:
                leaf.grad = torch.zeros_like(leaf)
            return torch.zeros(())

        optimiser: Any = None
        for _ in range(self.n_steps):
            present = [{k: v for k, v in next(each).items() if k not in _IMPLEMENTATION} for each in settings]
            if optimiser is None:
                build: Callable[..., Optimizer] = self.optimizer
                optimiser = build([{"params": [leaf], **each} for leaf, each in zip(leaves, present, strict=True)])
            for group, each in zip(optimiser.param_groups, present, strict=True):
                group.update(each)
            without_data()
            optimiser.step(without_data)
        return [leaf.detach() for leaf in leaves]


@dataclass(frozen=True)
class Schedule:
    """The steps of one whole training, for another training to follow.

    Attributes
    ----------
    phases : tuple of Phase
        One for each optimiser.

    n_epochs : int
        Passes over the rows that were begun.

    ended_early : bool
        Whether a callback ended the training before all epochs that the net asks for.
    """

    phases: tuple[Phase, ...]
    n_epochs: int
    ended_early: bool = False


@dataclass(frozen=True)
class TrainingStart(NumpyStateMixin):
    """Where training started, and the steps that it took from there.

    Attributes
    ----------
    parameters : Tensor of shape (d,), on the CPU
        The trainable parameters before the first step.

    sizes : tuple of int
        Entries of each, in the order of ``named_parameters()``.

    phases : tuple of Phase
        Empty where the steps are not known.

    schedule : Schedule or None
        The same steps for another training to follow; None where they are not known, or are those of several trainings.
    """

    parameters: Tensor
    sizes: tuple[int, ...]
    phases: tuple[Phase, ...] = ()
    schedule: Schedule | None = None

    @property
    def n_steps(self) -> int:
        """How many steps were taken, of all optimisers; 0 where they are not known."""
        return sum(phase.n_steps for phase in self.phases)

    @property
    def is_adaptive(self) -> bool:
        """Whether the last steps were those of an optimiser that divides each gradient by its usual size."""
        return bool(self.phases) and self.phases[-1].is_adaptive

    def followed_by(self, later: TrainingStart | None, *, goes_on: bool) -> TrainingStart:
        """Return the start of two trainings, the second from where the first had ended.

        Parameters
        ----------
        later : TrainingStart or None
            Of the second; None where its steps are not known, and then those of both are not.

        goes_on : bool
            Whether the optimiser kept what it had accumulated.
        """
        both = replace(self, schedule=None)
        if later is None or not later.phases or not self.phases:
            return replace(both, phases=())
        joined = self.phases[-1].continued_by(later.phases[0]) if goes_on else None
        if joined is None:
            return replace(both, phases=(*self.phases, *later.phases))
        return replace(both, phases=(*self.phases[:-1], joined, *later.phases[1:]))

    def over_fewer_rows(self, net: NeuralNet, n_rows: int) -> TrainingStart:
        """Return it as the same training would have gone over fewer rows, which fill fewer batches in each epoch.

        Parameters
        ----------
        net : skorch.NeuralNet
            The trained one, with its history and batch size.

        n_rows : int
            How many training would read.

        Returns
        -------
        start : TrainingStart
            Itself, where rows and steps do not go together in this way.
        """
        n_epochs, loader = len(net.history), net.get_params_for("iterator_train")
        size = loader.get("batch_size", net.batch_size)
        regular = len(self.phases) == 1 and n_epochs > 0 and self.n_steps % n_epochs == 0
        if not regular or not isinstance(size, int) or size <= 0 or not _SAMPLING.isdisjoint(loader):
            return self
        n_left = n_rows // size if loader.get("drop_last") else -(-n_rows // size)
        if not 0 < n_left < self.n_steps // n_epochs:
            return self
        return replace(self, phases=(self.phases[0].with_epochs_cut(n_epochs, n_left),))

    def ghost(self, wanted: Collection[int] | None = None) -> Tensor:
        """Return what the same steps would have made of the parameters if the data had had no gradient.

        Without weight decay that is where training started. Otherwise the steps are taken once more: of one number a
        group where they multiply its parameters alike (SGD, decoupled decay), of the sizes that there are for Adam, and
        for other optimisers of all parameters, which costs a few operations on d numbers a step.

        Parameters
        ----------
        wanted : collection of int or None
            Numbers of the parameters that are asked for; the others come as they were at the start. None for all.

        Returns
        -------
        ghost : Tensor of shape (d,), on the CPU

        Raises
        ------
        ValueError
            Where the steps are not known.
        """
        if not self.phases:
            raise ValueError("The steps of training are not known, so that nobody knows where they lead without data.")
        parts = list(self.parameters.split(list(self.sizes)))
        for phase in self.phases:
            if not phase.moves_without_data:
                continue
            groups = [[k for k in group.members if wanted is None or k in wanted] for group in phase.groups]
            if phase.is_linear_without_data:
                for members, factor in zip(groups, phase.factors(), strict=True):
                    for number in members:
                        parts[number] = parts[number] * factor
                continue
            empty = self.parameters[:0]
            ends = phase.without_data([torch.cat([empty, *(parts[k] for k in members)]) for members in groups])
            for members, end in zip(groups, ends, strict=True):
                for number, part in zip(members, end.split([self.sizes[k] for k in members]), strict=True):
                    parts[number] = part
        return torch.cat(parts)


@dataclass
class StepLog:
    """Takes down where training starts, and the settings of every step.

    Attributes
    ----------
    n_epochs : int
        How many the training is meant to have.

    start : TrainingStart or None
        What was taken down, once training has ended; None where no step was seen, as with a loop of the net's own.

    interrupted : bool
        Whether a callback has ended the training.

    known_start : Tensor of shape (d,) or None
        Where another training started: kept in place of a copy where this one starts there, too.
    """

    n_epochs: int
    start: TrainingStart | None = None
    interrupted: bool = False
    known_start: Tensor | None = None

    def __post_init__(self) -> None:
        self._before: Tensor | None = None
        self._n_steps: dict[str, int] = {}
        self._changes: dict[str, list[list[tuple[int, dict[str, Any]]]]] = {}

    def note(self, net: NeuralNet, name: str) -> None:
        """Take down the settings with which an optimiser of the net is about to step."""
        self.note_parameters(net)
        groups = getattr(net, name + "_").param_groups
        known = self._changes.setdefault(name, [[] for _ in groups])
        step = self._n_steps.get(name, 0)
        self._n_steps[name] = step + 1
        for changes, group in zip(known, groups, strict=False):
            settings = {key: _plain(value) for key, value in group.items() if key != "params"}
            if not changes or changes[-1][1] != settings:
                changes.append((step, settings))

    def note_parameters(self, net: NeuralNet) -> None:
        """Take down where training starts, the first time that all parameters are there."""
        trainable = _trainable(net)
        # Not before the first step: callbacks may set parameters when training begins.
        if self._before is None and not any(isinstance(p, UninitializedParameter) for p in trainable):
            before = torch.cat([p.detach().reshape(-1).cpu() for p in trainable])
            before = before.float() if before.dtype == torch.bfloat16 else before
            known = self.known_start
            self._before = known if known is not None and torch.equal(known, before) else before

    def watched(self, net: NeuralNet, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the arguments of a step whose first forward pass makes the parameters, as that of lazy layers does."""
        if self._before is not None or not (args and callable(args[0])):
            return None

        def closure(*inner: Any) -> Any:
            loss = args[0](*inner)
            self.note_parameters(net)
            return loss

        return (closure, *args[1:]), kwargs

    def end(self, net: NeuralNet, n_epochs: int) -> None:
        """Put together what was taken down in so many epochs."""
        if self._before is None:
            return
        trainable = _trainable(net)
        number = {id(p): k for k, p in enumerate(trainable)}
        phases = []
        for name, changes in self._changes.items():
            optimiser = getattr(net, name + "_")
            groups = tuple(
                GroupSteps.of(tuple(number[id(p)] for p in group["params"] if id(p) in number), known)
                for group, known in zip(optimiser.param_groups, changes, strict=False)
            )
            phases.append(Phase(type(optimiser), self._n_steps[name], groups, name))
        early = self.interrupted or n_epochs < self.n_epochs
        schedule = Schedule(tuple(phases), n_epochs, early) if n_epochs else None
        self.start = TrainingStart(self._before, tuple(p.numel() for p in trainable), tuple(phases), schedule)


@contextmanager
def recorded_steps(net: NeuralNet, n_epochs: int, known_start: Tensor | None = None) -> Iterator[StepLog]:
    """Take down what the net's optimisers do within this context.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.

    n_epochs : int
        How many the training is meant to have.

    known_start : Tensor of shape (d,) or None
        As :class:`StepLog` takes it.

    Yields
    ------
    log : StepLog
        Its ``start`` is there when the context has ended.
    """
    log, n_before = StepLog(n_epochs, known_start=known_start), len(net.history)
    optimisers = {name: getattr(net, name + "_", None) for name in net._optimizers}

    def hook_of(name: str) -> Callable[..., Any]:
        def before_step(optimiser: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            log.note(net, name)
            # The optimiser itself comes first among the arguments.
            changed = log.watched(net, args[1:], kwargs)
            return None if changed is None else ((args[0], *changed[0]), changed[1])

        return before_step

    hooks = [
        each.register_step_pre_hook(hook_of(name)) for name, each in optimisers.items() if isinstance(each, Optimizer)
    ]
    try:
        yield log
        log.end(net, len(net.history) - n_before)
    finally:
        for hook in hooks:
            hook.remove()


def _shrunk_to(group: GroupSteps, n_steps: int) -> float:
    """Return what is left of one where the data have no gradient: of SGD, or with decoupled weight decay."""
    rates, decays = (group.values(name, n_steps).astype(np.float64) for name in ("lr", "weight_decay"))
    if "momentum" not in group.fixed and "momentum" not in group.varying:
        return float(np.prod(1 - rates * decays))
    left, buffer = 1.0, None
    rest = (group.values(name, n_steps).tolist() for name in ("momentum", "dampening", "nesterov"))
    for rate, decay, momentum, dampening, nesterov in zip(rates.tolist(), decays.tolist(), *rest, strict=True):
        step = decay * left
        if momentum:
            buffer = step if buffer is None else momentum * buffer + (1 - dampening) * step
            step = step + momentum * buffer if nesterov else buffer
        left -= rate * step
    return left


def _trainable(net: NeuralNet) -> list[Tensor]:
    return [p for p in net.module_.parameters() if p.requires_grad]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def _without_repeats(changes: Sequence[tuple[int, dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    kept = [changes[0]]
    for step, settings in changes[1:]:
        if settings != kept[-1][1]:
            kept.append((step, settings))
    return kept
