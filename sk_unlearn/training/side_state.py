"""What a net holds beside its trainable parameters, and which of it training has changed."""

from __future__ import annotations

from collections.abc import Iterator

from skorch import NeuralNet
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sk_unlearn.training._fingerprint import fingerprint
from sk_unlearn.utils._twins import uncompiled

__all__ = ["SideState"]


class SideState:
    """Buffers and frozen parameters of a net's modules and criteria, as they are now.

    Only a hash of each is kept, so that a large frozen part is not copied.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.
    """

    def __init__(self, net: NeuralNet) -> None:
        self._known = {name: fingerprint([tensor]) for name, tensor in _beside_parameters(net)}

    def changed(self, net: NeuralNet) -> tuple[str, ...]:
        """Return the names of those that are not what they were, or that are new, in the net's order."""
        return tuple(name for name, tensor in _beside_parameters(net) if self._known.get(name) != fingerprint([tensor]))


def _beside_parameters(net: NeuralNet) -> Iterator[tuple[str, Tensor]]:
    """Give names and tensors; names in the module have no prefix, those in others have the name of theirs."""
    for held in (*net._modules, *net._criteria):
        module = uncompiled(getattr(net, held + "_", None))
        if isinstance(module, nn.Module):
            prefix = "" if held == "module" else held + "."
            for name, buffer in module.named_buffers():
                if not is_lazy(buffer):
                    yield prefix + name, buffer
            for name, parameter in module.named_parameters():
                if not parameter.requires_grad and not is_lazy(parameter):
                    yield prefix + name, parameter
