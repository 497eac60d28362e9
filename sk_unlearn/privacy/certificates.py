"""Certificates: what is guaranteed, and what that rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, Literal, NamedTuple

from sk_unlearn.privacy.mechanisms import compose_gaussians, gaussian_epsilon
from sk_unlearn.utils._cards import Box, Pairs, Paragraph, Part, card

__all__ = ["Assumption", "Certificate", "compose_certificates"]


_MARKS = {True: "checked", False: "FAILS", None: "not proven"}


class Assumption(NamedTuple):
    """Something that a certificate rests on.

    Attributes
    ----------
    statement : str
        What must hold.

    checked : bool or None
        True where it was verified, False where it was found not to hold, None where nobody can know, or where it was
        estimated and not proven.

    detail : str
        How it was checked, or what is known.
    """

    statement: str
    checked: bool | None
    detail: str = ""


@dataclass(frozen=True)
class Certificate:
    """What is guaranteed after a request, and what that rests on.

    Attributes
    ----------
    method : str
        Where the guarantee comes from.

    bound : float
        Upper bound of the Euclidean distance between the parameters (before noise) and those of retraining; for
        noise in the objective, of the gradient that is left of the perturbed sum of losses; for noise in steps, between
        the ends of the same steps, without noise, from here and from a retrained model; for a walk, of how much the gap
        to retraining (in parameters or gradients) has changed with the request. For the kind "exact" it is 0,
        from training the retained rows alone *in the same way*, which may be a shorter one than ``fit``'s.

    epsilon, delta : float or None
        The guarantee, None where nothing random hides the distance: then only the bound is claimed.

    sigma : float
        Standard deviation of the noise, of all steps together, but of a walk that of its fresh step; 0 for none.

    noise : {"none", "output", "walk", "objective", "steps"}
        Whether noise was added to the parameters after each request, independent or as a walk that goes on (there, or
        in the objective); to the objective in training; or in steps from the parameters before to those after. Such
        steps hide all that there was before, whatever it was.

    vacuous : bool
        Whether the bound says no more than what holds for any two models; an ε that follows from it is then true and
        useless unless the noise is as large as the models themselves.

    assumptions : list of Assumption
        What it rests on, and which of that was checked.

    n_requests : int
        Requests that it covers together.

    kind : {"distance", "exact"}
        Whether the distance to retraining is bounded, or the parameters are a function of retained rows, settings and
        seed alone: whatever the erased rows had been, every number would be the same. That is ε = 0 at δ = 0.

    sequence_epsilon : float or None
        Of noise in steps: the ε, at the same δ, of all models after such requests *together*, beside models that were
        retrained after each. ``epsilon`` itself is that of the last model; and, for the rows of any one request alone,
        that of all models from theirs on.

    Examples
    --------
    >>> from sk_unlearn.privacy import Certificate
    >>> print(Certificate("by hand", bound=0.5, assumptions=[Assumption("the sun rises", True)]))
    by hand: within 0.5 of retraining; no noise, so no (epsilon, delta) claim
      [checked] the sun rises
    """

    method: str
    bound: float
    epsilon: float | None = None
    delta: float | None = None
    sigma: float = 0.0
    noise: Literal["none", "output", "walk", "objective", "steps"] = "none"
    vacuous: bool = False
    assumptions: list[Assumption] = field(default_factory=list)
    n_requests: int = 1
    kind: Literal["distance", "exact"] = "distance"
    sequence_epsilon: float | None = None

    @property
    def hides_the_past(self) -> bool:
        """Whether it holds for the rows of all requests so far, however the earlier ones were answered."""
        return self.kind == "exact" or self.noise == "steps"

    @property
    def proven(self) -> bool:
        """Whether every assumption was checked and holds."""
        return all(assumption.checked for assumption in self.assumptions)

    @property
    def headline(self) -> str:
        """The claim in one line, with what takes from it."""
        line = str(self).splitlines()[0]
        if self.vacuous:
            line += "; VACUOUS, it says no more than what holds for any two models"
        if self.kind != "exact" and any(assumption.checked is False for assumption in self.assumptions):
            line += "; an assumption FAILS"
        return line

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate as a plain dictionary that JSON can hold."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"assumptions": [assumption._asdict() for assumption in self.assumptions]}

    def __str__(self) -> str:
        if self.kind == "exact":
            over = f", after {self.n_requests} requests" if self.n_requests > 1 else ""
            fails = any(assumption.checked is False for assumption in self.assumptions)
            claim = "no number depends on the erased rows" + (", but for what fails below" if fails else "")
            return "\n".join([f"{self.method}: exact{over}; {claim}", *self._basis()])
        if self.noise == "objective":
            head = f"gradient of the perturbed objective left: at most {self.bound:.4g}"
        elif self.noise == "steps":
            head = f"within {self.bound:.4g} of the same steps after retraining, before noise"
        elif self.noise == "walk":
            head = f"the gap to retraining changed by at most {self.bound:.4g}"
        else:
            head = f"within {self.bound:.4g} of retraining"
        if self.epsilon is None:
            head += "; no noise, so no (epsilon, delta) claim"
        else:
            over = f" over {self.n_requests} requests" if self.n_requests > 1 else ""
            head += f"; epsilon = {self.epsilon:.4g} at delta = {self.delta:.4g}{over}, noise sigma = {self.sigma:.4g}"
        if self.sequence_epsilon is not None and self.n_requests > 1:
            head += f"; epsilon = {self.sequence_epsilon:.4g} for the models of all such requests together"
        lines = [f"{self.method}: {head}"]
        if self.vacuous:
            lines.append("  VACUOUS: the bound says no more than what holds for any two models")
        return "\n".join(lines + self._basis())

    def _basis(self) -> list[str]:
        return [
            f"  [{_MARKS[checked]}] {statement}" + (f" ({detail})" if detail else "")
            for statement, checked, detail in self.assumptions
        ]

    def _repr_html_(self) -> str:
        method, _, claim = str(self).splitlines()[0].partition(": ")
        fails = any(assumption.checked is False for assumption in self.assumptions)
        boxes = [Box(claim, f"by {method}", "open" if fails or self.vacuous else "plain")]
        if self.vacuous:
            boxes.append(Box("Vacuous", "The bound says no more than what holds for any two models.", "open"))
        rows = [
            (_MARKS[checked], f"{what} ({detail})" if detail else what) for what, checked, detail in self.assumptions
        ]
        covers = f"of {self.n_requests} requests together" if self.n_requests > 1 else ""
        parts: list[Part] = [Paragraph("It rests on:"), Pairs(rows)] if rows else []
        return card("Certificate", covers, boxes=boxes, parts=parts)


def compose_certificates(certificates: Sequence[Certificate]) -> Certificate:
    """Return what a sequence of certificates, one a request, guarantees together.

    Noise that is fresh with each request, independent or as the step of a walk, is composed exactly. Otherwise the last
    one stands by itself: a distance is that of the last model, a model that was trained anew on the rows that stay owes
    nothing to any that came before, and noise in the steps that lead to a model hides all of them (what several such
    models tell together is in ``sequence_epsilon``). Noise that entered the objective in training alone hides each
    model by itself and *not* several: between two of them it cancels.

    Parameters
    ----------
    certificates : sequence of Certificate
        In the order of the requests, at least one.

    Returns
    -------
    certificate : Certificate
        The last one, with the ε of all that reach back from it without interruption by another kind.

    Examples
    --------
    >>> from sk_unlearn.privacy import Certificate, compose_certificates
    >>> one = Certificate("by hand", bound=1.0, epsilon=4.38, delta=1e-5, sigma=1.0, noise="output")
    >>> round(compose_certificates([one, one]).epsilon, 2)
    6.57
    """
    last = certificates[-1]
    fresh = ("output", "walk")
    if last.noise not in (*fresh, "steps") or last.delta is None:
        return last
    kinds = fresh if last.noise in fresh else ("steps",)
    alike = list(takewhile(lambda each: each.noise in kinds, reversed(certificates)))
    epsilon = gaussian_epsilon(compose_gaussians([each.bound / each.sigma for each in alike]), 1.0, last.delta)
    if last.noise == "steps":
        return replace(last, sequence_epsilon=epsilon, n_requests=len(certificates))
    return replace(last, epsilon=epsilon, n_requests=len(alike))


# Of every mechanism whose noise comes from the estimator's seed.
SECRET_SEED = Assumption(
    "whoever looks at the models knows neither random_state nor this object", None, "the noise can be repeated from it"
)
