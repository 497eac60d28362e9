"""Whether the rules of an audit are right: retrained models, and the model before the request, judged by them too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.inspection._audit._verdict import (
    ENOUGH_REFERENCES,
    PASSES,
    Closeness,
    Code,
    Findings,
    Verdict,
    expected_of_another,
    judge,
)

__all__ = ["Calibration", "Seen", "calibrate", "distances_of_another", "findings", "tempered"]

# If a larger share of retrained models fails, failing says nothing.
_MOST_FAILURES = 0.25
# The interval reaches at least this far, in logarithms of a distance: a tenth more or less is no difference.
_LEAST_REACH = 0.1
# If what is negligible is a larger share of the yardstick, the reader is told.
_WORTH_SAYING = 0.25


@dataclass(frozen=True)
class Seen:
    """What the rules look at in one model.

    Attributes
    ----------
    distances : dict of str to ndarray of shape (n_references,)
        By set of rows, its distance from each retrained model; where it is one of them, 0 from itself.

    auc : float
        AUC of the attack on the erased rows.

    auc_interval : tuple of float
        Its bootstrap interval over rows.

    loss : float
        Mean loss of the erased rows.

    recall : float or None
        Of the probe of features; None where there was none.
    """

    distances: dict[str, NDArray[np.float64]]
    auc: float
    auc_interval: tuple[float, float]
    loss: float
    recall: float | None = None

    def beside(self, numbers: Sequence[int]) -> Seen:
        """Return the same beside some of the retrained models."""
        return replace(self, distances={rows: each[list(numbers)] for rows, each in self.distances.items()})


class Calibration(NamedTuple):
    """How many retrained models pass, fail, or are not decided, each judged by the others, and what came before."""

    n_passed: int
    n_failed: int
    n_undecided: int
    before: Code | None
    """The verdict on the model before the request; None if it was not given."""

    @property
    def n_retrained(self) -> int:
        """How many retrained models were judged; 0 where there are too few to leave one out."""
        return self.n_passed + self.n_failed + self.n_undecided

    @property
    def in_words(self) -> list[str]:
        """Return a sentence for each of the two."""
        said = []
        if self.n_retrained:
            others = [f"{self.n_failed} fail{'s' * (self.n_failed == 1)}"] if self.n_failed else []
            if self.n_undecided:
                others.append(f"{self.n_undecided} {'is' if self.n_undecided == 1 else 'are'} not decided")
            said.append(
                f"By the same rules {self.n_passed} of {self.n_retrained} retrained models pass, each judged by the "
                f"others{': ' * bool(others)}{' and '.join(others)}."
            )
        else:
            said.append(
                "The rules were not tried on retrained models: each is judged by the others, which takes at least "
                f"{ENOUGH_REFERENCES + 1} of them (n_references)."
            )
        if self.before in PASSES:
            said.append(
                "The model before the request passes, too: on these rows there was nothing to see that the request "
                "could have removed."
            )
        elif self.before is not None and self.before != "undecided":
            said.append("The model before the request fails, as it should.")
        return said


def findings(
    own: Seen, references: Sequence[Seen], negligible: dict[str, float], n_still_stored: int | None = None
) -> Findings:
    """Return what a verdict on one model rests on.

    Parameters
    ----------
    own : Seen
        The model to be judged.
    references : sequence of Seen
        The retrained models, in the order of the distances.
    negligible : dict of str to float
        Of each set of rows, a distance that makes no difference to anybody.
    n_still_stored : int or None
        Erased rows that the model still holds.
    """
    recalls = [each.recall for each in references if each.recall is not None]
    return Findings(
        ratios=_ratios(own, references, negligible),
        auc=own.auc,
        auc_interval=own.auc_interval,
        reference_aucs=[each.auc for each in references],
        loss=own.loss,
        reference_losses=[each.loss for each in references],
        n_still_stored=n_still_stored,
        recall=own.recall if len(recalls) == len(references) else None,
        reference_recalls=recalls,
    )


def calibrate(references: Sequence[Seen], before: Seen | None, negligible: dict[str, float]) -> Calibration:
    """Judge each retrained model by the others, and the model before the request by all of them."""
    codes: list[Code] = []
    if len(references) > ENOUGH_REFERENCES:
        for k, one in enumerate(references):
            others = [j for j in range(len(references)) if j != k]
            beside = [references[j].beside(others) for j in others]
            codes.append(judge(findings(one.beside(others), beside, negligible)).code)
    n_passed, n_undecided = sum(code in PASSES for code in codes), codes.count("undecided")
    of_before = None if before is None else judge(findings(before, references, negligible)).code
    return Calibration(n_passed, len(codes) - n_passed - n_undecided, n_undecided, of_before)


def tempered(verdict: Verdict, calibration: Calibration, *, is_fact: bool) -> Verdict:
    """Return the verdict, which is undecided instead of "fails" where retrained models fail as well.

    Rows that are still stored, or weights that are as they were, are no matter of statistics: `is_fact` says so.
    """
    n = calibration.n_retrained
    fails = verdict.code not in (*PASSES, "undecided")
    if not fails or is_fact or calibration.n_failed <= _MOST_FAILURES * n:
        return verdict
    return Verdict(
        "undecided",
        f"Not decided: the model fails, but so do {calibration.n_failed} of {n} retrained models, each judged by the "
        "others.",
        [*verdict.reasons, "Audit again with more references (n_references), or with more rows."],
    )


def distances_of_another(among: Sequence[float], negligible: float) -> tuple[float, float]:
    """Return the interval in which the mean distance of one more retrained model from these is expected.

    It is taken on a logarithmic scale. A reference shares its distance to each of the others with it: if models are
    a_k from a common centre, the distance of two is a_j + a_k, and the mean to the others varies from one to the next
    by (n - 2) / (n - 1) of what a_k does. The interval is wider by as much.

    Parameters
    ----------
    among : sequence of at least three floats
        The mean distance of each retrained model to the others.
    negligible : float
        Distances far below it differ by large factors, and mean nothing; it is added to all. The interval reaches as
        far above their mean at least.
    """
    n, logs = len(among), np.log(np.asarray(among) + negligible)
    spread = logs.mean() + (logs - logs.mean()) * ((n - 1) / (n - 2))
    low, high = np.exp(expected_of_another(list(spread), least=_LEAST_REACH)) - negligible
    return max(float(low), 0.0), max(float(high), float(np.mean(among)) + negligible)


def _ratios(own: Seen, references: Sequence[Seen], negligible: dict[str, float]) -> dict[str, Closeness]:
    """Return how far a model is from retrained ones, in units of their distance from each other.

    What is negligible is added to all distances: where retrained models agree to many digits, it is the yardstick.
    """
    n, ratios = len(references), {}
    if n < ENOUGH_REFERENCES:
        return {}
    for rows, distances in own.distances.items():
        among = np.array([each.distances[rows].sum() / (n - 1) for each in references])
        if not np.isfinite([*among, *distances]).all():
            continue
        added = negligible[rows]
        ends = distances_of_another(list(among), added)
        unit = float(among.mean()) + added
        ratio, low, high = ((float(each) + added) / unit for each in (distances.mean(), *ends))
        ratios[rows] = Closeness(ratio, low, high, added if added > _WORTH_SAYING * unit else 0.0)
    return ratios
