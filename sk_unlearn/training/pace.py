"""Training that goes through the schedule of an earlier one in fewer and longer steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler
from torch import Tensor
from torch.optim import Optimizer

from sk_unlearn.training.finite import TrainingDivergedError
from sk_unlearn.training.start import GroupSteps, Phase, Schedule

__all__ = ["Pace", "Paced", "PacedTraining", "longer_step", "paced", "why_not_paced"]

# Their steps find a length of their own, so that nothing can be made longer.
_OWN_LENGTH = ("LBFGS", "Rprop")
# What a schedule may move, in every optimiser that has it; other settings only where they were seen to move.
_SCHEDULED = ("lr", "momentum", "betas")
# How the raise of the rates rises and falls over the steps: the first ones are taken with care, and the noise of long
# ones is gone in the end. A constant rate needs the fall, and a rate that falls anyway is not hurt by it. Of a dozen
# forms this one was near full trainings most often (benchmarks.compressed).
_FORM_AT, _FORM = (0.0, 0.1, 0.7, 1.0), (0.3, 1.0, 1.0, 0.02)


@dataclass(frozen=True)
class Pace:
    """How to go through a schedule.

    Attributes
    ----------
    schedule : Schedule
        That of an earlier training.

    share : float
        Of the steps of a full training, in (0, 1).

    raise_by : float
        By which the rates are raised at most; the inverse of the share, or less where that diverges.
    """

    schedule: Schedule
    share: float
    raise_by: float

    def full_epochs(self, net: NeuralNet) -> int:
        """Return how many epochs a full training has."""
        asked_for = int(net.max_epochs)
        return min(self.schedule.n_epochs, asked_for) if self.schedule.ended_early else asked_for

    def n_epochs(self, net: NeuralNet) -> int:
        """Return in how many epochs, of which the last need not be whole, the shorter one ends."""
        return math.ceil(round(self.share * self.full_epochs(net), 9))  # 0.07 * 100 is a little more than 7


@dataclass
class Paced:
    """How a training went through the schedule of another.

    Attributes
    ----------
    pace : Pace

    n_steps : int
        Batches that it trained on, those of attempts that were given up included.

    n_full : int
        Batches that a full training has.

    n_attempts : int
        How often it began.

    cut_short : bool
        Whether a callback ended it before its last step.
    """

    pace: Pace
    n_steps: int = 0
    n_full: int = 0
    n_attempts: int = 1
    cut_short: bool = False

    @property
    def share_spent(self) -> float:
        """Batches that it trained on, attempts that were given up included, as a share of those of a full training."""
        return round(self.n_steps / self.n_full, 4)

    def notes(self) -> list[str]:
        """Say in which ways it was not the training that the share asks for."""
        notes = []
        if self.n_attempts > 1:
            notes.append(
                "With rates raised as far as the share asks for, training on the retained rows led nowhere; attempt "
                f"{self.n_attempts} raised them {self.pace.raise_by:.3g} times. The model has learnt for a shorter "
                "time than a full training does: give a larger share."
            )
        if self.pace.schedule.ended_early:
            notes.append(
                f"The shorter training follows the {self.pace.schedule.n_epochs} epochs after which a callback ended "
                "the one before. Their number may show what the callback had seen of the erased rows; Retrain() "
                "chooses it anew."
            )
        if self.cut_short:
            notes.append(
                "A callback ended the shorter training before its last step: what the last steps of the schedule would "
                "have done is missing."
            )
        return notes


@contextmanager
def paced(net: NeuralNet, pace: Pace | None) -> Iterator[PacedTraining | None]:
    """Have a net train within this context at the pace given.

    Callbacks that change rates, or that watch a measure to end the training or to choose parameters, are left out
    meanwhile. Everything else is the net's own: its iterator, loss and steps, and all other callbacks.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised, not trained.

    pace : Pace or None
        None changes nothing.

    Yields
    ------
    training : PacedTraining or None
        To be told of every batch, and to be asked whether there is another.

    Raises
    ------
    ValueError
        Where an optimiser has steps that cannot be made longer, is another one than in the schedule, or where the net
        takes no batch from ``get_iterator``. A TrainingDivergedError, which is one too, where a loss is not finite.
    """
    if pace is None:
        yield None
        return
    run, callbacks = PacedTraining(net, pace), net.callbacks_
    net.callbacks_ = [each for each in callbacks if not steers(each[1])]
    net.callbacks_.append(("finite", _FiniteLoss(run.told).initialize()))
    hooks = [
        optimiser.register_step_pre_hook(lambda stepping, *_, name=name: run.set_group_settings(stepping, name))
        for name, optimiser in run.optimisers.items()
    ]
    try:
        yield run
        run.end()
    finally:
        for hook in hooks:
            hook.remove()
        net.callbacks_ = callbacks


def why_not_paced(net: NeuralNet, schedule: Schedule) -> str:
    """Say why a net cannot go through a schedule in longer steps; nothing where it can.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.

    schedule : Schedule
        Of an earlier training.
    """
    phases = {phase.name: phase for phase in schedule.phases}
    for name in net._optimizers:
        optimiser = getattr(net, name + "_", None)
        if not isinstance(optimiser, Optimizer):
            continue
        kind, phase = type(optimiser), phases.get(name)
        if kind.__name__ in _OWN_LENGTH:
            return f"the steps of {kind.__name__} find their length themselves"
        if phase is None or phase.optimizer is not kind or len(phase.groups) != len(optimiser.param_groups):
            return "the net has had another optimiser or other parameter groups since fit"
    return ""


def steers(callback: Callback) -> bool:
    """Tell whether a callback of skorch's kind changes rates, or watches a measure and acts by it."""
    return isinstance(callback, LRScheduler) or bool(getattr(callback, "monitor", None))


