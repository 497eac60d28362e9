"""The verdict of an audit: from its figures to words, for a reader who must answer for the deletion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from scipy.special import stdtrit

__all__ = ["ENOUGH_REFERENCES", "PASSES", "Closeness", "Code", "Findings", "Verdict", "expected_of_another", "judge"]

Code: TypeAlias = Literal["closer", "within", "undecided", "outputs_only", "not_yet", "over_forgotten"]

PASSES: tuple[Code, Code] = ("closer", "within")
"""The verdicts that say that nothing is left to see."""

ENOUGH_REFERENCES = 3
"""With fewer retrained models than this there is no interval, and so no verdict."""

# Five rules can fail a model: two distances, an AUC that is too high or too low, and the probe. Each takes one
# retrained model in 200 for a failure, or somewhat more, since what varies among them is not quite normal: together
# they are to pass 95 in 100.
_LEVEL = 0.99
# Retrained models differ too much to judge by them if the interval for one more of them reaches beyond this many times
# their average distance. With eight of them that is seldom so.
_TOO_COARSE = 4.0
# A difference in AUC smaller than this helps no attacker, however little the references differ.
_NEGLIGIBLE_AUC = 0.01


class Verdict(NamedTuple):
    """The outcome of an audit: its code, the same in a sentence, and the reasons."""

    code: Code
    headline: str
    reasons: list[str]


class Closeness(NamedTuple):
    """A distance ratio, the interval in which that of another retrained model is expected, and what it counts as none.

    The last was added to all distances if it is not zero.
    """

    ratio: float
    low: float
    high: float
    added: float = 0.0


@dataclass(frozen=True)
class Findings:
    """What a verdict rests on.

    Attributes
    ----------
    ratios : dict of str to Closeness
        By "erased" and "test"; a set is missing where it could not be measured.

    auc : float
        AUC of the attack on the erased rows under the model that forgot.

    auc_interval : tuple of float
        Its bootstrap interval over rows.

    reference_aucs : sequence of float
        The same under each retrained model.

    loss : float
        Mean loss of the erased rows under the model that forgot.

    reference_losses : sequence of float
        The same under each retrained model.

    n_still_stored : int or None
        Erased rows that the estimator still holds; None where it holds none at all.

    recall : float or None
        Share of the rows of an erased class that are recognised from features of the model; None where none was probed.

    reference_recalls : sequence of float
        The same with the features of each retrained model.

    inside : sequence of str
        What is still there of the erased rows inside the network, beyond doubt.
    """

    ratios: dict[str, Closeness]
    auc: float
    auc_interval: tuple[float, float]
    reference_aucs: Sequence[float]
    loss: float
    reference_losses: Sequence[float]
    n_still_stored: int | None
    recall: float | None = None
    reference_recalls: Sequence[float] = ()
    inside: Sequence[str] = ()


def expected_of_another(values: Sequence[float], least: float = _NEGLIGIBLE_AUC) -> tuple[float, float]:
    """Return the interval in which the value of one more retrained model is expected, with a confidence of 99 %.

    Parameters
    ----------
    values : sequence of at least two floats
        The values of the retrained models at hand.
    least : float
        The interval reaches at least this far to either side of the mean.
    """
    n = len(values)
    reach = float(stdtrit(n - 1, (1 + _LEVEL) / 2) * np.std(values, ddof=1) * np.sqrt(1 + 1 / n))
    centre = float(np.mean(values))
    return centre - max(reach, least), centre + max(reach, least)


def judge(found: Findings) -> Verdict:
    """Return the verdict; the worst that can be said of the model is tried first."""
    n = len(found.reference_aucs)
    stored = _still_stored(found)
    if stored is not None:
        return stored
    if n < ENOUGH_REFERENCES or "erased" not in found.ratios or "test" not in found.ratios:
        nothing = _without_yardstick(n)
        # What was found in the network needs none.
        return _outputs_only([*found.inside, *nothing.reasons]) if found.inside else nothing
    low, high = expected_of_another(found.reference_aucs)
    if np.ptp(found.reference_aucs) == 0:
        # The attack does equally well on all references, since they lack the class or fit it perfectly. Their spread
        # then says nothing; what remains is how uncertain the AUC of the audited model is, from the choice of rows.
        low, high = (
            (low + min(0, found.auc - found.auc_interval[1])),
            (high + max(0, found.auc - found.auc_interval[0])),
        )
    erased, test = found.ratios["erased"], found.ratios["test"]
    told = found.auc < low or found.auc > high
    attack = (
        f"An attack on the erased rows reaches an AUC of {found.auc:.3f}; another retrained model is expected between "
        f"{max(low, 0):.3f} and {min(high, 1):.3f}."
    )
    inside = _inside(found)
    findings = [
        (erased.ratio > erased.high, _in_words("the erased rows", erased)),
        (test.ratio > test.high, _in_words("rows never seen", test)),
        (told, attack),
        *((True, reason) for reason in inside),
    ]
    # What speaks against the model comes first.
    reasons = [reason for _, reason in sorted(findings, key=lambda finding: not finding[0])]
    # The erased rows look stranger to the model than to retrained ones: it was pushed away from them.
    pushed = found.auc < low or (found.auc <= high and found.loss > max(found.reference_losses))
    if told or erased.ratio > erased.high:
        return _over_forgotten(reasons) if pushed else _not_yet(reasons)
    if test.ratio > test.high:
        reasons.insert(0, "On the erased rows nothing is left to see, but elsewhere the model has changed too much.")
        return _not_yet(reasons)
    if inside:
        return _outputs_only(reasons)
    worst = max(erased, test)
    if worst.ratio <= 1:
        headline = "Forgotten: closer to retrained models than another retraining would be on average."
        return Verdict("closer", headline, reasons)
    if worst.high <= _TOO_COARSE:
        headline = f"Forgotten, as far as {n} retrained models can tell: no farther than another retraining may be."
        return Verdict("within", headline, reasons)
    headline = (
        f"Not decided: {worst.ratio:.2f} times as far as another retraining would be on average, and {n} retrained "
        "models differ too much to say whether that is chance."
    )
    return Verdict("undecided", headline, [*reasons, "Audit again with more references (n_references)."])


def _still_stored(found: Findings) -> Verdict | None:
    if not found.n_still_stored:
        return None
    return Verdict(
        "not_yet",
        f"Not yet: the model still holds {found.n_still_stored} of the rows.",
        ["They are in its training set. Call forget on it first."],
    )


def _without_yardstick(n: int) -> Verdict:
    reason = (
        f"There are {n} retrained models to compare with, and it takes {ENOUGH_REFERENCES}."
        if n < ENOUGH_REFERENCES
        else "The retrained models do not differ from each other by a finite amount, so that there is no yardstick."
    )
    return Verdict("undecided", "Not decided: there is no yardstick.", [reason])


def _over_forgotten(reasons: list[str]) -> Verdict:
    return Verdict(
        "over_forgotten",
        "Over-forgotten: the erased rows look stranger to it than they do to retrained models, which betrays them.",
        reasons,
    )


def _outputs_only(reasons: list[str]) -> Verdict:
    return Verdict(
        "outputs_only",
        "Not yet: inside the network more is left than in a retrained one, though its outputs do not show it.",
        reasons,
    )


def _not_yet(reasons: list[str]) -> Verdict:
    return Verdict("not_yet", "Not yet: the model can be told from one that was retrained without the rows.", reasons)


def _inside(found: Findings) -> list[str]:
    """Say what is left of the erased rows inside the network."""
    if found.recall is None:
        return [*found.inside]
    low, high = expected_of_another(found.reference_recalls)
    if found.recall <= high:
        return [*found.inside]
    return [
        *found.inside,
        "The features inside the network still tell the erased class. Where it is learnt anew from one row of each "
        f"class, {found.recall:.0%} of its test rows are recognised; with the features of another retrained model it "
        f"should be between {max(low, 0):.0%} and {min(high, 1):.0%}.",
    ]


def _in_words(rows: str, closeness: Closeness) -> str:
    added = (
        f" ({closeness.added:.2g} is added to each distance, as less makes no difference)" if closeness.added else ""
    )
    return (
        f"On {rows} the model is {closeness.ratio:.2f} times as far from retrained models as these are from each "
        f"other{added}; another retrained model is expected between {closeness.low:.2f} and {closeness.high:.2f}."
    )
