"""An empirical risk around one point: products with three curvature matrices, from graphs that are kept."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from skorch import NeuralNetClassifier
from torch import Tensor, nn
from torch.autograd import grad
from torch.autograd.graph import Node

from sk_unlearn.risks._autograd import (
    Ends,
    PerParameter,
    added_in_place,
    central_difference,
    is_cut,
    tracked,
    transposes,
    vjp,
    without_values,
)
from sk_unlearn.risks._evaluation import Evaluator, sum_of
from sk_unlearn.risks._parameters import Point
from sk_unlearn.risks._row_loss import NO_MASS, computes_as
from sk_unlearn.risks._rows import Chunk, Part, Rows
from sk_unlearn.utils._lazy import cached_property

if TYPE_CHECKING:
    from sk_unlearn.risks.empirical import EmpiricalRisk

__all__ = ["ChunkGraph", "Linearisation"]

logger: logging.Logger = logging.getLogger("sk_unlearn")

# Parameters from which on a vector as long as they are is worth a walk through the graph.
_LARGE = 2**20


class Linearisation:
    """F around one point w over one set of rows: value, gradient, and products with three curvature matrices.

    The graph of the gradient is kept, so that a product pays only for itself: about 2 gradients for the Hessian and
    4/3 for Gauss-Newton and Fisher. Graphs beyond the risk's ``memory_budget`` are rebuilt for each product instead.

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
        self._risk, self._rows = risk, rows
        self._evaluator = evaluator = risk.evaluator
        self._parameters = parameters = evaluator.parameters
        self.n_products: int = 0
        with torch.inference_mode(False):
            self._at = Point(parameters, w)
            self.gradient: Tensor = parameters.penalty_product(self._at.point)
            value = evaluator.zero()
            budget = evaluator.rows_kept
            self._parts: list[list[ChunkGraph] | Part] = []
            with evaluator.summed(value, self.gradient), parameters.in_place(self._at.leaves):
                for part in evaluator.own_cut(rows):
                    graphs = []
                    for graph in self._build(part):
                        value += graph.loss
                        parameters.add_to(self.gradient, graph.take_gradient())
                        if budget >= len(part.shares):
                            graphs.append(graph)
                    budget -= len(part.shares)
                    self._parts.append(graphs or part)
        evaluator.agree_on_derivatives()
        self.value: float = parameters.with_penalty(value, self._at.point)

    def hessian(self, v: Tensor) -> Tensor:
        """Return the Hessian's product with v, both of shape (d,).

        A module without second derivatives gets central differences of gradients, and a warning is logged once.
        """
        v = self._counted(v)
        if self._evaluator.twice_differentiable:
            try:
                return self._sum(v, ChunkGraph.hessian)
            except RuntimeError as error:
                self._evaluator.note_missing_derivative(error)
        return self._difference(v)

    def hessian_rows(self, V: Tensor) -> Tensor:
        """Return the Hessian's product with each row of V, both of shape (k, d), in one batched backward pass.

        One by one where the module has no second derivatives, or none that come in batches.
        """
        if self._evaluator.twice_differentiable:
            try:
                product = self._batch_of_products(V)
                self.n_products += len(V)
                return product
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:
                logger.debug("Hessian products are taken one by one. (%s)", error)
        return torch.stack([self.hessian(v) for v in V]) if len(V) else torch.zeros_like(V)

    def _batch_of_products(self, V: Tensor) -> Tensor:
        with torch.inference_mode(False), self._parameters.in_place(self._at.leaves):
            total = self._parameters.penalty_product(V)
            vectors = self._parameters.split_rows(V)
            with self._evaluator.summed(total):
                for part in self._parts:
                    for graph in self._graphs(part):
                        total += self._parameters.joined(graph.hessian_rows(vectors), len(V))
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
        return self._sum(self._counted(v), ChunkGraph.ggn)

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
        return self._sum(self._counted(v), ChunkGraph.fisher)

    def _counted(self, v: Tensor) -> Tensor:
        v = self._parameters.checked(v, "v")
        self.n_products += 1
        return v

    def _build(self, part: Part) -> Iterator[ChunkGraph]:
        return (ChunkGraph(self._evaluator, self._at, chunk) for chunk in self._evaluator.read(part))

    def _graphs(self, part: list[ChunkGraph] | Part) -> list[ChunkGraph] | Iterator[ChunkGraph]:
        """Return the kept graphs, or build those again that were not kept."""
        return self._build(part) if isinstance(part, Part) else part

    def _sum(self, v: Tensor, product: Callable[[ChunkGraph, list[Tensor]], PerParameter]) -> Tensor:
        """One product summed over the rows, and the penalty's."""
        with torch.inference_mode(False):
            v = v.clone() if v.is_inference() else v
            # Where processes add to it, it is there from the first.
            total = self._parameters.penalty_product(v) if self._evaluator.rows.is_spread else None
            # In place during the backward pass too: checkpointed modules run forward again there.
            parts = self._parameters.split(v)
            summed = nullcontext() if total is None else self._evaluator.summed(total)
            with summed, self._parameters.in_place(self._at.leaves):
                for graph in (graph for part in self._parts for graph in self._graphs(part)):
                    found = product(graph, parts)
                    # Not before: backward is the moment when most memory is held.
                    total = self._parameters.penalty_product(v) if total is None else total
                    self._parameters.add_to(total, found)
        return self._parameters.penalty_product(v) if total is None else total

    def _difference(self, v: Tensor) -> Tensor:
        return central_difference(lambda w: self._risk.gradient(w, self._rows), self._at.point, v)


