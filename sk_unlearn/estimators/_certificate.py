"""The guarantee that goes with a request, and the one over all requests so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.exceptions import NotConvexError
from sk_unlearn.privacy import Certificate, compose_certificates
from sk_unlearn.risks.convexity import convex_model, distance_certificate

__all__ = ["certificate_if_convex", "latest_certificate"]


def certificate_if_convex(retained: Any, w: Tensor) -> Certificate | None:
    """Return the distance bound that any unlearner gets on a strongly convex objective; None on others."""
    try:
        return distance_certificate(retained, w)
    except NotConvexError:
        return None


def latest_certificate(reports: Sequence[UnlearningReport], risk: Any) -> Certificate:
    """Return what the requests guarantee together.

    Parameters
    ----------
    reports : sequence of UnlearningReport
        All since ``fit``.

    risk : EmpiricalRisk or None
        Over the stored rows, to say why there is no certificate.

    Raises
    ------
    AttributeError
        Where nothing is guaranteed.
    """
    # A request for rows that had entered no gradient moves nothing, and leaves what was guaranteed before.
    reports = [report for report in reports if report.n_trained_erased or report.certificate is not None]
    if not reports:
        raise AttributeError("There is no certificate_: no request has touched a row that was trained on.")
    certificates: list[Certificate] = []
    for report in reversed(reports):
        if report.certificate is None:
            break
        certificates.insert(0, report.certificate)
    if not certificates:
        raise AttributeError(f"There is no certificate_: {reports[-1].method} gives none, and {_why_not(risk)}.")
    together = compose_certificates(certificates)
    # However those were answered: nothing of them is in a model trained anew on the rows that stayed, and noise
    # in the steps to a model hides all of it.
    return replace(together, n_requests=len(reports)) if together.hides_the_past else together


def _why_not(risk: Any) -> str:
    try:
        convex_model(risk)
    except NotConvexError as reason:
        return f"the objective is not known to be strongly convex: {reason}"
    return "the last request left no convex objective"
