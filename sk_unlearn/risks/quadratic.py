"""A quadratic in place of rows that are not kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.utils._float64 import double
from sk_unlearn.utils._numpy_state import NumpyStateMixin

__all__ = ["CurvatureSketch", "Expansion", "QuadraticRisk"]

_SKETCH_ROWS = 4096
# A direction with less curvature than this share of what a row that goes had there, on average, is told by it alone.
_TELLING = 1e-3


@dataclass(frozen=True)
class CurvatureSketch(NumpyStateMixin):
    r"""A low-rank picture of the curvature of a risk, :math:`H \approx U^\top \Lambda U + \mu (I - U^\top U)`.

    Attributes
    ----------
    vectors : Tensor of shape (rank, d)
        Orthonormal rows U.

    values : Tensor of shape (rank,)
        Curvatures Λ along them.

    rest : float
        Mean curvature μ in all other directions.

    quadratic : bool
        Whether the risk was seen to be quadratic, so that the picture holds however far one goes from the fitted point.
    """

    vectors: Tensor
    values: Tensor
    rest: float
    quadratic: bool = False

    @classmethod
    def fit(cls, risk: EmpiricalRisk, w: Tensor, rank: int, rng: np.random.Generator) -> CurvatureSketch:
        """Sketch the Gauss-Newton matrix of a risk by the Nyström method on at most 4,096 of its rows.

        Parameters
        ----------
        risk : EmpiricalRisk
            The risk whose rows will not be kept.

        w : Tensor of shape (d,)
            Where.

        rank : int
            Number of products, and of vectors kept.

        rng : numpy.random.Generator
            Draws the rows and the test vectors.

        References
        ----------
        .. [1] Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 53, 2011, section 5.5.
        """
        d = w.numel()
        rank = min(rank, d)
        rows = risk.sample(_SKETCH_ROWS, rng) if risk.n_rows > _SKETCH_ROWS else None
        local = risk.linearise(w, rows)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31 - 1)))
        test = torch.randn(d, rank, generator=generator, dtype=torch.float64)
        # Test vectors are orthonormal: the square-rooted core below is then well conditioned.
        test = torch.linalg.qr(test).Q.to(w)
        image = double(torch.stack([local.ggn(v) for v in test.T], 1))
        true_image = image[:, 0].clone()
        core = double(test).T @ image
        core = (core + core.T) / 2
        # Uniformly random orthonormal vectors: E tr(core) = (rank / d) tr(H).
        trace = float(core.trace()) * d / rank
        # Of no curvature at all, any shift will do that cannot be seen.
        shift = torch.finfo(w.dtype).eps * float(image.norm()) or 1e-100
        image += shift * double(test)
        factor, defect = torch.linalg.cholesky_ex(core + shift * torch.eye(rank, dtype=core.dtype, device=core.device))
        if int(defect):
            raise FloatingPointError("The curvature at the fitted point is not finite or not positive.")
        left, singular, _ = torch.linalg.svd(
            torch.linalg.solve_triangular(factor, image.T, upper=False).T, full_matrices=False
        )
        values = (singular**2 - shift).clamp_min(0)
        rest = max(0.0, trace - float(values.sum())) / max(1, d - rank)
        if float(values[-1]) <= 100 * shift:
            rest = 0.0  # all curvature is found, and what is left of the trace is the error of its estimate
        # One step as long as the parameters: where the risk is quadratic its gradient changes as the products say.
        length = float(w.norm()) or 1.0
        change = double(risk.gradient(w + length * test[:, 0], rows) - local.gradient) / length
        quadratic = float((change - true_image).norm()) <= 1e-3 * float(true_image.norm())
        return cls(left.T.to(w).contiguous(), values.to(w), rest, quadratic)

    def product(self, v: Tensor) -> Tensor:
        """Multiply the sketched curvature with a vector of shape (d,)."""
        part = self.vectors @ v
        return self.rest * v + self.vectors.T @ ((self.values - self.rest) * part)

    def updated(
        self, mass: float, w: Tensor, *, added: Sequence[EmpiricalRisk] = (), removed: Sequence[EmpiricalRisk] = ()
    ) -> CurvatureSketch:
        """Return the sketch after rows have come or gone, of the same rank or less.

        The directions of the changed rows are taken in first, so that those kept turn away from rows that go; and a
        direction in which rows that go had nearly all of the curvature is left out. The span of the sketch would show
        them otherwise: of fewer rows than its rank it holds each one exactly.

        Parameters
        ----------
        mass : float
            Sum of the weights of the rows that the sketch is of.

        w : Tensor of shape (d,)
            Where the curvature of the changed rows is taken.

        added, removed : sequence of EmpiricalRisk
            The rows, which cost up to twice ``rank`` products.
        """
        rank, d = self.vectors.shape
        changed = [(part.mass, part.linearise(w)) for part in added]
        changed += [(-part.mass, part.linearise(w)) for part in removed]
        if not changed:
            return self
        after = mass + sum(change for change, _ in changed)
        known = self.vectors.to(w)
        images = [torch.stack([local.ggn(u) for u in known]) for _, local in changed]
        fresh = _directions_outside(known, torch.cat(images))
        basis = double(torch.cat([known, fresh]))
        values = double(torch.cat([self.values.to(w), torch.full((len(fresh),), self.rest).to(w)]))
        core, gone = (mass / after) * torch.diag(values), torch.zeros(len(basis), len(basis)).to(values)
        for (change, local), image in zip(changed, images, strict=True):
            image = double(torch.cat([image, *(local.ggn(u)[None] for u in fresh)]))
            curvature = basis @ image.T
            core += (change / after) * curvature
            gone += max(0.0, -change) * curvature
        values, rotation = torch.linalg.eigh((core + core.T) / 2)
        kept = torch.arange(len(values)).to(values.device) >= len(values) - rank
        if rank < d and removed:
            mean_of_gone = (rotation * (gone @ rotation)).sum(0) / sum(part.mass for part in removed)
            kept &= values > _TELLING * mean_of_gone
        # What is left of a positive matrix is positive; the sketch of it may err by more than is left.
        values = values[kept].clamp_min(0).to(w)
        return CurvatureSketch((rotation[:, kept].T @ basis).to(w).contiguous(), values, self.rest, self.quadratic)

    def to(self, device: torch.device) -> CurvatureSketch:
        """Return the sketch on another device."""
        return CurvatureSketch(self.vectors.to(device), self.values.to(device), self.rest, self.quadratic)


def _directions_outside(basis: Tensor, vectors: Tensor) -> Tensor:
    """Return orthonormal rows that span what the given rows, of shape (n, d), have outside the span of a basis."""
    outside = double(vectors)
    size, basis = float(outside.norm()), double(basis)
    for _ in range(2):  # once more, for the first leaves rounding errors
        outside = outside - outside @ basis.T @ basis
    _, singular, directions = torch.linalg.svd(outside, full_matrices=False)
    n_found = int((singular > 1e-5 * size).sum())
    return directions[:n_found].to(vectors)


@dataclass
class Expansion:
    """A risk around one point."""

    value: float
    gradient: Tensor
    parts: Sequence[tuple[float, object]]

    def hessian(self, v: Tensor) -> Tensor:
        """Multiply the Hessian with v."""
        return self._product("hessian", v)

    def ggn(self, v: Tensor) -> Tensor:
        """Multiply the Gauss-Newton matrix with v."""
        return self._product("ggn", v)

    def fisher(self, v: Tensor) -> Tensor:
        """Multiply the Fisher matrix with v."""
        return self._product("fisher", v)

    def _product(self, kind: str, v: Tensor) -> Tensor:
        """Sum the products of the parts; a sketch knows one curvature and stands for all three."""
        total = torch.zeros_like(v)
        for share, part in self.parts:
            total += share * (part.product(v) if isinstance(part, CurvatureSketch) else getattr(part, kind)(v))
        return total


class QuadraticRisk:
    """The risk over rows that were not kept: a quadratic around the point where its gradient is known.

    Parameters
    ----------
    center : Tensor of shape (d,)
        The point.

    gradient : Tensor of shape (d,)
        Gradient of the risk there. The value there is taken as zero: only differences are ever used.

    sketch : CurvatureSketch
        Its curvature.

    mass : float
        Sum of the weights of the rows it stands for.
    """

    #: Evaluating it visits no rows.
    n_rows = 0
    #: Its rows are not kept.
    stored = None

    def __init__(self, center: Tensor, gradient: Tensor, sketch: CurvatureSketch, mass: float) -> None:
        self.center = center
        self.center_gradient = gradient
        self.sketch = sketch
        self.mass = mass

    @property
    def parts(self) -> list[tuple[float, QuadraticRisk]]:
        """Itself alone, with a share of 1."""
        return [(1.0, self)]

    @property
    def holds_locally(self) -> bool:
        """Whether the risk it stands for is no quadratic itself, so that values far from the centre say nothing."""
        return not self.sketch.quadratic

    def sample(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """There are no rows to draw."""
        return np.empty(0, dtype=np.int64)

    def value(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> float:
        """Evaluate at w."""
        s = w - self.center
        return float(self.center_gradient @ s + 0.5 * (s @ self.sketch.product(s)))

    def gradient(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> Tensor:
        """Differentiate at w."""
        return self.center_gradient + self.sketch.product(w - self.center)

    def value_and_gradient(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> tuple[float, Tensor]:
        """Evaluate and differentiate at w."""
        s = w - self.center
        image = self.sketch.product(s)
        return float(self.center_gradient @ s + 0.5 * (s @ image)), self.center_gradient + image

    def graph_bytes(self, n_rows: int) -> int:
        """Return 0: there are no rows."""
        return 0

    def linearise(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> Expansion:
        """Expand around w."""
        return Expansion(*self.value_and_gradient(w), [(1.0, self.sketch)])
