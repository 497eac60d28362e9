"""When a model that has been through many requests had better be trained anew, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sk_unlearn.estimators._certificate import latest_certificate
from sk_unlearn.estimators._problem import had_little_to_undo, hardly_moved
from sk_unlearn.estimators._since import SMALL_PASS, SinceTraining
from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.privacy import Certificate
from sk_unlearn.privacy.mechanisms import objective_budget
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._cards import Box, Listed, Pairs, Part, card, counted

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = ["RetrainAdvice", "RetrainPolicy", "advise"]


@dataclass(frozen=True)
class RetrainPolicy:
    """From when on a model had better be trained anew.

    In brackets stands the benchmark; ``benchmarks/RESULTS.md`` has what it printed.

    Attributes
    ----------
    max_share_erased : float
        Share of the trained rows that may have been erased or corrected. With a fifth of them gone in twenty requests a
        model was nearer to the retrained one than a model of another seed is, with three tenths it was not. (sequence,
        ``--share``)

    max_small_passes : int
        Calls of ``partial_fit`` with few rows. After one over a single row a model was about as far as one of another
        seed, after two it was seven times as far. Few are up to ``SMALL_PASS``, 20: two passes over 20 rows still went
        well, five ended twice as far, where one pass over all of these rows did no harm. (sequence, ``--verbs
        partial_fit``)

    max_epsilon_growth : float
        Times the ε of one request that requests with noise of their own may add up to. Beyond, the guarantee is another
        one than was asked for. A choice, not a measurement.

    alarming : tuple of Status
        Ends of a request after which the model is not what a deletion was to leave: at once. ``uncertain`` is not among
        them, for nothing that was measured shows that such models are farther away.
    """

    max_share_erased: float = 0.2
    max_small_passes: int = 1
    max_epsilon_growth: float = 2.0
    alarming: tuple[Status, ...] = (Status.MODEL_BROKE_DOWN, Status.HARMED_RETAINED, Status.UNMOVED)


@dataclass(frozen=True)
class RetrainAdvice:
    """Whether a model had better be trained anew: true where it had.

    "Since" is since ``fit``, ``retrain`` or another training from the start on nothing but the rows that stayed.

    Attributes
    ----------
    reasons : list of str
        What speaks for it; empty where nothing does.

    share_erased : float
        Share of the trained rows that were erased or corrected since.

    n_requests : int
        Requests for trained rows since.

    n_small_passes : int
        Calls of ``partial_fit`` with at most 20 rows since.

    statuses : list of str
        How the requests since ended, each status once.

    gradient_left : float
        What the last request left of the gradient that it met, as a share of that; nan where it is not known.

    budget_spent : float
        Share that is spent of the one noise that training put into the objective (``CertifiedRemoval``); nan without.

    epsilon : float
        What all requests that added noise guarantee together; nan without.

    distance_bound : float
        Proven bound of the distance between the parameters and those of retraining; nan where there is none.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(random_state=0).fit(X, y)
    >>> est.retrain_recommended_.reason
    'nothing has been erased since the model was trained'
    """

    reasons: list[str] = field(default_factory=list)
    share_erased: float = 0.0
    n_requests: int = 0
    n_small_passes: int = 0
    statuses: list[str] = field(default_factory=list)
    gradient_left: float = math.nan
    budget_spent: float = math.nan
    epsilon: float = math.nan
    distance_bound: float = math.nan

    def __bool__(self) -> bool:
        return bool(self.reasons)

    @property
    def reason(self) -> str:
        """All reasons in one sentence, or why there is none."""
        if self.reasons:
            return "; ".join(self.reasons)
        if not self.n_requests:
            return "nothing has been erased since the model was trained"
        return f"nothing speaks for it after {counted(self.n_requests, 'request')} since the model was trained"

    def _repr_html_(self) -> str:
        box = Box("Retraining is recommended: call retrain()", colour="open") if self else Box("No need to retrain")
        numbers = ("share_erased", "gradient_left", "budget_spent", "epsilon", "distance_bound")
        known = [(name, getattr(self, name)) for name in numbers if not math.isnan(getattr(self, name))]
        counts: list[tuple[str, object]] = [("n_requests", self.n_requests), ("n_small_passes", self.n_small_passes)]
        pairs = [*counts, ("statuses", ", ".join(self.statuses)), *((name, f"{value:.3g}") for name, value in known)]
        parts: list[Part] = [Listed(self.reasons or [self.reason]), Pairs(pairs)]
        return card("Whether to retrain", "since the model was trained from the start", boxes=[box], parts=parts)


def advise(estimator: BaseUnlearnable, policy: RetrainPolicy | None = None) -> RetrainAdvice:
    """Return whether an estimator had better be trained anew.

    Parameters
    ----------
    estimator : BaseUnlearnable
        Fitted.

    policy : RetrainPolicy, default=None
        None takes the default one.
    """
    policy = policy or RetrainPolicy()
    since = estimator.unlearning_state_.since
    # Requests before the last training are over; so are those that moved nothing.
    history = [report for report in estimator.unlearning_history_ if report.n_trained_erased]
    last = history[-1] if history and since.n_requests else None
    certificate = _certificate_of(estimator) if last is not None else None
    share = _share_erased(since, _n_trained(estimator))
    reasons = [
        *_many_erased(share, policy),
        *_small_passes(since, policy),
        *_alarms(since, policy),
        *_nothing_undone(last),
        *_budget_used_up(certificate, history),
        *_noise_added_up(certificate, history, policy),
    ]
    return RetrainAdvice(
        reasons,
        share,
        since.n_requests,
        since.n_small_passes,
        list(since.statuses),
        math.nan if last is None else _ratio(last.gradient_norm_after, last.gradient_norm_before),
        *_guaranteed(certificate),
    )


def _n_trained(estimator: BaseUnlearnable) -> int:
    if hasattr(estimator, "training_set_"):
        return estimator.training_set_.n_trained
    anchor = estimator.unlearning_state_.anchor
    assert anchor is not None
    return anchor.n_rows


def _share_erased(since: SinceTraining, n_left: int) -> float:
    return min(1.0, _ratio(since.n_erased + since.n_corrected, since.n_erased + n_left))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _certificate_of(estimator: BaseUnlearnable) -> Certificate | None:
    try:
        return latest_certificate(estimator.unlearning_history_, None)
    except AttributeError:
        return None


def _guaranteed(certificate: Certificate | None) -> tuple[float, float, float]:
    """Return the share of the budget that is spent, ε, and the bound of the distance, each nan where there is none."""
    if certificate is None:
        return math.nan, math.nan, math.nan
    epsilon, delta = certificate.epsilon, certificate.delta
    if epsilon is None or delta is None:
        return math.nan, math.nan, certificate.bound
    if certificate.noise == "objective":  # its bound is of a gradient, and its ε is asked for and not used up
        return certificate.bound / objective_budget(certificate.sigma, epsilon, delta), epsilon, math.nan
    # That of a walk is of how much the distance changed.
    return math.nan, epsilon, math.nan if certificate.noise == "walk" else certificate.bound


def _many_erased(share: float, policy: RetrainPolicy) -> list[str]:
    if not share > policy.max_share_erased:
        return []
    return [f"{share:.0%} of the trained rows were erased or corrected since, and {policy.max_share_erased:.0%} may be"]


def _small_passes(since: SinceTraining, policy: RetrainPolicy) -> list[str]:
    if since.n_small_passes <= policy.max_small_passes:
        return []
    return [
        f"partial_fit made {since.n_small_passes} passes of at most {SMALL_PASS} rows since, each at the full rate, "
        "which lead away from what training on all rows gives"
    ]


def _alarms(since: SinceTraining, policy: RetrainPolicy) -> list[str]:
    return [
        f"a request ended with the status {status}: {status.sentence[0].lower()}{status.sentence[1:].rstrip('.')}"
        for status in policy.alarming
        if status in since.statuses
    ]


def _nothing_undone(last: UnlearningReport | None) -> list[str]:
    if last is None or not hardly_moved(
        last.gradient_norm_before, last.gradient_norm_after, last.erased_loss_before, last.erased_loss_after
    ):
        return []
    if had_little_to_undo(last.notes):
        return []
    return ["the last request undid next to nothing of what the model knew of its rows"]


def _budget_used_up(certificate: Certificate | None, history: list[UnlearningReport]) -> list[str]:
    """Say so where one more request as dear as the dearest so far would pass the budget."""
    spent, _, _ = _guaranteed(certificate)
    if certificate is None or math.isnan(spent):
        return []
    bounds: list[float] = []  # each is what has been spent so far
    for report in reversed(history):
        if report.certificate is None or report.certificate.noise != "objective":
            break
        bounds.insert(0, report.certificate.bound)
    dearest = max(after - before for before, after in zip([0.0, *bounds], bounds, strict=False))
    if spent * (1 + dearest / certificate.bound) <= 1:
        return []
    return [
        f"{spent:.0%} of the certificate's budget is spent, and one more request as dear as others were would pass it"
    ]


def _noise_added_up(
    certificate: Certificate | None, history: list[UnlearningReport], policy: RetrainPolicy
) -> list[str]:
    _, epsilon, _ = _guaranteed(certificate)
    if certificate is None or math.isnan(epsilon):
        return []
    ones = [each.certificate.epsilon for each in history[-certificate.n_requests :] if each.certificate is not None]
    # Steps of a walk are as dear as what each request leaves, so that the last may be next to nothing.
    one = (max(each or 0.0 for each in ones) if certificate.noise == "walk" else ones[-1]) if ones else None
    if not one or not epsilon > policy.max_epsilon_growth * one:
        return []
    return [f"all requests together guarantee epsilon = {epsilon:.3g}, where one alone does {one:.3g}"]
