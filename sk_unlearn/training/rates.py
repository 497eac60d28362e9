"""Learning rates that start anew, for a pass over further rows after a schedule has run its course."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from torch.optim import Optimizer

from sk_unlearn.utils._twins import pinned

__all__ = ["fresh_rates"]


@contextmanager
def fresh_rates(net: NeuralNet) -> Iterator[None]:
    """Train within this context with the rates that the net's settings ask for, whatever a schedule made of them.

    The settings of every parameter group (rate, momentum, and what else a schedule may change) become those of a new
    optimiser, and skorch's schedulers begin at their start. What an optimiser has accumulated stays.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised. Its optimisers are changed in place.

    Raises
    ------
    ValueError
        At the end, when the rates were zero in every step: rows would be taken for learnt that are not.
    """
    new = pinned(net)
    new.initialize_optimizer()
    present = {name: getattr(net, name + "_") for name in net._optimizers}
    optimisers = {name: each for name, each in present.items() if isinstance(each, Optimizer)}
    for name, optimiser in optimisers.items():
        _reset_groups(optimiser, getattr(new, name + "_"))
    schedulers = [c for _, c in net.callbacks_ if isinstance(c, LRScheduler) and "last_epoch" not in vars(c)]
    for scheduler in schedulers:
        if not _is_plateau(scheduler):  # which counts no epochs
            scheduler.last_epoch = -1  # otherwise skorch has it go on from the length of the history
    rates: set[float] = set()

    def note_rates(optimiser: Optimizer, *_: Any) -> None:
        rates.update(float(group["lr"]) for group in optimiser.param_groups)

    hooks = [optimiser.register_step_pre_hook(note_rates) for optimiser in optimisers.values()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for scheduler in schedulers:
            vars(scheduler).pop("last_epoch", None)
    if rates == {0.0}:
        raise ValueError(
            "The learning rate of the net was 0 in every step, so that nothing was learnt from X; nothing was changed. "
            "Raise lr (est.net_.set_params), or use a schedule whose first pass has a positive rate."
        )


def _reset_groups(optimiser: Optimizer, new: Optimizer) -> None:
    """Give the groups of an optimiser the settings of a new one's, as far as they correspond."""
    same = len(optimiser.param_groups) == len(new.param_groups)
    for i, group in enumerate(optimiser.param_groups):
        initial_rate = group.pop("initial_lr", None)
        if same:
            group.update({name: value for name, value in new.param_groups[i].items() if name != "params"})
        elif initial_rate is not None:
            group["lr"] = initial_rate


def _is_plateau(scheduler: LRScheduler) -> bool:
    policy = scheduler._get_policy_cls()
    return isinstance(policy, type) and issubclass(policy, torch.optim.lr_scheduler.ReduceLROnPlateau)
