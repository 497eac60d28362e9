"""Which parameters of a net are trainable, and whether they are those that training has moved."""

from __future__ import annotations

from collections.abc import Collection

from skorch import NeuralNet

from sk_unlearn.utils._twins import uncompiled

__all__ = ["check_trainable", "check_trains_the_same", "take_frozen", "trainable_names"]

# So many names are told.
_NAMED = 3


def trainable_names(net: NeuralNet) -> tuple[str, ...]:
    """Return the names of the parameters of ``module_`` that are not frozen, in the net's order."""
    return tuple(name for name, p in uncompiled(net.module_).named_parameters() if p.requires_grad)


def check_trainable(net: NeuralNet, trained: Collection[str]) -> None:
    """Check that the trainable parameters of the fitted net are still those that training has moved.

    Parameters
    ----------
    net : skorch.NeuralNet
        The fitted one.

    trained : collection of str
        Names of the parameters that training has moved; empty where that is not known.

    Raises
    ------
    ValueError
    """
    if not trained:
        return
    present = trainable_names(net)
    frozen = [name for name in trained if name not in present]
    if frozen:
        raise ValueError(
            f"net_.module_ has frozen parameters that were trained ({_some(frozen)}), so that what they learnt of the "
            "rows could not be undone. Call requires_grad_(True) on them, or freeze them in the module's __init__ and "
            "fit again. Nothing was changed."
        )
    more = [name for name in present if name not in trained]
    if more:
        raise ValueError(
            f"net_.module_ has trainable parameters that were frozen in training ({_some(more)}). Call "
            "requires_grad_(False) on them, or fit again. Nothing was changed."
        )


def check_trains_the_same(fresh: NeuralNet, fitted: NeuralNet) -> None:
    """Check that a net trained anew has the trainable parameters of the fitted one.

    It can only be asked after training, for a callback may freeze parts when training begins.

    Raises
    ------
    ValueError
    """
    own, known = trainable_names(fresh), trainable_names(fitted)
    others = [name for name in own if name not in known] or [name for name in known if name not in own]
    if not others:
        return
    does, is_there = ("trains", "frozen") if others[0] in own else ("freezes", "trainable")
    raise ValueError(
        f"A net that the estimator builds anew {does} parameters that are {is_there} in net_.module_ "
        f"({_some(others)}), so that the two do not compare. Freeze the same ones in both: in the module's __init__, "
        "in a module instance passed as module, or by skorch's Freezer among the callbacks. If they were trained "
        "before they were frozen, call requires_grad_(True) on them before from_fitted. Nothing was changed."
    )


def take_frozen(net: NeuralNet, fitted: NeuralNet) -> None:
    """Freeze in a net what is frozen in the fitted one, from which it goes on, and nothing else."""
    known = trainable_names(fitted)
    for name, parameter in uncompiled(net.module_).named_parameters():
        parameter.requires_grad_(name in known)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