class _FiniteLoss(Callback):
    """Ends a training that has diverged, before it has gone on in vain."""

    def __init__(self, told: Paced) -> None:
        self.told = told

    def on_batch_end(self, net: NeuralNet, training: bool = False, loss: Any = None, **kwargs: Any) -> None:
        if training and loss is not None and not bool(torch.isfinite(torch.as_tensor(loss)).all()):
            raise TrainingDivergedError(
                "Training diverged: its loss is not finite. Lower the learning rate or scale X and y.",
                self.told.n_steps,
            )


class PacedTraining:
    """One training at a pace.

    Attributes
    ----------
    told : Paced
        How it goes.
    """

    def __init__(self, net: NeuralNet, pace: Pace) -> None:
        self.net = net
        self.told: Paced = Paced(pace)
        self.n_steps: int = 0  # not known before the first batch
        named = {name: getattr(net, name + "_", None) for name in net._optimizers}
        self.optimisers: dict[str, Optimizer] = {
            name: each for name, each in named.items() if isinstance(each, Optimizer)
        }
        self.phases: dict[str, Phase] = {phase.name: phase for phase in pace.schedule.phases}
        self.by_batch: bool = any(isinstance(c, LRScheduler) and c.step_every == "batch" for _, c in net.callbacks_)
        self.plans: dict[str, list[_GroupPlan]] = {}
        refusal = why_not_paced(net, pace.schedule)
        if refusal:
            raise ValueError(f"share={pace.share:g} cannot be had: {refusal}; use share=1.0.")

    @property
    def is_over(self) -> bool:
        """Whether all steps have been taken."""
        return bool(self.n_steps) and self.told.n_steps >= self.n_steps

    def begin(self, n_batches: int) -> None:
        """Take in that an epoch begins, and how many batches it has."""
        if self.n_steps:
            return
        pace = self.told.pace
        self.told.n_full = n_batches * pace.full_epochs(self.net)
        # The last epoch has a step, if only one.
        before_last = (pace.n_epochs(self.net) - 1) * n_batches
        self.n_steps = max(before_last + 1, round(pace.share * self.told.n_full))

    def next_batch(self) -> None:
        """Take in that a batch is handed out."""
        self.told.n_steps += 1

    def set_group_settings(self, optimiser: Optimizer, name: str) -> None:
        """Give the groups of an optimiser the settings of the step that it is about to take."""
        if not self.told.n_steps:
            return  # a step before the first batch
        if name not in self.plans:
            self.plans[name] = [
                _GroupPlan.of(self.phases[name], k, group, self.n_steps, self._span(name), self._length)
                for k, group in enumerate(optimiser.param_groups)
            ]
        for plan, group in zip(self.plans[name], optimiser.param_groups, strict=True):
            for key, value in plan.settings(min(self.told.n_steps, self.n_steps) - 1).items():
                if isinstance(group[key], Tensor):
                    group[key].fill_(value)
                else:
                    group[key] = value

    def _span(self, name: str) -> float:
        """Return which part of the steps of the schedule a full training on these rows would see.

        A schedule by batches goes on to the end in one by epochs, whereas fewer rows end one by batches earlier.
        """
        return min(1.0, self.told.n_full / self.phases[name].n_steps) if self.by_batch else 1.0

    @property
    def _length(self) -> float:
        return min(self.told.n_full / self.n_steps, self.told.pace.raise_by)

    def end(self) -> None:
        """Note how it ended."""
        if not self.told.n_steps:
            raise ValueError(
                f"share={self.told.pace.share:g} counts the batches that get_iterator of the net gives out, and it "
                "gave out none; take the batches from there, or use share=1.0."
            )
        self.told.cut_short = self.told.n_steps < self.n_steps


