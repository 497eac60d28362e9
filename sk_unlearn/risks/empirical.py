"""The empirical risk of a skorch net over some rows: value, gradient, and what else is asked of it at one point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial, reduce
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor
from torch.autograd import grad

from sk_unlearn import distributed
from sk_unlearn.risks._autograd import vjp
from sk_unlearn.risks._evaluation import Evaluator, sum_of
from sk_unlearn.risks._input_watch import InputWatch
from sk_unlearn.risks._row_loss import computes_as, row_masses, weighted_loss
from sk_unlearn.risks._rows import Chunk, Rows, checked_sample_weight
from sk_unlearn.risks._wide import wide
from sk_unlearn.risks.layer_inputs import LayerInputs
from sk_unlearn.risks.linearisation import Linearisation
from sk_unlearn.utils._lazy import cached_property
from sk_unlearn.utils._twins import is_twin, twin

__all__ = ["EmpiricalRisk", "Linearisation", "Rows", "computes_as", "flat_parameters", "row_masses", "weighted_loss"]

# Rows whose single gradients are taken in one backward pass: each pays for all of them, but not for another pass.
_SINGLE_ROWS = 16

_Found = TypeVar("_Found")


def flat_parameters(net: NeuralNet) -> Tensor:
    """Return a copy of the net's trainable parameters as one vector, in the order of ``module_.named_parameters()``.

    Those in bfloat16 come in float32, in which requests are solved.
    """
    return wide(torch.cat([p.detach().reshape(-1) for p in net.module_.parameters() if p.requires_grad]))


class EmpiricalRisk:
    r"""The training objective of a skorch net over a set S of rows, as a function of the flat parameters.

    .. math:: F_S(w) = \frac{\sum_{i \in S} m_i \ell_i(w)}{\sum_{i \in S} m_i} + \frac12 \sum_j \lambda_j w_j^2

    ``w`` holds the trainable parameters (``requires_grad``) in the order of ``net.module_.named_parameters()``; a tied
    parameter counts once. Everything is evaluated in eval mode (no dropout, BatchNorm statistics fixed). The net itself
    takes no part: a second set of modules over the same tensors does, so that the net predicts what it did while an
    evaluation is under way, and whatever ends that. What training or a commit changes in those tensors, F follows.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised. Outputs come from ``net.infer`` and losses from ``net.get_loss(..., training=True)``, so that
        overrides of both are honoured: F is what the net was trained to minimise.
    X : ndarray, first axis rows, or SparseRows
        As the net takes it, in the module's dtype. A structured array holds rows of several parts. Stays on the host;
        chunks of it go to the net's device.
    y : ndarray of shape (n,) or (n, k)
        Encoded targets, in the dtype the criterion takes.
    sample_weight : ndarray of shape (n,), optional
        Finite and non-negative. A row of weight 2 is exactly the row twice.
    mask : bool ndarray of shape (n,), optional
        The rows that belong to S; None for all. Not copied: it must not change while the risk is in use.
    mass : float, optional
        The sum of m_i over S, where it is known: then nothing is summed, nor are weights looked at that were before.
    chunk_size : int, optional
        Rows evaluated at a time. None: chosen on first use, from the bytes that autograd saves per row, so that a
        chunk's graph takes about a quarter of ``memory_budget`` at the most, and on a CPU what its cache holds. The
        attribute of the same name tells.
    memory_budget : int, optional
        Bytes that the graphs kept by one linearisation may take. None: 2**30, and on a CUDA device an eighth of its
        memory if that is more, or on a CPU an eighth of a limit on the memory of the process (``RLIMIT_AS``, or that of
        its control group) if that is less.

    Attributes
    ----------
    net : skorch.NeuralNet
        The net's twin, with modules of its own; itself, where it is a twin already.
    X, y, sample_weight : ndarray or None
        As given.
    evaluator : Evaluator
        Reads the rows and runs the net; for the pictures of curvature in this folder.
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
    through ``net.get_dataset`` and ``net.get_iterator(training=False)``.

    *Random numbers* drawn on the way (dropout that stays on in eval mode, noise in ``forward``, augmentation in a data
    set) come out the same at every evaluation of a chunk, so that F is a function of w. The generators of Python,
    NumPy and PyTorch are seeded for it, and are afterwards where they were. A generator that a module or data set holds
    itself is its own affair. What a row is given depends on its place in a chunk, so that risks over parts of the rows
    then add up to that over all of them on average only.

    *Modules that look at the whole batch* (BatchNorm without running statistics) make F depend on the chunk size.
    """

    def __init__(
        self,
        net: NeuralNet,
        X: Any,
        y: NDArray[Any],
        sample_weight: NDArray[Any] | None = None,
        *,
        mask: NDArray[np.bool_] | None = None,
        mass: float | None = None,
        chunk_size: int | None = None,
        memory_budget: int | None = None,
    ) -> None:
        net = net if is_twin(net) else twin(net)
        self.net: NeuralNet = net
        checked = sample_weight if mass is not None else checked_sample_weight(sample_weight, len(X))
        self.evaluator: Evaluator = Evaluator(net, X, y, checked, mask, chunk_size, memory_budget)
        if mass is not None:
            vars(self)["mass"] = mass
        self._stored, self._flat = self.evaluator.rows, self.evaluator.parameters
        self.X: Any = X
        self.y: NDArray[Any] = y
        self.sample_weight: NDArray[Any] | None = self._stored.sample_weight
        self.n_rows: int = self._stored.n
        self.n_parameters: int = self._flat.n
        self.parameter_slices: dict[str, slice] = self._flat.slices
        self.dtype: torch.dtype = self._flat.dtype
        self.device: torch.device = self._flat.device

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

    @property
    def chunk_size(self) -> int:
        """Rows evaluated at a time."""
        return self.evaluator.chunk_size

    def graph_bytes(self, n_rows: int) -> int:
        """Return the bytes that a linearisation over so many rows takes at the most, vectors like w left out."""
        return self.evaluator.graph_bytes(min(n_rows, self.n_rows))

    def mass_of(self, rows: Rows | None) -> float:
        """Return the sum of m_i over rows: int64 indices into X, or None for all of S."""
        return float(self._stored.masses(self._stored.selected(rows)).sum())

    @property
    def draws(self) -> bool:
        """Whether the evaluations so far have drawn random numbers (see the notes)."""
        return self.evaluator.draws

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
        return self._stored.sample(size, rng)

    @property
    def weight_decay(self) -> Tensor:
        """The coefficient lambda_j of every entry of the flat vector, of shape (d,)."""
        if self._flat.decay is None:
            return torch.zeros(self.n_parameters, dtype=self.dtype, device=self.device)
        return self._flat.decay.clone()

    def inputs(self, rows: Rows | None = None) -> Iterator[tuple[Any, Tensor]]:
        """Give rows chunk by chunk: what ``net.infer`` takes, and the share of each row in the total mass."""
        for chunk in self.evaluator.chunks(rows):
            yield chunk.x, chunk.shares

    # --------------------------------------------------------------------------------------------------- evaluation

    def parameters(self) -> Tensor:
        """Return a copy of the net's current trainable parameters, of shape (d,)."""
        return self._flat.current()

    def value(self, w: Tensor, rows: Rows | None = None) -> float:
        """Return F(w) over rows (int64 indices into X), or over all of S; the penalty is included."""
        with self.evaluator.at(w, needs_grad=False) as at:
            total = self.evaluator.zero()
            with self.evaluator.summed(total):
                for chunk in self.evaluator.own_chunks(rows):
                    total += self.evaluator.weighted_loss(self.evaluator.infer(chunk), chunk)
            return self._flat.with_penalty(total, at.point)

    def gradient(self, w: Tensor, rows: Rows | None = None) -> Tensor:
        """Return the gradient of F at w, of shape (d,)."""
        return self._value_and_gradient(w, rows)[1]

    def value_and_gradient(self, w: Tensor, rows: Rows | None = None) -> tuple[float, Tensor]:
        """Return F(w) and its gradient, at the cost of the gradient."""
        value, gradient = self._value_and_gradient(w, rows)
        return self._flat.with_penalty(value, w), gradient

    def value_gradient_and_inputs(self, w: Tensor) -> tuple[float, Tensor, LayerInputs | None]:
        """Return F(w), its gradient, and what the rows of S put into each linear map of the module.

        Returns
        -------
        value : float
        gradient : Tensor of shape (d,)
        inputs : LayerInputs or None
            None where a row's part in them is not the same at every evaluation, because random numbers are drawn.
        """
        watch = InputWatch()
        value, gradient = self._value_and_gradient(w, None, watch)
        return self._flat.with_penalty(value, w), gradient, self._inputs_seen(watch, None)

    def layer_inputs(self, w: Tensor, rows: Rows | None = None) -> LayerInputs | None:
        """Return what rows put into each linear map at w, at the cost of a forward pass; None as above.

        Parameters
        ----------
        w : Tensor of shape (d,)
        rows : int64 ndarray, optional
            Indices into X; None for all of S.
        """
        watch = InputWatch()
        with self.evaluator.at(w) as at:
            for chunk in self.evaluator.own_chunks(rows):
                with watch.of(at.leaves, self.net.module_):
                    self.evaluator.row_losses(self.evaluator.infer(chunk), chunk)
        return self._inputs_seen(watch, rows)

    def _inputs_seen(self, watch: InputWatch, rows: Rows | None) -> LayerInputs | None:
        """Return what a watch saw of rows, in all processes that hold some of them."""
        if self.draws:
            return None
        if not self._stored.is_spread:
            return watch.result()
        seen = [watch.result()] if self.evaluator.own_cut(rows) else []
        found = [inputs for theirs in distributed.gather(seen) for inputs in theirs]
        if not found:
            return watch.result()
        return None if any(each is None for each in found) else reduce(LayerInputs.plus, found)

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
        evaluator, row_loss = self.evaluator, self.evaluator.row_loss
        was_scalar = row_loss.is_scalar
        losses = [torch.zeros(0, dtype=self.dtype, device=self.device)]
        with evaluator.at(w, needs_grad=False):
            for chunk in evaluator.chunks(rows, size=1 if was_scalar else None):
                losses.append(evaluator.row_losses(evaluator.infer(chunk), chunk).detach().reshape(-1))
                if row_loss.is_scalar != was_scalar:
                    break  # found out on the first chunk
        return torch.cat(losses) if row_loss.is_scalar == was_scalar else self.losses(w, rows)

    def penalty_gradient(self, w: Tensor) -> Tensor:
        """Return the gradient of the penalty alone, of shape (d,): what to take off where only the loss is meant."""
        return self._flat.penalty_product(self._flat.checked(w, "w"))

    def without_penalty(self, w: Tensor, value: float) -> float:
        """Return the mean loss in a value of F at w."""
        return value - self._flat.penalty(w)

    def targets(self, rows: Rows | None = None) -> NDArray[Any]:
        """Return a copy of the targets of rows (int64 indices into X), or of all of S in order."""
        return self.y[self._stored.selected(rows)].copy()

    def with_targets(self, y: NDArray[Any], *, X: Any = None, rows: Rows | None = None) -> EmpiricalRisk:
        """Return the risk over rows (indices into X), or over all of S in order, with other targets.

        Where an X is given they have other content too. Weights stay with the rows.
        """
        selected, evaluator = self._stored.selected(rows), self.evaluator
        weight = None if self.sample_weight is None else self.sample_weight[selected]
        size, budget = evaluator.given_chunk_size, evaluator.memory_budget
        content = self.X[selected] if X is None else X
        return EmpiricalRisk(self.net, content, y, weight, chunk_size=size, memory_budget=budget)

    def of_net(self, net: NeuralNet) -> EmpiricalRisk:
        """Return the risk of another net over the same rows."""
        mask, budget = self._stored.mask, self.evaluator.memory_budget
        return EmpiricalRisk(net, self.X, self.y, self.sample_weight, mask=mask, memory_budget=budget)

    def outputs(self, w: Tensor, rows: Rows | None = None) -> Tensor:
        """Return what the module gives at w for rows (int64 indices into X), or for all of S in order.

        Raises
        ------
        TypeError
            If the module's output is not a single tensor.
        """
        with self.evaluator.at(w, needs_grad=False):
            outputs = [self.evaluator.infer(chunk) for chunk in self.evaluator.chunks(rows)]
        for output in outputs:
            if not isinstance(output, Tensor):
                raise TypeError(f"The module's output must be a single tensor, got {type(output).__name__}.")
        return torch.cat(outputs) if outputs else torch.zeros(0, dtype=self.dtype, device=self.device)

    def value_at_output(self, output: Tensor, rows: Rows | None = None) -> float:
        """Return the data term of F if the module gave every row the same output, of the shape of one row's."""
        total = self.evaluator.zero()
        with self.evaluator.at(self.parameters(), needs_grad=False):
            for chunk in self.evaluator.chunks(rows):
                total += self.evaluator.weighted_loss(output.expand(len(chunk.shares), *output.shape), chunk)
        return float(total)

    def other_loss(
        self, w: Tensor, loss: Callable[[Tensor, Any, slice], Tensor], rows: Rows | None = None
    ) -> tuple[Tensor, Tensor]:
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
        value : float64 Tensor of shape ()
            Left on the device, so that no step waits for a number that it does not need.
        gradient : Tensor of shape (d,)
        """
        start = 0
        with self.evaluator.at(w) as at:
            value = self.evaluator.zero()
            gradient = torch.zeros_like(at.point)
            for chunk in self.evaluator.chunks(rows):
                stop = start + len(chunk.shares)
                y = torch.as_tensor(chunk.y, device=self.device)
                losses = loss(self.evaluator.infer(chunk), y, slice(start, stop)).to(chunk.shares.dtype)
                mean = losses @ chunk.shares
                value += mean.detach()
                self._flat.add_to(gradient, grad(mean, at.leaves, allow_unused=True))
                start = stop
        return value, gradient

    def explore(
        self, w: Tensor, search: Callable[[Any, Any, Callable[[Any], Any]], _Found], rows: Rows | None = None
    ) -> list[_Found]:
        """Return what a search around the rows finds, chunk by chunk.

        Parameters
        ----------
        w : Tensor of shape (d,)
        search : callable
            Takes some rows as the net does, their targets, and the module at w: a function from rows like these to
            its output, to be differentiated by them.
        rows : int64 ndarray, optional
            Indices into X; None for all of S in order.
        """
        # Not by w: a graph of the inputs alone is the cheaper one.
        with self.evaluator.at(w, needs_grad=False), torch.enable_grad():
            return [search(chunk.x, chunk.y, partial(self._infer_at, chunk)) for chunk in self.evaluator.chunks(rows)]

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
        with self.evaluator.at(w) as at:
            for chunk in self.evaluator.chunks(rows, size=min(self.chunk_size, _SINGLE_ROWS)):
                losses = self.evaluator.row_losses(self.evaluator.infer(chunk), chunk)
                if losses.ndim == 0:
                    raise ValueError(
                        "Gradients of single rows need a criterion that can be taken apart; get_loss of the net "
                        'gives one number for a batch. Use a criterion that has reduction="none".'
                    )
                each = torch.diag(chunk.shares.to(losses))
                gradients.append(self._flat.joined(vjp([losses], at.leaves, [each], batched=True), len(each)))
        return torch.cat(gradients)

    def linearise(self, w: Tensor, rows: Rows | None = None) -> Linearisation:
        """Return F's value, gradient and curvature products at w, all over the same rows."""
        return Linearisation(self, w, rows)

    def _infer_at(self, chunk: Chunk, x: Any) -> Any:
        return self.evaluator.infer(chunk._replace(x=x))

    def _value_and_gradient(
        self, w: Tensor, rows: Rows | None, watch: InputWatch | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the value without the penalty, left on the device, and the gradient with it."""
        with self.evaluator.at(w) as at:
            value = self.evaluator.zero()
            gradient = self._flat.penalty_product(at.point)
            with self.evaluator.summed(value, gradient):
                for chunk in self.evaluator.own_chunks(rows):
                    with nullcontext() if watch is None else watch.of(at.leaves, self.net.module_):
                        losses, shares = self.evaluator.losses_and_shares(self.evaluator.infer(chunk), chunk)
                    value += sum_of(losses, shares)
                    if losses.requires_grad:
                        parts = grad(losses, at.leaves, shares.to(losses.dtype), allow_unused=True)
                        self._flat.add_to(gradient, parts)
        return value, gradient
