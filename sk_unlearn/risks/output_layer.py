"""The last linear layer of a net as a problem of its own: the same risk over fixed features, with a dense Hessian."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNetClassifier
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn import functional

from sk_unlearn.risks._autograd import central_difference, is_cut, tracked, vjp
from sk_unlearn.risks._evaluation import Evaluator, sum_of
from sk_unlearn.risks._row_loss import computes_as
from sk_unlearn.risks._rows import Chunk
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.rows import SparseRows
from sk_unlearn.utils._lazy import cached_property

__all__ = ["KeptFeatures", "LayerPoint", "LayerRisk", "OutputLayer", "output_layer"]

# Rows on which the layer is looked for.
_N_PROBES = 4
# Most inputs of a layer that is given sparse rows.
_WIDEST = 4096
# Why there may be no second derivatives although nothing raises.
_CUT = "a function of the loss is once_differentiable"
# What a processor's cache holds: the dense Hessian takes half the time when its temporaries stay there.
_CACHE_BYTES = 2**22


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1)


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1)


def _identity(logits: Tensor) -> Tensor:
    return logits


# What may follow the layer in a module.
_ENDINGS: tuple[Callable[[Tensor], Tensor], ...] = (_identity, _log_softmax, _softmax, torch.sigmoid)


class KeptFeatures(NamedTuple):
    """What the output layer is given for some rows, known from an earlier evaluation.

    Attributes
    ----------
    rows : int64 ndarray of shape (m,)
        Indices as :class:`~sk_unlearn.risks.empirical.EmpiricalRisk` takes them.
    values : Tensor of shape (m, n_features)
    """

    rows: NDArray[np.int64]
    values: Tensor


def output_layer(risk: EmpiricalRisk) -> tuple[OutputLayer | None, str]:
    """Find the linear layer whose output is the module's output, at the net's present parameters.

    A softmax, log-softmax or sigmoid may follow it, and reshaping that keeps the rows. The net is run on up to four of
    the risk's rows; what is found is checked by putting random numbers in place of the layer's output.

    Parameters
    ----------
    risk : EmpiricalRisk
        Over rows of the net in question.

    Returns
    -------
    layer : OutputLayer or None
    reason : str
        Why there is none; empty where there is one.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from skorch import NeuralNetClassifier
    >>> from sk_unlearn.risks.empirical import EmpiricalRisk
    >>> from sk_unlearn.risks.output_layer import output_layer
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    >>> net = NeuralNetClassifier(module, criterion=torch.nn.CrossEntropyLoss).initialize()
    >>> risk = EmpiricalRisk(net, np.ones((6, 4), np.float32), np.arange(6) % 3)
    >>> layer, reason = output_layer(risk)
    >>> layer.n_parameters
    27
    """
    evaluator = risk.evaluator
    probes = evaluator.rows.first(_N_PROBES)
    if not len(probes):
        return None, "the risk has no rows to look at the module with"
    with evaluator.at(risk.parameters(), needs_grad=False):
        probe = next(evaluator.chunks(probes, size=_N_PROBES))
        n = len(probe.shares)
        calls, output = _linear_calls(evaluator, probe)
        if not isinstance(output, Tensor):
            return None, f"the module's output is a {type(output).__name__}, not a single tensor"
        same_size = [call for call in calls if call.output.shape == (n, output[:1].numel()) and call.features.ndim == 2]
        # Under autocast the layer computes with roundings of its parameters.
        same_size = [call for call in same_size if call.output.dtype == evaluator.parameters.dtype]
        # What the layer is given is kept for many rows: of sparse ones, that would be the rows themselves, dense.
        if isinstance(risk.X, SparseRows) and any(call.features.shape[1] > _WIDEST for call in same_size):
            return None, "it is given wide sparse rows, of which a few are dense at a time"
        for call in reversed(same_size):
            ending = _ending(evaluator, call, probe)
            if ending is not None:
                break
        else:
            return None, "the module's output is not that of a linear layer, nor a softmax or sigmoid of it"
    return _checked_layer(evaluator, [other.module for other in calls], call.module, ending, output.shape[1:])


class _Call(NamedTuple):
    """One call of a linear layer, seen by a hook."""

    module: nn.Linear
    features: Tensor
    output: Tensor


def _linear_calls(evaluator: Evaluator, probe: Chunk) -> tuple[list[_Call], Any]:
    """Return the calls of linear layers in one forward pass, in order, and what the module gave."""
    calls: list[_Call] = []

    def see(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if args and isinstance(module, nn.Linear):
            calls.append(_Call(module, args[0], output))

    handles = [m.register_forward_hook(see) for m in evaluator.parameters.modules if isinstance(m, nn.Linear)]
    try:
        return calls, evaluator.infer(probe)
    finally:
        for handle in handles:
            handle.remove()


def _ending(evaluator: Evaluator, call: _Call, probe: Chunk) -> Callable[[Tensor], Tensor] | None:
    """Return what the module makes of the layer's output and nothing else, where it is one of the known endings."""
    # Of both signs and far apart, so that a clipping or a sum with something small cannot be taken for the identity.
    noise = np.random.default_rng(0).normal(scale=3.0, size=tuple(call.output.shape))
    logits = torch.as_tensor(noise, dtype=call.output.dtype, device=call.output.device)
    handle = call.module.register_forward_hook(lambda module, args, output: logits.clone())
    try:
        output = evaluator.infer(probe)
    finally:
        handle.remove()
    for ending in _ENDINGS:
        expected = ending(logits)
        # Endings other than the identity may be written in several ways, which round differently.
        tol = 0.0 if ending is _identity else 100 * torch.finfo(logits.dtype).eps
        if torch.allclose(output.reshape(expected.shape), expected, rtol=tol, atol=tol):
            return ending
    return None