@dataclass(frozen=True)
class _GroupPlan:
    """The settings of one parameter group in all steps of a shorter training."""

    optimizer: type[Optimizer]
    given: Mapping[str, Any]
    at_step: Mapping[str, NDArray[Any]]
    raises: NDArray[np.float64]
    decay: NDArray[np.float64] | None
    length: float

    @classmethod
    def of(
        cls, phase: Phase, number: int, group: Mapping[str, Any], n_steps: int, span: float, length: float
    ) -> _GroupPlan:
        """Plan the steps of the group of that number.

        A rate is the mean of those that the step stands for, raised; other settings are those in their middle.
        """
        recorded = phase.groups[number]
        edges = np.linspace(0, span * phase.n_steps, n_steps + 1)
        middle = np.minimum(((edges[:-1] + edges[1:]) / 2).astype(np.int64), phase.n_steps - 1)
        rates = recorded.values("lr", phase.n_steps).astype(np.float64)
        names = {*_SCHEDULED, *recorded.varying} & set(group) & {*recorded.fixed, *recorded.varying}
        at_step = {name: recorded.values(name, phase.n_steps)[middle] for name in names - {"lr"}}
        at_step["lr"] = _means(rates, edges)
        raises = _raises(at_step["lr"], length)
        given = {name: value for name, value in group.items() if name != "params"}
        decay = None
        if _is_decoupled(phase, recorded) and given.get("weight_decay"):
            shrinks = rates * _decays(given, recorded, phase.n_steps)
            # What the decay leaves of a parameter without data is to be the same.
            left = _means(np.log1p(-np.minimum(shrinks, 1 - 1e-9)), edges)
            decay = -np.expm1(raises * left * _ratio(length * left.sum(), (raises * left).sum()))
        return cls(phase.optimizer, given, at_step, raises, decay, length)

    def settings(self, step: int) -> dict[str, Any]:
        """Return those of one step, as far as they are not what the group has anyway."""
        present = {name: _plain(values[step]) for name, values in self.at_step.items()}
        changed = longer_step(self.optimizer, {**self.given, **present}, self.length)
        changed["lr"] *= self.raises[step] / self.length
        if self.decay is not None and changed["lr"]:
            changed["weight_decay"] = float(self.decay[step]) / changed["lr"]
        return {name: value for name, value in changed.items() if name in present or value != self.given[name]}


def _raises(rates: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    """Return by how much the rate of each step is raised, so that they sum to that of steps of this length.

    It rises over the first tenth of the steps, and falls to almost nothing over the last three.
    """
    form = np.interp((np.arange(len(rates)) + 0.5) / len(rates), _FORM_AT, _FORM)
    return np.asarray(length * form * _ratio(rates.sum(), (rates * form).sum()))


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b else 1.0


def longer_step(optimizer: type[Optimizer], settings: Mapping[str, Any], length: float) -> dict[str, Any]:
    """Return the settings with which one step of an optimiser does about what several of them do.

    What an optimiser remembers of gradients is to fade as fast in time, of which a longer step takes more. Momentum of
    SGD is kept: with less of it the same rate is no longer stable.

    Parameters
    ----------
    optimizer : type

    settings : dict
        Of one of several steps.

    length : float
        How many there are, at least 1.
    """
    longer = dict(settings)
    longer["lr"] = settings["lr"] * length
    if "betas" in settings:
        longer["betas"] = tuple(float(beta) ** length for beta in settings["betas"])
    kind = optimizer.__name__
    if kind == "RMSprop":
        longer["alpha"] = settings["alpha"] ** length
    elif kind == "Adadelta":
        longer["rho"] = settings["rho"] ** length
    elif kind == "NAdam":
        longer["momentum_decay"] = settings["momentum_decay"] * length
    elif kind == "Adagrad":  # which divides by the root of a sum over steps
        longer["lr"] = settings["lr"] * math.sqrt(length)
        longer["lr_decay"] = settings["lr_decay"] * length
    return longer


def _is_decoupled(phase: Phase, group: GroupSteps) -> bool:
    return phase.optimizer.__name__ == "AdamW" or bool(group.fixed.get("decoupled_weight_decay"))


def _decays(given: Mapping[str, Any], recorded: GroupSteps, n_steps: int) -> NDArray[np.float64]:
    if "weight_decay" in recorded.varying:
        return recorded.values("weight_decay", n_steps).astype(np.float64)
    return np.full(n_steps, float(given["weight_decay"]))


def _means(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of a step function over each interval between edges; its steps are of length one."""
    total = np.interp(edges, np.arange(len(values) + 1), np.concatenate([[0.0], np.cumsum(values)]))
    return np.asarray(np.diff(total) / np.diff(edges))


def _plain(value: Any) -> Any:
    return tuple(value.tolist()) if np.ndim(value) else value.item()
