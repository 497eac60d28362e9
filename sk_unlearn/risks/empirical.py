"""The empirical risk of a skorch net over some rows, with its gradient and curvature products.

This is the only file of the package that differentiates. Everything else sees a function of one flat vector.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet, NeuralNetClassifier
from skorch.dataset import Dataset, unpack_data
from torch import Tensor, nn
from torch.autograd import grad
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils.data import DataLoader

logger = logging.getLogger("sk_unlearn")

# Bytes that the graphs kept by one linearisation may take; a single chunk takes at most a quarter of it.
MEMORY_BUDGET = 2**30
# On a processor activations that leave its cache cost more than the overhead of further chunks, unless the chunks get
# very small.
_CACHED_BYTES, _LEAST_ROWS = 2**24, 64
# A kept gradient graph holds the tensors saved by the forward pass, those of the backward pass, and their products.
_GRAPH_FACTOR = 4

# A mass below the rounding of any sum of masses, for a row that PyTorch gives a loss but no weight.
_NO_MASS = 1e-20

# Rows whose single gradients are taken in one backward pass: each pays for all of them, but not for another pass.
_SINGLE_ROWS = 16

# The kernels of scaled_dot_product_attention: how to ask and to say whether one may be used. The last is the plain one.
_ATTENTION = (
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
)
_MATHS = (False, False, False, True)

# Whether torch.autograd.grad differentiates what is given by its place in the graph.
_TAKES_EDGES = torch.torch_version.TorchVersion(torch.__version__) >= "2.5"

# Entries a parameter below which starting an operation costs more than copying them once more.
_SMALL = 2**14

Rows = NDArray[np.int64]


def flat_parameters(net: NeuralNet) -> Tensor:
    """Return a copy of the net's trainable parameters as one vector, in the order of ``module_.named_parameters()``."""
    return torch.cat([p.detach().reshape(-1) for p in net.module_.parameters() if p.requires_grad])


def weighted_loss(
    net: NeuralNet,
    get_loss: Callable[..., Tensor],
    y_pred: Any,
    y_true: Any,
    weight: Tensor,
    *,
    X: Any = None,
    training: bool = True,
) -> Tensor:
    """Return the training loss of a batch whose rows carry weights: a row of weight 2 counts as the row twice.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised; its criterion is made to give row losses for the time of the call.
    get_loss : callable
        The net's own, or what it was before it was replaced.
    y_pred, y_true, X, training
        As ``get_loss`` takes them.
    weight : Tensor of shape (n,)
        Finite and non-negative.

    Returns
    -------
    loss : Tensor of shape ()
        The mean by mass that :class:`EmpiricalRisk` takes over its rows; for a criterion that sums, the weighted sum.

    Raises
    ------
    ValueError
        If weights differ and ``get_loss`` returns a scalar all the same.
    """
    row_loss = _RowLoss(net, get_loss, batch_size=1)
    losses = row_loss(y_pred, y_true, X, len(weight), training)
    if losses.ndim == 0:
        _refuse_differing(bool((weight != weight[0]).any()))
        return losses
    weight = weight.to(losses)
    if row_loss.reduction == "sum":
        return losses @ weight
    masses = row_loss.label_masses(torch.as_tensor(y_true, device=losses.device))
    if masses is not None:
        weight = weight * masses.reshape(len(weight), -1).mean(1).to(losses)
    return losses @ weight / weight.sum().clamp_min(_NO_MASS)