def _checked_layer(
    evaluator: Evaluator,
    called: list[nn.Linear],
    module: nn.Linear,
    ending: Callable[[Tensor], Tensor],
    row_shape: torch.Size,
) -> tuple[OutputLayer | None, str]:
    """Return the layer unless its parameters are frozen, shared or not its own."""
    index = {id(p): k for k, p in enumerate(evaluator.parameters.tensors)}
    own = [index.get(id(module._parameters.get(name))) for name in ("weight", "bias")]
    if type(module).forward is not nn.Linear.forward or module._parameters.get("weight") is None:
        return None, "the last linear layer computes its weight from other parameters"
    if own == [None, None]:
        return None, "the last linear layer is frozen"
    if sum(other is module for other in called) > 1:
        return None, "the last linear layer is used more than once"
    uses = [k for _, _, k in evaluator.parameters.places]
    if any(uses.count(k) > 1 for k in own if k is not None):
        return None, "the last linear layer shares a parameter with another layer"
    return OutputLayer(evaluator, module, own[0], own[1], ending, row_shape), ""


class OutputLayer:
    """The linear layer whose output is the module's output, and where its parameters lie in the flat vector.

    Made by :func:`output_layer`.

    Parameters
    ----------
    evaluator : Evaluator
        Of the risk it was found with.
    module : torch.nn.Linear
        The layer.
    weight, bias : int or None
        Their numbers among the trainable parameters; None for one that is frozen or absent.
    ending : callable
        What the module makes of the layer's output.
    row_shape : torch.Size
        Shape of one row of the module's output.

    Attributes
    ----------
    position : int
        Which of the net's modules it is. Each risk may have modules of its own for the same parameters.
    numbers : dict of str to int
        The numbers of its trainable weight and bias among the parameters.
    ending, row_shape
        As given.
    indices : int64 Tensor of shape (n_parameters,)
        Where the layer's trainable parameters lie in the flat vector: the weight row by row, then the bias.
    n_parameters : int
        Their number.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        module: nn.Linear,
        weight: int | None,
        bias: int | None,
        ending: Callable[[Tensor], Tensor],
        row_shape: torch.Size,
    ) -> None:
        parameters = evaluator.parameters
        self.ending: Callable[[Tensor], Tensor] = ending
        self.row_shape: torch.Size = row_shape
        self.position: int = next(k for k, each in enumerate(parameters.modules) if each is module)
        self.numbers: dict[str, int] = {name: k for name, k in (("weight", weight), ("bias", bias)) if k is not None}
        ends = np.cumsum([0, *parameters.sizes])
        spans = [torch.arange(int(ends[k]), int(ends[k + 1]), device=parameters.device) for k in self.numbers.values()]
        self.indices: Tensor = torch.cat(spans)
        self.n_parameters: int = len(self.indices)

    def extract(self, w: Tensor) -> Tensor:
        """Return the layer's entries of a flat vector, of shape (n_parameters,)."""
        return w[self.indices]

    def insert(self, w: Tensor, v: Tensor) -> Tensor:
        """Return the flat vector w, of shape (d,), with v in the layer's entries."""
        return w.index_copy(0, self.indices, v.to(w))

    def risk(
        self,
        risk: EmpiricalRisk,
        w: Tensor | None = None,
        rows: NDArray[np.int64] | None = None,
        features: Tensor | None = None,
    ) -> LayerRisk:
        """Return a risk as a function of the layer's parameters alone.

        Parameters
        ----------
        risk : EmpiricalRisk
            Over rows of the same net.
        w : Tensor of shape (d,), optional
            All other parameters, which stay fixed; None: as they are in the net.
        rows : int64 ndarray, optional
            Indices as :class:`~sk_unlearn.risks.empirical.EmpiricalRisk` takes them; None for all.
        features : Tensor of shape (n_rows, n_features), optional
            What the layer is given for these rows at w, if it is known; the net is then not run.
        """
        w = risk.parameters() if w is None else risk.evaluator.parameters.checked(w, "w")
        return LayerRisk(self, risk, w, rows, features)


