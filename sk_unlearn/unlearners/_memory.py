"""How much memory a step needs, and how much is free."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sk_unlearn import distributed
from sk_unlearn.utils._limits import address_space_limit, control_group_free

__all__ = ["MemoryForecast", "free_memory"]


# Vectors as long as the parameters that a request holds at its peak beside those of a solver: point and gradient of the
# problem, at the present point and at the one that is tried, and what is between two sums. Counted by
# ``benchmarks/memory.py``.
_OF_REQUEST = 8
# What a Krylov space needs beside its basis, and gradient descent on the model, where a product is taken.
_OF_KRYLOV, _OF_DESCENT = 3, 4
# Bytes an entry of a dense step's matrices, in either precision: the Hessian and the symmetric one in the net's, the
# same two in float64 where that is another, eigenvectors, and two matrices and some more for LAPACK to work in.
_DENSE_BYTES = 50


@dataclass(frozen=True)
class MemoryForecast:
    """Bytes that solving a request needs beyond the net and its rows, by solver, beside what is free.

    Attributes
    ----------
    dense : int
        The full Hessian, its eigenvectors and what decomposing takes; and all else.

    krylov : int
        The basis of a Krylov space, all dimensions of it; and all else.

    gradient_descent : int
        All else: a dozen vectors as long as the parameters, and the graphs that are kept for the rows read.

    available : int or None
        What is free on the device of the parameters; None where that cannot be found out.
    """

    dense: int
    krylov: int
    gradient_descent: int
    available: int | None

    @classmethod
    def of(cls, w: Tensor, n_products: int, graph_bytes: int = 0) -> MemoryForecast:
        """Forecast for a request.

        Parameters
        ----------
        w : Tensor of shape (d,)
            Parameters, or a vector like them.

        n_products : int
            Products in a Krylov space.

        graph_bytes : int
            What the graphs of the rows that a step reads take.
        """
        d, size, available = w.numel(), w.element_size(), free_memory(w.device)
        if distributed.is_active():  # all processes choose by the least of what one has, or they would choose apart
            told = distributed.gather((graph_bytes, available))
            graph_bytes = max(each for each, _ in told)
            known = [each for _, each in told if each is not None]
            available = min(known, default=None)
        vectors = (_OF_REQUEST + _OF_DESCENT) * d * size + graph_bytes
        return cls(
            dense=_DENSE_BYTES * d * d + vectors,
            krylov=(n_products + _OF_REQUEST + _OF_KRYLOV) * d * size + graph_bytes,
            gradient_descent=vectors,
            available=available,
        )


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that can still be allocated on a device, or None where that cannot be found out.

    On a CUDA device what PyTorch has reserved and does not use counts as free. On a processor this is what the system
    has available, or what the limit of the process's control group (a container's) or that of its address space
    (``RLIMIT_AS``) leaves where that is less.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    import psutil  # here, so that importing the package does not wait for it

    try:
        system = psutil.virtual_memory()
    except (OSError, RuntimeError, NotImplementedError):  # such as a container that hides /proc/meminfo
        return None
    address_space = address_space_limit()
    left = [] if address_space is None else [max(0, address_space - psutil.Process().memory_info().vms)]
    return min([int(system.available), *control_group_free(system.total), *left])