class EmpiricalRisk:
    r"""The training objective of a skorch net over a set S of rows, as a function of the flat parameters.

    .. math:: F_S(w) = \frac{\sum_{i \in S} m_i \ell_i(w)}{\sum_{i \in S} m_i} + \frac12 \sum_j \lambda_j w_j^2

    ``w`` holds the trainable parameters (``requires_grad``) in the order of ``net.module_.named_parameters()``; a tied
    parameter counts once. Everything is evaluated in eval mode (no dropout, BatchNorm statistics fixed). After every
    call, failed or not, the net is as it was: parameters, ``.grad``, ``requires_grad``, buffers, train or eval mode.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised. Outputs come from ``net.infer`` and losses from ``net.get_loss(..., training=True)``, so that
        overrides of both are honoured: F is what the net was trained to minimise.
    X : ndarray, first axis rows
        As the net takes it, in the module's dtype. Stays on the host; chunks of it go to the net's device.
    y : ndarray of shape (n,) or (n, k)
        Encoded targets, in the dtype the criterion takes.
    sample_weight : ndarray of shape (n,), optional
        Finite and non-negative. A row of weight 2 is exactly the row twice.
    mask : bool ndarray of shape (n,), optional
        The rows that belong to S; None for all. Not copied: it must not change while the risk is in use.
    chunk_size : int, optional
        Rows evaluated at a time. None: chosen on first use, from the bytes that autograd saves per row, so that a
        chunk's graph takes about a quarter of ``MEMORY_BUDGET`` (1 GiB) at the most, and on a CPU what
        its cache holds. The attribute of the same name tells.

    Attributes
    ----------
    n_rows : int
        Rows in S.
    n_parameters : int
        Length d of the flat vector.
    parameter_slices : dict of str to slice
        Where each trainable parameter lies in the flat vector.
    dtype : torch.dtype
        Of the parameters, and of every vector returned.
    device : torch.device
        Of the parameters, and of every vector returned.

    Notes
    -----
    *Row losses and masses.* l_i is the criterion with ``reduction="none"``, averaged over a row's outputs. m_i is the
    sample weight, times for ``CrossEntropyLoss`` and ``NLLLoss`` the class weight of the row's label, and 0 for
    ``ignore_index``. F over all rows then equals PyTorch's own ``reduction="mean"``, label smoothing included. Where
    all masses are zero the data term is 0.

    *Criteria that cannot be taken apart.* If ``get_loss`` returns a scalar all the same (a criterion without
    ``reduction``, or an override that reduces), that scalar is taken as the mean over the rows of a chunk; sample
    weights that differ are then refused.

    *reduction="sum"*. The loss of a training batch is b times its mean, and that is l's scale here: it fixes the
    balance with the weight decay. b is the size of the first batch that the net was trained on, or its ``batch_size``
    before training. Class weights then multiply losses without entering the masses, as in PyTorch.

    *Weight decay.* lambda_j is the ``weight_decay`` of the parameter group in ``net.optimizer_``, 0 without an
    optimiser. A decoupled decay (AdamW, ``decoupled_weight_decay=True``) belongs to no risk that is minimised, so it
    counts as 0 here. Its pull at the fitted point is not lost: the training residual grad F_D(w0), which unlearning
    holds fixed, contains it.

    *Data.* With skorch's own ``Dataset`` and a plain ``DataLoader`` the arrays are sliced directly; otherwise rows go
    through ``net.get_dataset`` and ``net.get_iterator(training=False)``. Random augmentation there makes F noisy.

    *Modules that look at the whole batch* (BatchNorm without running statistics) make F depend on the chunk size.
    """

    def __init__(
        self,
        net: NeuralNet,
        X: NDArray[Any],
        y: NDArray[Any],
        sample_weight: NDArray[Any] | None = None,
        *,
        mask: NDArray[np.bool_] | None = None,
        chunk_size: int | None = None,
    ) -> None:
        n = len(X)
        if len(y) != n:
            raise ValueError(f"y must have one entry for each of the {n} rows of X, got {len(y)}.")
        if mask is not None and (mask.shape != (n,) or mask.dtype != np.bool_):
            raise ValueError(f"mask must be a bool array of shape ({n},), got {mask.dtype} of shape {mask.shape}.")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be None or at least 1, got {chunk_size}.")
        self.net = net
        self._X, self._y, self._mask = X, y, mask
        self._sample_weight = _checked_sample_weight(sample_weight, n)
        self.n_rows = n if mask is None else int(np.count_nonzero(mask))
        self._n_stored = n
        self._given_chunk_size = chunk_size
        self._slices_arrays = _slices_arrays(net, X, y)
        self._index_parameters(net)
        self._index_modules(net)
        self._decay = _weight_decay(net, self._parameters)
        # torch's MPS backend has no float64.
        self._sum_dtype = torch.float32 if self.device.type == "mps" else torch.float64
        self._row_loss = _RowLoss(net, net.get_loss, _batch_size(net, n))
        self._twice_differentiable, self._is_checked = True, False

    def _index_parameters(self, net: NeuralNet) -> None:
        named = [(name, p) for name, p in _uncompiled(net.module_).named_parameters() if p.requires_grad]
        if not named:
            raise ValueError("net.module_ has no trainable parameters: at least one must have requires_grad=True.")
        kinds = {(p.dtype, p.device) for _, p in named}
        if len(kinds) > 1 or not named[0][1].dtype.is_floating_point:
            raise ValueError(
                "The trainable parameters of net.module_ must share one real floating dtype and one device, "
                f"got {sorted(map(str, kinds))}."
            )
        self._parameters = [p for _, p in named]
        self._shapes = [p.shape for p in self._parameters]
        self._sizes = [p.numel() for p in self._parameters]
        ends = np.cumsum(self._sizes).tolist()
        self.n_parameters = int(ends[-1])
        self.parameter_slices = {
            name: slice(end - size, end) for (name, _), size, end in zip(named, self._sizes, ends, strict=True)
        }
        self.dtype, self.device = self._parameters[0].dtype, self._parameters[0].device

    def _index_modules(self, net: NeuralNet) -> None:
        modules = list(_uncompiled(net.module_).modules())
        index = {id(p): k for k, p in enumerate(self._parameters)}
        # The places that hold a parameter: several for a tied one, but one for a module reached by several names.
        # torch.func.functional_call gets the latter wrong: it leaves such a module without its own parameters.
        self._slots = [
            (m._parameters, name, index[id(p)])
            for m in modules
            for name, p in m._parameters.items()
            if id(p) in index  # neither None nor frozen
        ]
        self._buffers = [(m._buffers, name) for m in modules for name, b in m._buffers.items() if b is not None]
        self._rnns = [m for m in modules if isinstance(m, nn.RNNBase)]
        criterion = _uncompiled(net.criterion_)
        # Compiled code has no second derivative, and may hold on to the parameters it was compiled with.
        self._uncompiled = {"module_": _uncompiled(net.module_), "criterion_": criterion}
        self._modules = modules + (list(criterion.modules()) if isinstance(criterion, nn.Module) else [])

    # ------------------------------------------------------------------------------------------ what kind of risk it is

    @property
    def stored(self) -> EmpiricalRisk:
        """Itself: its rows are at hand."""
        return self

    @property
    def parts(self) -> list[tuple[float, EmpiricalRisk]]:
        """Itself alone, with a share of 1."""
        return [(1.0, self)]

    @property
    def holds_locally(self) -> bool:
        """False: it is evaluated over its rows wherever one asks."""
        return False

    # ------------------------------------------------------------------------------------------ rows and their masses

    @cached_property
    def mass(self) -> float:
        """The sum of m_i over S."""
        return self.mass_of(None)

    @cached_property
    def chunk_size(self) -> int:
        """Rows evaluated at a time."""
        if self._given_chunk_size is not None:
            return self._given_chunk_size
        fitting = MEMORY_BUDGET // (4 * _GRAPH_FACTOR * self._bytes_per_row)
        if self.device.type == "cpu":
            fitting = min(fitting, max(_LEAST_ROWS, _CACHED_BYTES // self._bytes_per_row))
        return max(1, fitting)

    def mass_of(self, rows: Rows | None) -> float:
        """Return the sum of m_i over rows: int64 indices into X, or None for all of S."""
        return float(self._masses(self._selected(rows)).sum())

    def sample(self, size: int, rng: np.random.Generator) -> Rows:
        """Draw rows of S uniformly, without replacement, at a cost that does not grow with the number of rows.

        Parameters
        ----------
        size : int
            How many; all of S, in order, when S has no more.
        rng : numpy.random.Generator

        Returns
        -------
        rows : int64 ndarray
            Indices into X.
        """
        if size >= self.n_rows:
            return self._row_indices(None)
        if self._mask is None:
            return rng.choice(self._n_stored, size=size, replace=False)
        from sk_unlearn.rows import sample_mask

        return sample_mask(self._mask, self.n_rows, size, rng)

    @property
    def weight_decay(self) -> Tensor:
        """The coefficient lambda_j of every entry of the flat vector, of shape (d,)."""
        if self._decay is None:
            return torch.zeros(self.n_parameters, dtype=self.dtype, device=self.device)
        return self._decay.clone()

    def inputs(self, rows: Rows | None = None) -> Iterator[tuple[Any, Tensor]]:
        """Give rows chunk by chunk: what ``net.infer`` takes, and the share of each row in the total mass."""
        for part in self._parts(rows):
            for chunk in self._read(part):
                yield chunk.x, chunk.shares

    def _row_indices(self, rows: Rows | None) -> Rows:
        if rows is not None:
            return rows
        return np.arange(self._n_stored) if self._mask is None else np.flatnonzero(self._mask)

    def _selected(self, rows: Rows | None) -> slice | Rows:
        """Rows as an index into X: a slice, which copies nothing, where that is possible."""
        if rows is None:
            return slice(0, self._n_stored) if self._mask is None else np.flatnonzero(self._mask)
        rows = np.asarray(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise TypeError(f"rows must be a vector of integer row indices, got {rows.dtype} of shape {rows.shape}.")
        return rows.astype(np.int64, copy=False)

    def _masses(self, selected: slice | Rows) -> NDArray[np.float64]:
        y = self._y[selected]
        masses = np.ones(len(y)) if self._sample_weight is None else self._sample_weight[selected]
        # The dtype is looked at first: from_numpy takes no strings, and only labels carry masses.
        shares = self._row_loss.label_masses(torch.from_numpy(_writable(y))) if y.dtype.kind in "iu" else None
        if shares is None:
            return masses
        return masses * shares.to(torch.float64).reshape(len(y), math.prod(y.shape[1:])).mean(1).numpy()

    # --------------------------------------------------------------------------------------------------- evaluation

    def parameters(self) -> Tensor:
        """Return a copy of the net's current trainable parameters, of shape (d,)."""
        return torch.cat([p.detach().reshape(-1) for p in self._parameters])

    def value(self, w: Tensor, rows: Rows | None = None) -> float:
        """Return F(w) over rows (int64 indices into X), or over all of S; the penalty is included."""
        with self._at(w, needs_grad=False) as at:
            total = torch.zeros((), dtype=self._sum_dtype, device=self.device)
            for part in self._parts(rows):
                for chunk in self._read(part):
                    total += self._weighted_loss(self.net.infer(chunk.x), chunk)
            return float(total) + self._penalty(at.point)

    def gradient(self, w: Tensor, rows: Rows | None = None) -> Tensor:
        """Return the gradient of F at w, of shape (d,)."""
        return self._value_and_gradient(w, rows)[1]

    def value_and_gradient(self, w: Tensor, rows: Rows | None = None) -> tuple[float, Tensor]:
        """Return F(w) and its gradient, at the cost of the gradient."""
        value, gradient = self._value_and_gradient(w, rows)
        return float(value) + self._penalty(w), gradient

    def losses(self, w: Tensor, rows: Rows | None = None) -> Tensor:
        """Return the row losses l_i(w), without masses and penalty.

        Parameters
        ----------
        w : Tensor of shape (d,)
        rows : int64 ndarray, optional
            Indices into X; None for all of S in order.

        Returns
        -------
        losses : Tensor of shape (len(rows),)
            Where ``get_loss`` returns a scalar, rows are evaluated one by one.
        """
        was_scalar = self._row_loss.is_scalar
        losses = [torch.zeros(0, dtype=self.dtype, device=self.device)]
        with self._at(w, needs_grad=False):
            for part in self._parts(rows, size=1 if was_scalar else self.chunk_size):
                for chunk in self._read(part):
                    losses.append(self._row_losses(self.net.infer(chunk.x), chunk).detach().reshape(-1))
                if self._row_loss.is_scalar != was_scalar:
                    break  # found out on the first chunk
        return torch.cat(losses) if self._row_loss.is_scalar == was_scalar else self.losses(w, rows)

    def penalty_gradient(self, w: Tensor) -> Tensor:
        """Return the gradient of the penalty alone, of shape (d,): what to take off where only the loss is meant."""
        return self._penalty_product(self._vector(w, "w"))

    def without_penalty(self, w: Tensor, value: float) -> float:
        """Return the mean loss in a value of F at w."""
        return value - self._penalty(w)

    def targets(self, rows: Rows | None = None) -> NDArray[Any]:
        """Return a copy of the targets of rows (int64 indices into X), or of all of S in order."""
        return self._y[self._selected(rows)].copy()

    def with_targets(self, y: NDArray[Any]) -> EmpiricalRisk:
        """Return the risk over the rows of S, in order, with other targets."""
        selected = self._selected(None)
        weight = None if self._sample_weight is None else self._sample_weight[selected]
        return EmpiricalRisk(self.net, self._X[selected], y, weight, chunk_size=self._given_chunk_size)

    def outputs(self, w: Tensor, rows: Rows | None = None) -> Tensor:
        """Return what the module gives at w for rows (int64 indices into X), or for all of S in order.

        Raises
        ------
        TypeError
            If the module's output is not a single tensor.
        """
        with self._at(w, needs_grad=False):
            outputs = [self.net.infer(chunk.x) for part in self._parts(rows) for chunk in self._read(part)]
        for output in outputs:
            _check_single(output)
        return torch.cat(outputs) if outputs else torch.zeros(0, dtype=self.dtype, device=self.device)

    def value_at_output(self, output: Tensor, rows: Rows | None = None) -> float:
        """Return the data term of F if the module gave every row the same output, of the shape of one row's."""
        total = torch.zeros((), dtype=self._sum_dtype, device=self.device)
        with self._at(self.parameters(), needs_grad=False):
            for part in self._parts(rows):
                for chunk in self._read(part):
                    total += self._weighted_loss(output.expand(len(chunk.shares), *output.shape), chunk)
        return float(total)

    def other_loss(
        self, w: Tensor, loss: Callable[[Tensor, Any, slice], Tensor], rows: Rows | None = None
    ) -> tuple[float, Tensor]:
        """Return the mean by mass over rows of another row loss than the net's, and its gradient; without penalty.

        Parameters
        ----------
        w : Tensor of shape (d,)
        loss : callable
            Takes the module's output for some rows, their targets, and which of the given rows they are (a slice);
            returns their losses, of shape (n,).
        rows : int64 ndarray, optional
            Indices into X; None for all of S in order.

        Returns
        -------
        value : float
        gradient : Tensor of shape (d,)
        """
        start = 0
        with self._at(w) as at:
            value = torch.zeros((), dtype=self._sum_dtype, device=self.device)
            gradient = torch.zeros_like(at.point)
            for part in self._parts(rows):
                for chunk in self._read(part):
                    stop = start + len(chunk.shares)
                    y = torch.as_tensor(chunk.y, device=self.device)
                    losses = loss(self.net.infer(chunk.x), y, slice(start, stop)).to(self._sum_dtype)
                    mean = losses @ chunk.shares
                    value += mean.detach()
                    self._add(gradient, grad(mean, at.leaves, allow_unused=True))
                    start = stop
        return float(value), gradient

    def row_gradients(self, w: Tensor, rows: Rows | None = None) -> Tensor:
        """Return what each row adds to the gradient of F over the given rows at w; the penalty is left out.

        Parameters
        ----------
        w : Tensor of shape (d,)
        rows : int64 ndarray, optional
            Indices into X; None for all of S in order. The result is as large as so many copies of the parameters.

        Returns
        -------
        gradients : Tensor of shape (len(rows), d)
            The gradients of the row losses times each row's share of the mass: their sum is the gradient of F.

        Raises
        ------
        ValueError
            If ``get_loss`` returns one number for a batch.
        """
        gradients = [torch.zeros(0, self.n_parameters, dtype=self.dtype, device=self.device)]
        with self._at(w) as at:
            for part in self._parts(rows, size=min(self.chunk_size, _SINGLE_ROWS)):
                for chunk in self._read(part):
                    losses = self._row_losses(self.net.infer(chunk.x), chunk)
                    if losses.ndim == 0:
                        raise ValueError(
                            "Gradients of single rows need a criterion that can be taken apart; get_loss of the net "
                            'gives one number for a batch. Use a criterion that has reduction="none".'
                        )
                    each = torch.diag(chunk.shares.to(losses))
                    gradients.append(self._joined(_vjp([losses], at.leaves, [each], batched=True), len(each)))
        return torch.cat(gradients)

    def linearise(self, w: Tensor, rows: Rows | None = None) -> Linearisation:
        """Return F's value, gradient and curvature products at w, all over the same rows."""
        return Linearisation(self, w, rows)

    def _value_and_gradient(self, w: Tensor, rows: Rows | None) -> tuple[Tensor, Tensor]:
        """Return the value without the penalty, left on the device, and the gradient with it."""
        with self._at(w) as at:
            value = torch.zeros((), dtype=self._sum_dtype, device=self.device)
            gradient = self._penalty_product(at.point)
            for part in self._parts(rows):
                for chunk in self._read(part):
                    losses, shares = self._losses_and_shares(self.net.infer(chunk.x), chunk)
                    value += _sum_of(losses, shares)
                    if losses.requires_grad:
                        self._add(gradient, grad(losses, at.leaves, shares.to(losses.dtype), allow_unused=True))
        return value, gradient

    def _penalty(self, w: Tensor) -> float:
        if self._decay is None:
            return 0.0
        w = torch.as_tensor(w, device=self.device).detach().to(self._sum_dtype)
        return 0.5 * float(self._decay.to(self._sum_dtype) @ w.square())

    def _penalty_product(self, v: Tensor) -> Tensor:
        return torch.zeros_like(v) if self._decay is None else self._decay * v

    def _vector(self, v: Tensor, name: str) -> Tensor:
        v = torch.as_tensor(v, dtype=self.dtype, device=self.device).detach()
        if v.shape != (self.n_parameters,):
            raise ValueError(f"{name} must be a vector of {self.n_parameters} entries, got shape {tuple(v.shape)}.")
        return v

    # --------------------------------------------------------------------------------------- parameters put in place

    @contextmanager
    def _at(self, w: Tensor, needs_grad: bool = True) -> Iterator[_Point]:
        """Put the parameters at w."""
        with torch.inference_mode(False), torch.set_grad_enabled(needs_grad):
            point = _Point(self, w, needs_grad)
            with self._substituted(point.leaves):
                yield point

    def _split(self, vector: Tensor) -> list[Tensor]:
        """Return the parts of a flat vector in the shapes of the parameters, without copying."""
        parts = vector.split_with_sizes(self._sizes)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _add(self, total: Tensor, parts: Sequence[Tensor | None]) -> None:
        """Add to a flat vector in place what is given for each parameter; None where it is zero."""
        if all(part is not None for part in parts) and len(parts) * _SMALL > self.n_parameters:
            # Small parameters: one addition, since starting one costs more than copying.
            total += torch.cat([cast(Tensor, part).reshape(-1) for part in parts])
            return
        for into, part in zip(self._split(total), parts, strict=True):
            if part is not None:
                into += part

    def _joined(self, parts: _PerParameter, n: int) -> Tensor:
        """Return n flat vectors, as rows, of n values given for each parameter; None where they are zero."""
        zero = torch.zeros((), dtype=self.dtype, device=self.device)
        pairs = zip(parts, self._sizes, strict=True)
        return torch.cat([zero.expand(n, size) if part is None else part.reshape(n, size) for part, size in pairs], 1)

    @contextmanager
    def _substituted(self, views: Sequence[Tensor]) -> Iterator[None]:
        training = [m for m in self._modules if m.training]
        parameters = [(store, name, store[name]) for store, name, _ in self._slots]
        buffers = [(store, name, store[name]) for store, name in self._buffers]
        # Recurrent layers keep a second list of their weights and refresh it in forward.
        rnn_caches = [{k: v for k, v in vars(m).items() if k.startswith("_flat_weight")} for m in self._rnns]
        # cuDNN's recurrent kernels have no second derivative, and would pack our views in place.
        compiled = {name: vars(self.net)[name] for name in self._uncompiled}
        without_cudnn = self._rnns and self.device.type == "cuda"
        attention = [enabled() for enabled, _ in _ATTENTION]
        try:
            vars(self.net).update(self._uncompiled)
            # Past Module.__setattr__, which takes microseconds, in a small module as long as its arithmetic.
            for m in training:
                vars(m)["training"] = False
            for store, name, k in self._slots:
                store[name] = cast(nn.Parameter, views[k])
            for store, name, buffer in buffers:
                store[name] = cast(Tensor, buffer).clone()
            _only_attention(_MATHS)  # the fused attention kernels have no second derivative
            with torch.backends.cudnn.flags(enabled=False) if without_cudnn else nullcontext():
                yield
        finally:
            _only_attention(attention)
            vars(self.net).update(compiled)
            for store, name, parameter in parameters:
                store[name] = parameter
            for store, name, buffer in buffers:
                store[name] = buffer
            for m, cache in zip(self._rnns, rnn_caches, strict=True):
                vars(m).update(cache)
            for m in training:
                vars(m)["training"] = True

    def _note_missing_derivative(self, error: RuntimeError) -> None:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise error
        self._twice_differentiable = False
        logger.warning("No second derivatives: curvature products fall back to central differences. (%s)", error)

    # ------------------------------------------------------------------------------------------------ rows to tensors

    def _parts(self, rows: Rows | None, size: int | None = None) -> list[_Part]:
        """Cut rows into chunks, each with its share of the total mass."""
        selected = self._selected(rows)
        masses = self._masses(selected)
        total = masses.sum()
        shares = masses / total if total > 0 else np.zeros_like(masses)
        n = len(shares)
        if n == 0:
            return []
        # Even chunks: a last one of a single row is slow, and breaks modules that squeeze.
        n_parts = math.ceil(n / (size or self.chunk_size))
        bounds = [n * k // n_parts for k in range(n_parts + 1)]
        if isinstance(selected, slice):  # of all rows, so that it starts at 0
            return [_Part(slice(a, b), shares[a:b]) for a, b in pairwise(bounds)]
        return [_Part(selected[a:b], shares[a:b]) for a, b in pairwise(bounds)]

    def _read(self, part: _Part) -> Iterator[_Chunk]:
        """Give the part's batches as the net would see them, with their shares of the mass on the device."""
        shares = torch.as_tensor(part.shares, dtype=self._sum_dtype, device=self.device)
        X, y = self._X[part.rows], self._y[part.rows]
        if self._slices_arrays:
            yield _Chunk(torch.from_numpy(_writable(X)), torch.from_numpy(_writable(y)), shares)
            return
        start = 0
        for batch in _batches(self.net, X, y):
            x, target = unpack_data(batch)
            stop = start + len(target)
            yield _Chunk(x, target, shares[start:stop])
            start = stop
        if start != len(y):
            raise ValueError(f"The iterator of net gave {start} of {len(y)} rows; it must give all of them, in order.")

    @cached_property
    def _bytes_per_row(self) -> int:
        """Bytes that autograd saves for one more row of a forward pass."""
        rows = self._row_indices(None)[:4]
        if len(rows) < 4:
            return 1
        return max(1, (self._saved_bytes(rows) - self._saved_bytes(rows[:2])) // 2)

    def _saved_bytes(self, rows: Rows) -> int:
        storages = {}

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        with self._at(self.parameters()), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            graphs = [
                self._weighted_loss(self.net.infer(chunk.x), chunk)
                for part in self._parts(rows, size=len(rows))
                for chunk in self._read(part)
            ]
            del graphs  # alive until here, so that no address is counted for two tensors
        return sum(storages.values())

    def _weighted_loss(self, output: Any, chunk: _Chunk) -> Tensor:
        """Return the chunk's part of the data term of F: a float64 scalar, since differences of F are compared."""
        losses, shares = self._losses_and_shares(output, chunk)
        losses = losses.to(self._sum_dtype)
        return losses * shares if losses.ndim == 0 else losses @ shares

    def _losses_and_shares(self, output: Any, chunk: _Chunk) -> tuple[Tensor, Tensor]:
        """Return l_i of the chunk's rows, and what each counts in F; or their mean, and what the chunk counts.

        For gradients: shares as what is pulled back from the losses leave fewer operations to differentiate again.
        """
        losses = self._row_losses(output, chunk)
        return losses, chunk.shares.sum() if losses.ndim == 0 else chunk.shares

    def _row_losses(self, output: Any, chunk: _Chunk) -> Tensor:
        losses = self._row_loss(output, chunk.y, chunk.x, len(chunk.shares), training=True)
        if losses.ndim == 0:
            _refuse_differing(self._weights_differ)
        return losses

    @cached_property
    def _weights_differ(self) -> bool:
        weights = None if self._sample_weight is None else self._sample_weight[self._selected(None)]
        return weights is not None and bool(np.any(weights != weights[0]))


class _RowLoss:
    """What ``get_loss`` makes of a batch, row by row: l_i, and PyTorch's own weight for each label."""

    def __init__(self, net: NeuralNet, get_loss: Callable[..., Tensor], batch_size: int) -> None:
        self.get_loss, self.batch_size = get_loss, batch_size
        self.criterion = _uncompiled(net.criterion_)
        reduction = getattr(self.criterion, "reduction", None)
        # A criterion that was built unreduced has an override of get_loss that reduces: leave the two alone.
        self.reduction = reduction if isinstance(self.criterion, nn.Module) and reduction != "none" else None
        self.is_scalar = False

    def __call__(self, output: Any, y: Any, x: Any, n: int, training: bool) -> Tensor:
        """Return l_i, of shape (n,); or their mean, of shape (), where get_loss gives no more."""
        if not self.is_scalar:
            with self._unreduced():
                loss = self.get_loss(output, y, X=x, training=training)
            if loss.ndim > 0 and loss.shape[0] == n:
                return loss if loss.ndim == 1 else loss.reshape(n, -1).mean(1)
            if loss.numel() != 1:
                raise ValueError(
                    f"get_loss of the net gave a loss of shape {tuple(loss.shape)} for {n} rows; it must be a scalar "
                    f"or have shape ({n},)."
                )
            self.is_scalar = True
        # With the criterion as it is, so that the mean is the one it takes itself.
        return self.get_loss(output, y, X=x, training=training).reshape(())

    def label_masses(self, target: Tensor) -> Tensor | None:
        """Return the weight by which PyTorch's mean counts each label; None where it counts all elements alike."""
        criterion = self.criterion
        if self.reduction != "mean" or not (_is(criterion, nn.CrossEntropyLoss) or _is(criterion, nn.NLLLoss)):
            return None
        if target.is_floating_point():  # class probabilities: PyTorch divides by the number of rows
            return None
        counted = target != criterion.ignore_index
        if criterion.weight is None:
            return counted.to(torch.get_default_dtype())
        weight = criterion.weight.detach().to(target.device)
        if getattr(criterion, "label_smoothing", 0.0) > 0:
            # Smoothing gives a row of weight 0 a loss although it has no mass.
            weight = weight.clamp_min(_NO_MASS)
        return weight[torch.where(counted, target, 0).long()] * counted

    def element_scale(self, n_elements: int) -> float:
        """Return by how much each of a row's loss elements counts in l_i, label masses apart."""
        if self.reduction == "sum":
            return float(self.batch_size)
        return 1.0 if self.reduction == "batchmean" else 1.0 / n_elements

    @property
    def _counts_rows_alike(self) -> bool:
        """Whether a row with one loss counts with its mass alone: ``ignore_index`` has a loss of 0 and no mass."""
        if self.reduction == "mean" and (_is(self.criterion, nn.CrossEntropyLoss) or _is(self.criterion, nn.NLLLoss)):
            return self.criterion.weight is None
        return self.element_scale(1) == 1.0

    @contextmanager
    def _unreduced(self) -> Iterator[None]:
        """Have the criterion give a loss for each row."""
        if self.reduction is None:
            yield
            return
        self.criterion.reduction = "none"
        hook = self.criterion.register_forward_hook(self._reduce_to_rows, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
            self.criterion.reduction = self.reduction

    def _reduce_to_rows(self, criterion: nn.Module, args: tuple[Any, ...], kwargs: Any, loss: Tensor) -> Tensor:
        """Forward hook. Inside the criterion, so that what an override of get_loss adds keeps its own scale."""
        if loss.ndim == 0:
            return loss
        if loss.ndim == 1 and self._counts_rows_alike:
            return loss  # as the division below would leave it, one operation less in every product
        loss = loss.reshape(len(loss), -1)
        target = args[1] if len(args) > 1 else kwargs.get("target")
        masses = self.label_masses(target) if isinstance(target, Tensor) else None
        if masses is not None:
            return loss.sum(1) / masses.reshape(len(loss), -1).sum(1).clamp_min(_NO_MASS)
        return loss.sum(1) * self.element_scale(loss.shape[1])


def _refuse_differing(weights_differ: bool) -> None:
    if weights_differ:
        raise ValueError(
            "sample_weight has differing entries, but the net's loss is one number per batch. Use a criterion that "
            'has reduction="none", and a get_loss that keeps its rows apart, or drop sample_weight.'
        )


class Linearisation:
    """F around one point w over one set of rows: value, gradient, and products with three curvature matrices.

    The graph of the gradient is kept, so that a product pays only for itself: about 2 gradients for the Hessian and
    4/3 for Gauss-Newton and Fisher. Graphs beyond ``MEMORY_BUDGET`` are rebuilt for each product instead.

    The penalty's diag(lambda) is part of all three, so that each is a curvature of F.

    Attributes
    ----------
    value : float
        F(w).
    gradient : Tensor of shape (d,)
    n_products : int
        Products taken so far, of all kinds.

    References
    ----------
    Pearlmutter, "Fast exact multiplication by the Hessian", 1994. Schraudolph, "Fast curvature matrix-vector products
    for second-order gradient descent", 2002. Martens, "New insights and perspectives on the natural gradient method",
    2020 (Fisher and Gauss-Newton).
    """

    def __init__(self, risk: EmpiricalRisk, w: Tensor, rows: Rows | None) -> None:
        self._risk = risk
        self._rows = rows
        self.n_products = 0
        with torch.inference_mode(False):
            self._at = _Point(risk, w)
            self.gradient = risk._penalty_product(self._at.point)
            value = torch.zeros((), dtype=risk._sum_dtype, device=risk.device)
            budget = MEMORY_BUDGET // (_GRAPH_FACTOR * risk._bytes_per_row)
            self._parts: list[list[_Graph] | _Part] = []
            with risk._substituted(self._at.leaves):
                for part in risk._parts(rows):
                    graphs = []
                    for graph in self._build(part):
                        value += graph.loss
                        risk._add(self.gradient, graph.take_gradient())
                        if budget >= len(part.shares):
                            graphs.append(graph)
                    budget -= len(part.shares)
                    self._parts.append(graphs or part)
        self.value = float(value) + risk._penalty(self._at.point)

    def hessian(self, v: Tensor) -> Tensor:
        """Return the Hessian's product with v, both of shape (d,).

        A module without second derivatives gets central differences of gradients, and a warning is logged once.
        """
        v = self._counted(v)
        if self._risk._twice_differentiable:
            try:
                return self._sum(v, _Graph.hessian)
            except RuntimeError as error:
                self._risk._note_missing_derivative(error)
        return self._difference(v)

    def hessian_rows(self, V: Tensor) -> Tensor:
        """Return the Hessian's product with each row of V, both of shape (k, d), in one batched backward pass."""
        if not self._risk._twice_differentiable:
            return torch.stack([self.hessian(v) for v in V]) if len(V) else torch.zeros_like(V)
        self.n_products += len(V)
        n = len(V)
        with torch.inference_mode(False), self._risk._substituted(self._at.leaves):
            total = self._risk._penalty_product(V)
            columns = zip(V.split_with_sizes(self._risk._sizes, 1), self._risk._shapes, strict=True)
            vectors = [part.reshape(n, *shape) for part, shape in columns]
            for part in self._parts:
                for graph in self._build(part) if isinstance(part, _Part) else part:
                    total += self._risk._joined(graph.hessian_rows(vectors), n)
        return total

    def ggn(self, v: Tensor) -> Tensor:
        """Return the generalised Gauss-Newton matrix's product with v, both of shape (d,).

        The matrix is that of J^T H_L J, with J the Jacobian of the output and H_L the Hessian of the loss in the
        output. A term of ``get_loss`` that depends on the parameters other than through the output is not in it.

        Raises
        ------
        TypeError
            If the module's output is not a single tensor.
        """
        return self._sum(self._counted(v), _Graph.ggn)

    def fisher(self, v: Tensor) -> Tensor:
        """Return the Fisher matrix's product with v, both of shape (d,).

        The mean over rows, by mass, of E[grad l_i(c) grad l_i(c)^T] with label c drawn from the model's own
        distribution: categorical for ``CrossEntropyLoss`` and ``NLLLoss`` (label smoothing is no part of it),
        Bernoulli for ``BCEWithLogitsLoss``, Gaussian for ``MSELoss`` (where it equals Gauss-Newton). Several
        independent outputs a row count as l_i does: their mean.

        Raises
        ------
        NotImplementedError
            For any other criterion: it does not say what the model's distribution is.
        TypeError
            If the module's output is not a single tensor.
        """
        return self._sum(self._counted(v), _Graph.fisher)

    def _counted(self, v: Tensor) -> Tensor:
        v = self._risk._vector(v, "v")
        self.n_products += 1
        return v

    def _build(self, part: _Part) -> Iterator[_Graph]:
        return (_Graph(self._risk, self._at, chunk) for chunk in self._risk._read(part))

    def _sum(self, v: Tensor, product: Callable[[_Graph, list[Tensor]], _PerParameter]) -> Tensor:
        """One product summed over the rows, and the penalty's."""
        with torch.inference_mode(False):
            v = v.clone() if v.is_inference() else v
            total = self._risk._penalty_product(v)
            # In place during the backward pass too: checkpointed modules run forward again there.
            parts = self._risk._split(v)
            with self._risk._substituted(self._at.leaves):
                for part in self._parts:
                    for graph in self._build(part) if isinstance(part, _Part) else part:
                        self._risk._add(total, product(graph, parts))
        return total

    def _difference(self, v: Tensor) -> Tensor:
        return _central_difference(lambda w: self._risk.gradient(w, self._rows), self._at.point, v)


class _Part(NamedTuple):
    """Rows to evaluate together, and each one's share of the total mass."""

    rows: slice | Rows
    shares: NDArray[np.float64]


class _Chunk(NamedTuple):
    """Rows as tensors, as the net's iterator would give them, and their shares of the total mass."""

    x: Any
    y: Any
    shares: Tensor


class _Point:
    """A flat vector, and its parts as leaves of autograd that share its memory."""

    def __init__(self, risk: EmpiricalRisk, w: Tensor, needs_grad: bool = True) -> None:
        self.point = risk._vector(w, "w").clone()
        # Leaves rather than views of one leaf: its gradient would be put together anew from theirs, chunk by chunk.
        self.leaves = [part.detach().requires_grad_(needs_grad) for part in risk._split(self.point)]


# One entry for each parameter; None where it is zero.
_PerParameter = Sequence[Tensor | None]


class _Graph:
    """The kept passes of one chunk. What only Gauss-Newton or Fisher needs is built when first asked for."""

    def __init__(self, risk: EmpiricalRisk, at: _Point, chunk: _Chunk) -> None:
        self._risk, self._at, self._chunk = risk, at, chunk
        self._output = risk.net.infer(chunk.x)
        losses, shares = risk._losses_and_shares(self._output, chunk)
        self.loss = _sum_of(losses, shares)
        self._gradient: Sequence[Tensor | GradientEdge | None] = [None] * len(at.leaves)
        if not losses.requires_grad:
            return
        twice = risk._twice_differentiable
        gradient = self._gradient = grad(
            losses, at.leaves, shares.to(losses.dtype), create_graph=twice, retain_graph=True, allow_unused=True
        )
        if twice and not risk._is_checked:
            risk._is_checked = True
            if _is_cut(gradient):
                risk._note_missing_derivative(RuntimeError("a function of the module is once_differentiable"))

    def take_gradient(self) -> _PerParameter:
        """Return the gradient without its graph, and keep the graph without its values: d numbers less a chunk."""
        gradient = [part.detach() if isinstance(part, Tensor) else None for part in self._gradient]
        self._gradient = _without_values(self._gradient)
        return gradient

    def hessian(self, v: list[Tensor]) -> _PerParameter:
        return _vjp(self._gradient, self._at.leaves, v)

    def hessian_rows(self, V: list[Tensor]) -> _PerParameter:
        return _vjp(self._gradient, self._at.leaves, V, batched=True)

    def ggn(self, v: list[Tensor]) -> _PerParameter:
        return self._pulled_back(v, self._loss_hessian)

    def fisher(self, v: list[Tensor]) -> _PerParameter:
        return self._pulled_back(v, self._fisher_metric)

    def _pulled_back(self, v: list[Tensor], metric: Callable[[Tensor], Tensor]) -> _PerParameter:
        """J^T metric(J v)."""
        if not isinstance(self._output, Tensor):
            raise TypeError(
                "Gauss-Newton and Fisher products need a module whose output is a single tensor, "
                f"got {type(self._output).__name__}; hessian has no such limit."
            )
        if not self._output.requires_grad:
            return [None] * len(v)
        return _vjp([self._output], self._at.leaves, [metric(self._push_forward(v))])

    def _push_forward(self, v: list[Tensor]) -> Tensor:
        """J v, as the derivative of u -> J^T u."""
        if self._risk._twice_differentiable:
            try:
                pulled, seed = self._pull
                pushed = _vjp(pulled, [seed], v)[0]
                return torch.zeros_like(self._output, requires_grad=False) if pushed is None else pushed
            except RuntimeError as error:
                self._risk._note_missing_derivative(error)
        return _central_difference(self._infer_at, self._at.point, torch.cat([part.reshape(-1) for part in v]))

    @cached_property
    def _pull(self) -> tuple[Sequence[Tensor | GradientEdge | None], Tensor]:
        seed = torch.zeros_like(self._output, requires_grad=True)
        pulled = grad(self._output, self._at.leaves, seed, create_graph=True, allow_unused=True)
        return _without_values(pulled), seed

    def _infer_at(self, w: Tensor) -> Tensor:
        with self._risk._at(w, needs_grad=False):
            return cast(Tensor, self._risk.net.infer(self._chunk.x))

    def _loss_hessian(self, u: Tensor) -> Tensor:
        gradient, output = self._output_gradient
        product = _vjp([gradient], [output], [u])[0]
        return torch.zeros_like(u) if product is None else product

    @cached_property
    def _output_gradient(self) -> tuple[Tensor, Tensor]:
        """The gradient of the loss in the output, with its graph, and the output cut from the module."""
        output = self._output.detach().requires_grad_()
        losses, shares = self._risk._losses_and_shares(output, self._chunk)
        return grad(losses, output, shares.to(losses.dtype), create_graph=True)[0], output

    def _fisher_metric(self, u: Tensor) -> Tensor:
        criterion = self._risk._row_loss.criterion
        output = self._output.detach()
        if _is(criterion, nn.MSELoss):
            return self._loss_hessian(u)
        if _is(criterion, nn.CrossEntropyLoss):
            p = output.softmax(1)
            return self._label_coefficients * (p * u - p * (p * u).sum(1, keepdim=True))
        if _is(criterion, nn.NLLLoss):
            if isinstance(self._risk.net, NeuralNetClassifier):  # takes probabilities, and logs of p + eps
                return self._label_coefficients * output / (output + torch.finfo(output.dtype).eps).square() * u
            return self._label_coefficients * output.exp() * u
        if _is(criterion, nn.BCEWithLogitsLoss):
            return self._bernoulli_metric(output, criterion) * u
        raise NotImplementedError(
            f"The Fisher matrix is known for CrossEntropyLoss, NLLLoss, BCEWithLogitsLoss and MSELoss, not for "
            f"{type(criterion).__name__}; use ggn, the Gauss-Newton matrix, which any criterion has."
        )

    @cached_property
    def _label_coefficients(self) -> Tensor:
        """What each label's term counts in F, of shape (n, 1, ...): the classes are along the second axis."""
        output, y, shares = self._output, torch.as_tensor(self._chunk.y, device=self._risk.device), self._chunk.shares
        n, positions = len(output), output.shape[2:]
        masses = self._risk._row_loss.label_masses(y)
        if masses is None:
            parts = shares.new_full((n, math.prod(positions)), self._risk._row_loss.element_scale(math.prod(positions)))
        else:
            masses = masses.to(shares.dtype).reshape(n, -1)
            parts = masses / masses.sum(1, keepdim=True).clamp_min(_NO_MASS)
        return (shares[:, None] * parts).reshape(n, 1, *positions).to(output.dtype)

    def _bernoulli_metric(self, output: Tensor, criterion: nn.BCEWithLogitsLoss) -> Tensor:
        """Return the expected square of dl/do for a label drawn from the model: p (1 - p) where no weights are set."""
        p = output.sigmoid()
        positive = 1.0 if criterion.pos_weight is None else criterion.pos_weight
        square = p * (positive * (1 - p)).square() + (1 - p) * p.square()
        if criterion.weight is not None:
            square = square * criterion.weight
        n = len(output)
        coefficients = self._chunk.shares * self._risk._row_loss.element_scale(output[0].numel())
        return coefficients.to(output.dtype).reshape(n, *[1] * (output.ndim - 1)) * square


def _check_single(output: Any) -> None:
    if not isinstance(output, Tensor):
        raise TypeError(f"The module's output must be a single tensor, got {type(output).__name__}.")


def _sum_of(losses: Tensor, shares: Tensor) -> Tensor:
    """Return the weighted sum of losses in the dtype of the weights, without its graph."""
    losses = losses.detach().to(shares.dtype)
    return losses * shares if losses.ndim == 0 else losses @ shares


def _without_values(outputs: Sequence[Tensor | GradientEdge | None]) -> list[Tensor | GradientEdge | None]:
    """Return where outputs stand in the graph, so that their values can be freed; None where there is no graph."""
    attached = [part if isinstance(part, Tensor) and part.requires_grad else None for part in outputs]
    if not _TAKES_EDGES:
        return list(attached)
    return [None if part is None else get_gradient_edge(part) for part in attached]


def _vjp(
    outputs: Sequence[Tensor | GradientEdge | None],
    inputs: Sequence[Tensor],
    v: Sequence[Tensor],
    *,
    batched: bool = False,
) -> _PerParameter:
    """Return the product with the transposed Jacobian, for each input; None where nothing depends on it.

    If batched, the first axis of v, and of what is returned, counts vectors.
    """
    pairs = [
        (output, u)
        for output, u in zip(outputs, v, strict=True)
        if output is not None and (not isinstance(output, Tensor) or output.requires_grad)
    ]
    if not pairs:
        return [None] * len(inputs)
    ends, vectors = zip(*pairs, strict=True)
    return grad(ends, inputs, vectors, retain_graph=True, allow_unused=True, is_grads_batched=batched)


def _is_cut(gradient: _PerParameter) -> bool:
    """Return whether the graph of a gradient passes a function marked ``once_differentiable``.

    PyTorch puts a node there that raises, but on a dead end: ``torch.autograd.grad`` does not visit it, and leaves its
    part of the second derivative out without a word.
    """
    seen, waiting = set(), [part.grad_fn for part in gradient if part is not None]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("::Error"):
            return True
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions)
    return False


def _central_difference(function: Callable[[Tensor], Tensor], w: Tensor, v: Tensor) -> Tensor:
    """Return the derivative of a function at w along v."""
    # Balances the truncation error, of order step^2, with rounding, of order eps / step.
    step = torch.finfo(v.dtype).eps ** (1 / 3) * max(1.0, float(w.norm())) / (float(v.norm()) or 1.0)
    return (function(w + step * v) - function(w - step * v)) / (2 * step)


def _only_attention(enabled: Sequence[bool]) -> None:
    # As torch.nn.attention.sdpa_kernel does, which takes longer than a product with a small net's parameters.
    for (_, enable), on in zip(_ATTENTION, enabled, strict=True):
        enable(on)


def _uncompiled(module: Any) -> Any:
    """Return the module that torch.compile was given, or the module itself."""
    return getattr(module, "_orig_mod", module)


def _is(criterion: Any, kind: type[nn.Module]) -> bool:
    """Whether a criterion computes what this class of torch.nn computes; a subclass may compute something else."""
    return isinstance(criterion, kind) and type(criterion).forward is kind.forward


def _writable(a: NDArray[Any]) -> NDArray[Any]:
    """Return the array, copied where torch.from_numpy would refuse it or warn."""
    return a if a.flags.writeable and a.flags.c_contiguous else a.copy(order="C")


def _checked_sample_weight(sample_weight: Any, n: int) -> NDArray[np.float64] | None:
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n,):
        raise ValueError(f"sample_weight must have shape ({n},), one entry a row of X; got {weights.shape}.")
    if not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise ValueError("sample_weight must be finite and non-negative.")
    return weights


def _weight_decay(net: NeuralNet, parameters: list[nn.Parameter]) -> Tensor | None:
    """Return the coupled weight decay of each entry of the flat vector, or None where all are zero."""
    optimizer = getattr(net, "optimizer_", None)
    decay = {}
    for group in getattr(optimizer, "param_groups", []):
        if not _is_decoupled(optimizer, group):
            decay.update({id(p): float(group.get("weight_decay", 0.0)) for p in group["params"]})
    values = [decay.get(id(p), 0.0) for p in parameters]
    if not any(values):
        return None
    return torch.cat([torch.full_like(p, v).reshape(-1) for p, v in zip(parameters, values, strict=True)]).detach()


def _is_decoupled(optimizer: Any, group: dict[str, Any]) -> bool:
    # AdamW had no flag in its groups before it became an Adam; Adafactor and Muon have none either.
    names = {kind.__name__ for kind in type(optimizer).__mro__ if kind.__module__.startswith("torch.optim")}
    return bool(group.get("decoupled_weight_decay")) or not names.isdisjoint({"AdamW", "Adafactor", "Muon"})


def _batch_size(net: NeuralNet, n_rows: int) -> int:
    """Return the size of the net's training batches."""
    try:
        return int(net.history[0, "batches", 0, "train_batch_size"])
    except (AttributeError, IndexError, KeyError):
        size = int(net.get_params_for("iterator_train").get("batch_size", net.batch_size))
        return n_rows if size == -1 else size


def _slices_arrays(net: NeuralNet, X: Any, y: Any) -> bool:
    """Whether a batch is just a slice of X and of y, so that datasets and iterators can be passed by."""
    arrays = all(isinstance(a, np.ndarray) and a.dtype.kind in "biufc" for a in (X, y))
    plain = (
        net.dataset is Dataset
        and net.iterator_valid is DataLoader
        and type(net).get_dataset is NeuralNet.get_dataset
        and type(net).get_iterator is NeuralNet.get_iterator
        and not net.get_params_for("dataset")
        and "collate_fn" not in net.get_params_for("iterator_valid")
    )
    return arrays and plain


def _batches(net: NeuralNet, X: Any, y: Any) -> Any:
    """Return the rows as batches of the net's own dataset and iterator."""
    dataset = net.get_dataset(X, y)
    iterator = net.get_iterator(dataset, training=False)
    # A DataLoader may shuffle, drop rows or start processes; only what it makes of a list of rows is wanted.
    if type(iterator) is DataLoader and hasattr(dataset, "__len__") and len(dataset) == len(y):
        return [iterator.collate_fn([dataset[i] for i in range(len(dataset))])]
    return iterator
