"""Which parameters a net's outputs hang on, to first order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk

__all__ = ["tangent_kernel_trace"]


def tangent_kernel_trace(
    risk: EmpiricalRisk,
    w: Tensor,
    rows: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    n_draws: int = 8,
    along: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    r"""Estimate what each parameter adds to the trace of the neural tangent kernel of some rows.

    With the Jacobian :math:`J_i` of row i's outputs the kernel has the trace :math:`\sum_i \|J_i\|_F^2`, to which
    parameter k adds the squares of its column. Random signs u, one for each output of each row, give
    :math:`E\,(\sum_i J_i^\top u_i)_k^2` for it, so that a draw costs one backward pass.

    Parameters
    ----------
    risk : EmpiricalRisk
    w : Tensor of shape (d,)
    rows : int64 ndarray
        As for :class:`~sk_unlearn.risks.empirical.EmpiricalRisk`.
    rng : numpy.random.Generator
        Draws the signs.
    n_draws : int, default=8
        Backward passes; the error falls with their root.
    along : callable, optional
        Projects a flat vector; the kernel is that of the directions which remain. None for all.

    Returns
    -------
    trace : Tensor of shape (d,)
        Its sum is the trace.

    Raises
    ------
    TypeError
        If the module returns something else than one tensor.

    References
    ----------
    .. [1] Jacot, Gabriel and Hongler, "Neural tangent kernel: convergence and generalization in neural networks",
       NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skorch import NeuralNetClassifier
    >>> from sk_unlearn.risks.empirical import EmpiricalRisk
    >>> from sk_unlearn.risks.tangent_kernel import tangent_kernel_trace
    >>> net = NeuralNetClassifier(torch.nn.Linear(2, 2), criterion=torch.nn.CrossEntropyLoss).initialize()
    >>> risk = EmpiricalRisk(net, np.array([[3.0, 0.0]], np.float32), np.array([0]))
    >>> tangent_kernel_trace(risk, risk.parameters(), np.array([0]), np.random.default_rng(0)).tolist()
    [9.0, 0.0, 9.0, 0.0, 1.0, 1.0]
    """
    evaluator = risk.evaluator
    trace = torch.zeros_like(w)
    with evaluator.at(w) as at:
        for chunk in evaluator.chunks(rows):
            outputs = evaluator.infer(chunk)
            if not isinstance(outputs, Tensor):
                raise TypeError(f"The module's output is a {type(outputs).__name__}, not a single tensor.")
            for _ in range(n_draws):
                signs = torch.as_tensor(rng.choice((-1.0, 1.0), size=tuple(outputs.shape))).to(outputs)
                parts = torch.autograd.grad(outputs, at.leaves, signs, retain_graph=True, allow_unused=True)
                drawn = torch.zeros_like(w)
                evaluator.parameters.add_to(drawn, parts)
                trace += (drawn if along is None else along(drawn)).square()
    return trace / n_draws