class ChunkGraph:
    """The kept passes of one chunk. What only Gauss-Newton or Fisher needs is built when first asked for.

    Parameters
    ----------
    evaluator : Evaluator
        Its parameters are in place at the point, and must be whenever something is asked of the graph.
    at : Point
    chunk : Chunk

    Attributes
    ----------
    output : Tensor
        What the module gave, with its graph.
    loss : Tensor of shape ()
        The chunk's part of the data term.
    """

    def __init__(self, evaluator: Evaluator, at: Point, chunk: Chunk) -> None:
        self._evaluator, self._at, self._chunk = evaluator, at, chunk
        self.output: Any = evaluator.infer(chunk)
        losses, shares = evaluator.losses_and_shares(self.output, chunk)
        self.loss: Tensor = sum_of(losses, shares)
        self._gradient: Ends = [None] * len(at.leaves)
        self._transposes: list[Node] = []
        if not losses.requires_grad:
            return
        twice = evaluator.twice_differentiable
        pulled = shares.to(losses.dtype)
        if twice and not evaluator.is_checked:
            pulled = tracked(pulled)
        gradient = self._gradient = grad(
            losses, at.leaves, pulled, create_graph=twice, retain_graph=True, allow_unused=True
        )
        if twice:
            evaluator.check_second_derivatives(gradient)
            if evaluator.parameters.n >= _LARGE:
                self._transposes = transposes(gradient)

    def take_gradient(self) -> PerParameter:
        """Return the gradient without its graph, and keep the graph without its values: d numbers less a chunk."""
        gradient = [part.detach() if isinstance(part, Tensor) else None for part in self._gradient]
        self._gradient = without_values(self._gradient)
        return gradient

    def hessian(self, v: list[Tensor]) -> PerParameter:
        """Multiply the Hessian of the chunk's loss with v, given one tensor a parameter."""
        with added_in_place(self._transposes):
            return vjp(self._gradient, self._at.leaves, v)

    def hessian_rows(self, V: list[Tensor]) -> PerParameter:
        """Multiply the Hessian with several vectors, which the first axis counts."""
        return vjp(self._gradient, self._at.leaves, V, batched=True)

    def ggn(self, v: list[Tensor]) -> PerParameter:
        """Multiply the Gauss-Newton matrix with v."""
        return self._pulled_back(v, self.loss_hessian)

    def fisher(self, v: list[Tensor]) -> PerParameter:
        """Multiply the Fisher matrix with v."""
        return self._pulled_back(v, self.fisher_metric)

    def _pulled_back(self, v: list[Tensor], metric: Callable[[Tensor], Tensor]) -> PerParameter:
        """J^T metric(J v)."""
        if not isinstance(self.output, Tensor):
            raise TypeError(
                "Gauss-Newton and Fisher products need a module whose output is a single tensor, "
                f"got {type(self.output).__name__}; hessian has no such limit."
            )
        if not self.output.requires_grad:
            return [None] * len(v)
        return vjp([self.output], self._at.leaves, [metric(self._push_forward(v))])

    def _push_forward(self, v: list[Tensor]) -> Tensor:
        """J v, as the derivative of u -> J^T u."""
        if self._evaluator.twice_differentiable:
            try:
                pulled, seed = self._pull
                pushed = vjp(pulled, [seed], v)[0]
                return torch.zeros_like(self.output, requires_grad=False) if pushed is None else pushed
            except RuntimeError as error:
                self._evaluator.note_missing_derivative(error)
        return central_difference(self._infer_at, self._at.point, torch.cat([part.reshape(-1) for part in v]))

    @cached_property
    def _pull(self) -> tuple[Ends, Tensor]:
        seed = torch.zeros_like(self.output, requires_grad=True)
        pulled = grad(self.output, self._at.leaves, seed, create_graph=True, allow_unused=True)
        return without_values(pulled), seed

    def _infer_at(self, w: Tensor) -> Tensor:
        with self._evaluator.at(w, needs_grad=False):
            return cast(Tensor, self._evaluator.infer(self._chunk))

    def loss_hessian(self, u: Tensor) -> Tensor:
        """Multiply the Hessian of the loss in the output with u, of the output's shape.

        A loss without second derivatives gets a central difference of its gradient.
        """
        gradient, output = self._output_gradient
        # Tried whatever is known: where it is the module that has none, the loss may have them.
        try:
            if is_cut([gradient]):
                raise RuntimeError("a function of the loss is once_differentiable")
            product = vjp([gradient], [output], [u])[0]
        except RuntimeError as error:
            self._evaluator.note_missing_derivative(error)
            return central_difference(lambda o: self._loss_gradient(o)[0].detach(), output.detach(), u)
        return torch.zeros_like(u) if product is None else product

    @cached_property
    def _output_gradient(self) -> tuple[Tensor, Tensor]:
        return self._loss_gradient(self.output)

    def _loss_gradient(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of the loss in an output, with its graph, and that output cut from the module."""
        output = output.detach().requires_grad_()
        losses, shares = self._evaluator.losses_and_shares(output, self._chunk)
        return grad(losses, output, tracked(shares.to(losses.dtype)), create_graph=True)[0], output

    def fisher_metric(self, u: Tensor) -> Tensor:
        """Multiply the Fisher matrix of the loss in the output with u, of the output's shape."""
        criterion = self._evaluator.row_loss.criterion
        output = self.output.detach()
        if computes_as(criterion, nn.MSELoss):
            return self.loss_hessian(u)
        if computes_as(criterion, nn.CrossEntropyLoss):
            p = output.softmax(1)
            return self._label_coefficients * (p * u - p * (p * u).sum(1, keepdim=True))
        if computes_as(criterion, nn.NLLLoss):
            if isinstance(self._evaluator.net, NeuralNetClassifier):  # takes probabilities, and logs of p + eps
                return self._label_coefficients * output / (output + torch.finfo(output.dtype).eps).square() * u
            return self._label_coefficients * output.exp() * u
        if computes_as(criterion, nn.BCEWithLogitsLoss):
            return self._bernoulli_metric(output, criterion) * u
        raise NotImplementedError(
            f"The Fisher matrix is known for CrossEntropyLoss, NLLLoss, BCEWithLogitsLoss and MSELoss, not for "
            f"{type(criterion).__name__}; use ggn, the Gauss-Newton matrix, which any criterion has."
        )

    @cached_property
    def _label_coefficients(self) -> Tensor:
        """What each label's term counts in F, of shape (n, 1, ...): the classes are along the second axis."""
        output, shares = self.output, self._chunk.shares
        y = torch.as_tensor(self._chunk.y, device=shares.device)
        n, positions = len(output), output.shape[2:]
        row_loss, n_positions = self._evaluator.row_loss, math.prod(positions)
        masses = row_loss.label_masses(y)
        if masses is None:
            parts = shares.new_full((n, n_positions), row_loss.element_scale(n_positions))
        else:
            masses = masses.to(shares.dtype).reshape(n, -1)
            parts = masses / masses.sum(1, keepdim=True).clamp_min(NO_MASS)
        return (shares[:, None] * parts).reshape(n, 1, *positions).to(output.dtype)

    def _bernoulli_metric(self, output: Tensor, criterion: nn.BCEWithLogitsLoss) -> Tensor:
        """Return the expected square of dl/do for a label drawn from the model: p (1 - p) where no weights are set."""
        p = output.sigmoid()
        positive = 1.0 if criterion.pos_weight is None else criterion.pos_weight
        square = p * (positive * (1 - p)).square() + (1 - p) * p.square()
        if criterion.weight is not None:
            square = square * criterion.weight
        n = len(output)
        coefficients = self._chunk.shares * self._evaluator.row_loss.element_scale(output[0].numel())
        return coefficients.to(output.dtype).reshape(n, *[1] * (output.ndim - 1)) * square
