"""What has happened to a net since it was last trained from the start, in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sk_unlearn.estimators.report import UnlearningReport

__all__ = ["SMALL_PASS", "SinceTraining"]

# A pass of partial_fit over so few rows is a step or two at the full rate; see RetrainPolicy.
SMALL_PASS = 20


@dataclass(frozen=True)
class SinceTraining:
    """Counts since the net was last trained from the start on the rows that stayed.

    Attributes
    ----------
    n_requests : int
        Requests for rows that had been trained on.

    n_erased, n_corrected : int
        Trained rows that went, and that got other content.

    n_small_passes : int
        Calls of ``partial_fit`` with at most ``SMALL_PASS`` rows.

    statuses : tuple of str
        How the requests ended, each status once.
    """

    n_requests: int = 0
    n_erased: int = 0
    n_corrected: int = 0
    n_small_passes: int = 0
    statuses: tuple[str, ...] = ()

    def after(self, report: UnlearningReport) -> SinceTraining:
        """Return the counts after a request; none are left where it trained anew on nothing but the rows that stay."""
        if report.certificate is not None and report.certificate.kind == "exact":
            return SinceTraining()
        if not report.n_trained_erased:
            return self
        corrects = report.request == "correct"
        return replace(
            self,
            n_requests=self.n_requests + 1,
            n_erased=self.n_erased + (0 if corrects else report.n_trained_erased),
            n_corrected=self.n_corrected + (report.n_trained_erased if corrects else 0),
            statuses=tuple(dict.fromkeys([*self.statuses, str(report.status)])),
        )

    def after_pass(self, n_rows: int) -> SinceTraining:
        """Return the counts after a pass of ``partial_fit`` over so many rows."""
        return replace(self, n_small_passes=self.n_small_passes + (n_rows <= SMALL_PASS))