class LayerRisk:
    r"""An empirical risk as a function of the parameters v of the output layer, all others fixed.

    With features h and logits :math:`o_i = W h_i + b` its Hessian is the layer's block of the whole Hessian,
    :math:`\sum_i A_i \otimes h_i h_i^\top` plus the weight decay, :math:`A_i` being the Hessian of row i's loss in its
    logits: :math:`m_i(\mathrm{diag}(p_i) - p_i p_i^\top)` for cross-entropy. That is convex where the loss is.

    Parameters
    ----------
    layer : OutputLayer
    risk : EmpiricalRisk
    w : Tensor of shape (d,)
        All parameters of the net.
    rows : int64 ndarray or None
        As for :class:`~sk_unlearn.risks.empirical.EmpiricalRisk`.
    features : Tensor of shape (n_rows, n_features), optional
        What the layer is given for these rows at w, if it is known.

    Attributes
    ----------
    start : Tensor of shape (n_parameters,)
        The layer's part of w.
    indices : int64 Tensor of shape (n_parameters,)
        Where v lies in the flat vector.
    n_parameters : int
        Length of v.
    evaluator : Evaluator
        Of the risk.

    Notes
    -----
    The features of all rows are kept on the net's device: n numbers for each input of the layer.
    """

    def __init__(
        self,
        layer: OutputLayer,
        risk: EmpiricalRisk,
        w: Tensor,
        rows: NDArray[np.int64] | None,
        features: Tensor | None = None,
    ) -> None:
        self.layer: OutputLayer = layer
        self.evaluator: Evaluator = risk.evaluator
        self._flat, self._w = risk.evaluator.parameters, w
        self._module = cast(nn.Linear, self._flat.modules[layer.position])
        self.indices: Tensor = layer.indices
        self.n_parameters: int = layer.n_parameters
        self.start: Tensor = layer.extract(w)
        self._rest = self._flat.penalty(layer.insert(w, torch.zeros_like(self.start)))
        self._decay = None if self._flat.decay is None else self._flat.decay[self.indices]
        # Another get_loss may look at the rows, or at the parameters: it is given both, and not taken apart.
        self._plain_loss = getattr(self.evaluator.row_loss.get_loss, "__module__", "").split(".")[0] == "skorch"
        self.chunks: list[_Features] = self._merged(
            list(self._capture(rows) if features is None else self._known(rows, features))
        )

    def value(self, v: Tensor) -> float:
        """Return the risk at v, the penalty of all parameters included."""
        with self.at(v, needs_grad=False) as point:
            losses = (self.losses_and_shares(chunk, self.logits(chunk)) for chunk in self.chunks)
            total = sum((sum_of(*each) for each in losses), self.evaluator.zero())
        return float(total) + self.penalty(point)

    def gradient(self, v: Tensor) -> Tensor:
        """Return the gradient at v, of shape (n_parameters,)."""
        return self.value_and_gradient(v)[1]

    def value_and_gradient(self, v: Tensor) -> tuple[float, Tensor]:
        """Return the risk at v and its gradient."""
        value = self.evaluator.zero()
        with self.at(v) as point:
            gradient = self.penalty_product(point.detach())
            for chunk in self.chunks:
                losses, shares = self.losses_and_shares(chunk, self.logits(chunk))
                value += sum_of(losses, shares)
                gradient += grad(losses, point, shares.to(losses.dtype))[0]
        return float(value) + self.penalty(point.detach()), gradient

    def linearise(self, v: Tensor) -> LayerPoint:
        """Return value, gradient and Hessian products at v."""
        return LayerPoint(self, v)

    def hessian(self, v: Tensor) -> Tensor:
        """Return the Hessian at v, of shape (n_parameters, n_parameters).

        In closed form for the cross-entropy of class numbers; otherwise from each row's loss, differentiated in the
        logits, or, for a loss that is no sum over rows or has no second derivatives, from ``n_parameters`` products.
        """
        if self._is_sum_over_rows and self.evaluator.twice_differentiable:
            try:
                return self._sum_of_blocks(v)
            except RuntimeError as error:
                self.evaluator.note_missing_derivative(error)
        at = self.linearise(v)
        H = torch.stack([at.hessian(e) for e in torch.eye(self.n_parameters, dtype=v.dtype, device=v.device)])
        return (H + H.T) / 2

    def _sum_of_blocks(self, v: Tensor) -> Tensor:
        """Return the Hessian at v, from each row's Hessian in its logits."""
        budget = self.evaluator.memory_budget // 4
        H = torch.zeros(self.n_parameters, self.n_parameters, dtype=self._flat.dtype, device=self._flat.device)
        with self.at(v):
            for chunk in self.chunks:
                A = self._curvature(chunk, self.logits(chunk).detach())
                # For each row, the products of one logit's curvatures with the features are written out.
                row_bytes = A.shape[1] * chunk.features.shape[1] * A.element_size()
                size = max(1, (_CACHE_BYTES if A.device.type == "cpu" else budget) // row_bytes)
                for h, block in zip(chunk.features.split(size), A.split(size), strict=True):
                    self._add_block(H, h, block)
        H = H.triu_() + H.triu(1).T
        if self._decay is not None:
            H.diagonal().add_(self._decay)
        return H

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(len(chunk.shares) for chunk in self.chunks)

    @cached_property
    def predicts_probabilities(self) -> bool:
        """Whether :meth:`predictions` gives class probabilities."""
        if self.layer.ending in (_softmax, torch.sigmoid):
            return True
        criterion = self.evaluator.row_loss.criterion
        return computes_as(criterion, nn.CrossEntropyLoss, nn.NLLLoss)

    @torch.no_grad()
    def predictions(self, v: Tensor) -> Tensor:
        """Return what is predicted at v, of shape (n, ...): probabilities where the loss is the cross-entropy."""
        with self.at(v, needs_grad=False):
            logits = torch.cat([self.logits(chunk) for chunk in self.chunks])
        if self.predicts_probabilities and self.layer.ending in (_identity, _log_softmax):
            return logits.softmax(1)
        return self.layer.ending(logits)

    @cached_property
    def classes(self) -> Tensor | None:
        """The class number of each row, of shape (n,); None where the targets are no class numbers."""
        targets = [chunk.y for chunk in self.chunks]
        if self._is_binary and all(isinstance(y, Tensor) for y in targets):
            y = torch.cat([each.reshape(-1) for each in targets]).to(self._flat.device)
            return y.long() if bool(((y == 0) | (y == 1)).all()) else None
        if not all(isinstance(y, Tensor) and y.ndim == 1 and not y.is_floating_point() for y in targets):
            return None
        classes = torch.cat(targets).to(self._flat.device)
        return None if bool((classes < 0).any()) else classes  # an index that the loss ignores

    @torch.no_grad()
    def class_losses(self, v: Tensor) -> Tensor | None:
        """Return the cross-entropy that each class would have in each row at v, of shape (n, n_classes).

        None where the net gives no logits or probabilities of classes. One logit of two classes is that of the second.
        """
        if self._is_binary:
            with self.at(v, needs_grad=False):
                logits = torch.cat([self.logits(chunk) for chunk in self.chunks]).reshape(-1)
            return functional.softplus(torch.stack([logits, -logits], 1))
        if not self.predicts_probabilities or self.layer.ending is torch.sigmoid or len(self.layer.row_shape) != 1:
            return None
        with self.at(v, needs_grad=False):
            logits = torch.cat([self.logits(chunk) for chunk in self.chunks])
        return -logits.log_softmax(1)

    @property
    def _is_binary(self) -> bool:
        """Whether the layer gives one logit of two classes."""
        criterion, ending = self.evaluator.row_loss.criterion, self.layer.ending
        kind = {_identity: nn.BCEWithLogitsLoss, torch.sigmoid: nn.BCELoss}.get(ending)
        return kind is not None and computes_as(criterion, kind) and self.layer.row_shape.numel() == 1

    # -------------------------------------------------------------------------------------------------- the features

    def _capture(self, rows: NDArray[np.int64] | None) -> Iterator[_Features]:
        """Run the net up to its end, chunk by chunk, and keep what enters the layer."""
        evaluator, seen = self.evaluator, list[Tensor]()
        handle = self._module.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        try:
            with evaluator.at(self._w, needs_grad=False):
                for chunk in evaluator.chunks(rows):
                    evaluator.infer(chunk)
                    x = None if self._plain_loss else chunk.x
                    yield _Features(seen.pop(), x, chunk.y, chunk.shares, chunk.number)
        finally:
            handle.remove()

    def _known(self, rows: NDArray[np.int64] | None, features: Tensor) -> Iterator[_Features]:
        """Put known features in place of what the net would give."""
        start = 0
        for chunk in self.evaluator.chunks(rows):
            stop = start + len(chunk.shares)
            x = None if self._plain_loss else chunk.x
            yield _Features(features[start:stop].to(self._w), x, chunk.y, chunk.shares, chunk.number)
            start = stop

    @property
    def features(self) -> Tensor:
        """What the layer is given, of shape (n, n_features)."""
        return torch.cat([chunk.features for chunk in self.chunks])

    def _merged(self, chunks: list[_Features]) -> list[_Features]:
        """Cut the rows anew: what the layer needs of a row is less than what the whole net does."""
        if not self._is_sum_over_rows or not all(isinstance(chunk.y, Tensor) for chunk in chunks):
            return chunks
        # The largest temporary is A, beside the features themselves.
        module = self._module
        width = module.in_features + 4 * module.out_features**2
        size = max(1, self.evaluator.memory_budget // (4 * width * self._w.element_size()))
        merged, batch, n = list[_Features](), list[_Features](), 0
        for chunk in chunks:
            if batch and n + len(chunk.shares) > size:
                merged.append(_joined(batch))
                batch, n = [], 0
            batch.append(chunk)
            n += len(chunk.shares)
        return [*merged, _joined(batch)] if batch else merged

    @cached_property
    def _is_sum_over_rows(self) -> bool:
        """Whether each row's loss is known to depend on its own logits only."""
        criterion = self.evaluator.row_loss.criterion
        known = getattr(type(criterion).forward, "__module__", "") == "torch.nn.modules.loss"
        return self._plain_loss and known and self.evaluator.row_loss.reduction is not None

    # ------------------------------------------------------------------------------------------------ the loss in v

    @contextmanager
    def at(self, v: Tensor, needs_grad: bool = True) -> Iterator[Tensor]:
        """Put the net at w with v in the layer, and yield the leaf that the layer's parameters are views of."""
        if v.shape != (self.n_parameters,):
            raise ValueError(f"v must be a vector of {self.n_parameters} entries, got shape {tuple(v.shape)}.")
        with torch.inference_mode(False), torch.set_grad_enabled(needs_grad):
            point = v.detach().to(self._w).clone().requires_grad_(needs_grad)
            with self._put(point):
                yield point

    @contextmanager
    def _put(self, point: Tensor) -> Iterator[None]:
        views = self._flat.split(self._w)
        for name, part in self.split(point).items():
            views[self.layer.numbers[name]] = part
        with self._flat.in_place(views):
            yield

    def split(self, point: Tensor) -> dict[str, Tensor]:
        """Return the layer's trainable weight and bias as views of v."""
        numbers = self.layer.numbers
        sizes = [self._flat.sizes[k] for k in numbers.values()]
        parts = zip(numbers.items(), point.split_with_sizes(sizes), strict=True)
        return {name: part.view(self._flat.shapes[k]) for (name, k), part in parts}

    def logits(self, chunk: _Features) -> Tensor:
        """Return what the layer gives for a chunk, inside of `at`."""
        # The layer holds the views that `_put` gave it.
        module = self._module
        return functional.linear(chunk.features, module.weight, module.bias)

    def losses_and_shares(self, chunk: _Features, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return a chunk's row losses, and what each counts."""
        output = self.layer.ending(logits).reshape(len(logits), *self.layer.row_shape)
        return self.evaluator.losses_and_shares(output, chunk)

    def zero(self) -> Tensor:
        """Return a zero to sum values in."""
        return self.evaluator.zero()

    def penalty(self, v: Tensor) -> float:
        """Return the penalty of all parameters, those outside of the layer included."""
        if self._decay is None:
            return 0.0
        dtype = self._flat.sum_dtype
        return self._rest + 0.5 * float(self._decay.to(dtype) @ v.to(dtype).square())

    def penalty_product(self, v: Tensor) -> Tensor:
        """Return v, each entry times its weight decay."""
        return torch.zeros_like(v) if self._decay is None else self._decay * v

    # ------------------------------------------------------------------------------------------------- the Hessian

    def _curvature(self, chunk: _Features, logits: Tensor) -> Tensor:
        """Return A_i, the Hessian of each row's share of the risk in its logits, of shape (n, c, c)."""
        if self._is_cross_entropy(chunk):
            p = logits.softmax(1)
            weighted = chunk.shares.to(p)[:, None] * p
            return torch.diag_embed(weighted) - weighted[:, :, None] * p[:, None, :]
        leaf = logits.detach().requires_grad_()
        losses, shares = self.losses_and_shares(chunk, leaf)
        slope = grad(losses, leaf, tracked(shares.to(losses.dtype)), create_graph=True)[0]
        if is_cut([slope]):
            raise RuntimeError(_CUT)
        columns = [
            grad(slope[:, k].sum(), leaf, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
            for k in range(leaf.shape[1])
        ]
        return torch.stack(columns, 1)

    def has_closed_form(self, chunk: _Features) -> bool:
        """Whether products over a chunk need no graph."""
        return self._is_sum_over_rows and self._is_cross_entropy(chunk)

    def _is_cross_entropy(self, chunk: _Features) -> bool:
        """Whether the loss is -log softmax(logits)[y] times the row's share, which has a closed form."""
        row_loss, ending = self.evaluator.row_loss, self.layer.ending
        criterion = row_loss.criterion
        if row_loss.reduction != "mean" or not isinstance(chunk.y, Tensor) or chunk.y.is_floating_point():
            return False
        if computes_as(criterion, nn.CrossEntropyLoss):
            return ending in (_identity, _log_softmax) and criterion.label_smoothing == 0.0
        is_log = not isinstance(
            self.evaluator.net, NeuralNetClassifier
        )  # which takes probabilities, and logs of p + eps
        return computes_as(criterion, nn.NLLLoss) and ending is _log_softmax and is_log

    def _add_block(self, H: Tensor, h: Tensor, A: Tensor) -> None:
        """Add the sum over rows of A_i (x) [h_i, 1] [h_i, 1]^T to the upper triangle of H."""
        (n, p), c = h.shape, A.shape[1]
        n_weights = c * p if "weight" in self.layer.numbers else 0
        if n_weights:
            for a in range(c):
                right = (A[:, a, a:, None] * h[:, None, :]).reshape(n, -1)
                H[a * p : (a + 1) * p, a * p : n_weights].addmm_(h.T, right)
        if "bias" in self.layer.numbers:
            H[n_weights:, n_weights:] += A.sum(0)
            if n_weights:
                H[:n_weights, n_weights:] += (A.reshape(n, -1).T @ h).view(c, c, p).transpose(1, 2).reshape(-1, c)


class LayerPoint:
    """A :class:`LayerRisk` around one point: value, gradient and Hessian products.

    Parameters
    ----------
    risk : LayerRisk
    v : Tensor of shape (n_parameters,)

    Attributes
    ----------
    value : float
    gradient : Tensor of shape (n_parameters,)
    n_products : int
        Products taken so far.
    """

    def __init__(self, risk: LayerRisk, v: Tensor) -> None:
        self._risk, self._evaluator = risk, risk.evaluator
        self.n_products: int = 0
        self._pieces: list[_Piece] = []
        value = risk.zero()
        with risk.at(v) as point:
            self._point = point
            self.gradient: Tensor = risk.penalty_product(point.detach())
            for chunk in risk.chunks:
                closed = risk.has_closed_form(chunk)
                piece = (_CrossEntropyPiece if closed else _DifferentiatedPiece)(risk, chunk, point)
                value += piece.value
                self.gradient += piece.gradient
                self._pieces.append(piece)
        self.value: float = float(value) + risk.penalty(point.detach())

    def hessian(self, s: Tensor) -> Tensor:
        """Return the Hessian's product with s, both of shape (n_parameters,); it passes over the features twice.

        A loss without second derivatives gets a central difference of gradients.
        """
        self.n_products += 1
        s = s.detach().to(self._point)
        if self._evaluator.twice_differentiable:
            try:
                return self._sum(s)
            except RuntimeError as error:
                self._evaluator.note_missing_derivative(error)
        return central_difference(self._risk.gradient, self._point.detach(), s)

    def _sum(self, s: Tensor) -> Tensor:
        """One product summed over the chunks, and the penalty's."""
        total = self._risk.penalty_product(s)
        with torch.inference_mode(False):
            for piece in self._pieces:
                total += piece.hessian(s)
        return total


class _Piece(Protocol):
    """One chunk's part of a :class:`LayerPoint`."""

    value: Tensor
    gradient: Tensor

    def hessian(self, s: Tensor) -> Tensor:
        """Return the product with s."""


class _DifferentiatedPiece:
    """By differentiating a kept graph."""

    def __init__(self, risk: LayerRisk, chunk: _Features, point: Tensor) -> None:
        self._point = point
        losses, shares = risk.losses_and_shares(chunk, risk.logits(chunk))
        self.value = sum_of(losses, shares)
        twice = risk.evaluator.twice_differentiable
        self._slope = grad(losses, point, tracked(shares.to(losses.dtype)), create_graph=twice)[0]
        if twice and is_cut([self._slope]):
            risk.evaluator.note_missing_derivative(RuntimeError(_CUT))
        self.gradient = self._slope.detach()

    def hessian(self, s: Tensor) -> Tensor:
        part = vjp([self._slope], [self._point], [s])[0]
        return torch.zeros_like(s) if part is None else part


class _CrossEntropyPiece:
    """In closed form: two multiplications with the features a product and no graph."""

    @torch.no_grad()
    def __init__(self, risk: LayerRisk, chunk: _Features, point: Tensor) -> None:
        self._risk, self._features = risk, chunk.features
        logits = risk.logits(chunk)
        losses, shares = risk.losses_and_shares(chunk, logits)
        self.value = sum_of(losses, shares)
        self._p = logits.softmax(1)
        self._shares = chunk.shares.to(self._p)[:, None]
        slope = self._p.clone()
        # A target to be ignored is no class number; its share is zero.
        labels = chunk.y.to(slope.device).clamp_min(0)[:, None]
        slope.scatter_add_(1, labels, slope.new_full(labels.shape, -1.0))
        self.gradient = self._pulled_back(slope.mul_(self._shares))

    @torch.no_grad()
    def hessian(self, s: Tensor) -> Tensor:
        parts = self._risk.split(s)
        z = functional.linear(self._features, parts["weight"]) if "weight" in parts else torch.zeros_like(self._p)
        if "bias" in parts:
            z = z + parts["bias"]
        weighted = self._p * z
        weighted -= self._p * weighted.sum(1, keepdim=True)
        return self._pulled_back(weighted.mul_(self._shares))

    def _pulled_back(self, slope: Tensor) -> Tensor:
        """Return the product of the logits' transposed Jacobian with a slope in the logits."""
        parts = {"weight": lambda: (slope.T @ self._features).reshape(-1), "bias": lambda: slope.sum(0)}
        return torch.cat([parts[name]() for name in self._risk.layer.numbers])


class _Features(NamedTuple):
    """Some rows as the layer sees them, with what the loss needs; fields as in the chunks of the risk."""

    features: Tensor
    x: Any
    y: Any
    shares: Tensor
    number: int


def _joined(chunks: list[_Features]) -> _Features:
    y = torch.cat([chunk.y.to(chunk.features.device) for chunk in chunks])
    shares = torch.cat([chunk.shares for chunk in chunks])
    return _Features(torch.cat([chunk.features for chunk in chunks]), None, y, shares, chunks[0].number)
