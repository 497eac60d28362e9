"""For which duties, of law and of standards, an audit is evidence, and what it does not cover."""

from __future__ import annotations

from typing import Any, NamedTuple

from sk_unlearn.privacy import Certificate

__all__ = ["NOT_LEGAL_ADVICE", "Clause", "clauses"]

NOT_LEGAL_ADVICE = (
    "This section says which evidence the report holds. Whether it suffices is for the controller, and in the end a "
    "supervisory authority, to decide; nothing here is legal advice."
)


class Clause(NamedTuple):
    """A duty, the evidence that this report holds for it, and what it does not cover."""

    clause: str
    asks: str
    evidence: str
    left: str


def clauses(report: Any) -> list[Clause]:
    """Return each duty with the evidence that a report holds for it.

    Parameters
    ----------
    report : AuditReport
    """
    request = report.request
    corrected = request is not None and request.request == "correct"
    return [
        Clause(
            "GDPR Article 16, rectification",
            "Inaccurate personal data are corrected without undue delay.",
            f"The last request corrected {request.n_erased} rows in {request.seconds:.2f} s."
            if corrected and request is not None
            else "Not what this request was about.",
            "Whether the new values are accurate, and correction in the source systems.",
        ),
        Clause(
            "GDPR Article 17, erasure",
            "Personal data are erased without undue delay where a ground applies.",
            f"{_stored(report)} The influence on the model: {report.headline}",
            "Source systems, copies of the model, caches, backups, logs, earlier predictions, and recipients of the "
            "data (Article 19). The removal from the parameters is approximate unless the certificate says otherwise.",
        ),
        Clause(
            "GDPR Article 5(2), accountability",
            "The controller can demonstrate compliance.",
            "This report: what was done, when, by which method and versions, how it was checked, and with which seeds "
            "it can be checked again.",
            "Keeping it unaltered, and the rest of the record of processing.",
        ),
        Clause(
            "OWASP AISVS 1.0 draft, 12.2.1",
            "Deletion requests reach data sets, evaluation sets, caches, feature stores and vector stores within 30 "
            "days.",
            f"For the estimator only: {_stored(report)}",
            "Every other artefact.",
        ),
        Clause(
            "OWASP AISVS 1.0 draft, 12.2.2",
            "Shadow-model or membership evaluation shows the influence of forgotten records below a documented "
            "threshold.",
            f"{_attack(report)} The threshold is the interval in which another retrained model is expected.",
            "Stronger attacks, such as U-LiRA with many shadow models; a threshold of your own policy.",
        ),
        Clause(
            "OWASP AISVS 1.0 draft, 12.2.3",
            "Unlearning retrains on the retained data, or is certified with a documented (ε, δ).",
            _guarantee(report),
            "For an approximate method without (ε, δ), this requirement is not met by this report.",
        ),
    ]


def _stored(report: Any) -> str:
    if report.n_still_stored is None:
        return "The estimator itself keeps no training rows."
    return f"{report.n_still_stored} of the {report.n_erased} erased rows are left among the rows the estimator keeps."


def _attack(report: Any) -> str:
    table = report.to_frame()
    row = table[(table["measure"] == "attack AUC") & (table["model"] == "after")].iloc[0]
    return (
        f"The loss attack reaches an AUC of {row['value']:.3f} (95 % interval {row['low']:.3f} to {row['high']:.3f})."
    )


def _guarantee(report: Any) -> str:
    certificate = report.certificate
    if certificate is not None and certificate.kind == "exact":
        return f"The model was retrained on the retained rows: {certificate.method}; {_basis(certificate)}."
    if certificate is None or certificate.epsilon is None:
        return "No (ε, δ) guarantee is claimed for this request."
    claim = f"ε = {certificate.epsilon:.4g}, δ = {certificate.delta:.4g}"
    return f"{certificate.method}: {claim}; {_basis(certificate)}."


def _basis(certificate: Certificate) -> str:
    failed = [each.statement for each in certificate.assumptions if each.checked is False]
    if failed:
        return f"it was found not to hold that {', nor that '.join(failed)}"
    return "every assumption checked" if certificate.proven else "not every assumption could be checked"
