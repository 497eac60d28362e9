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
    return [
        Clause(
            "GDPR Article 16, rectification",
            "Inaccurate personal data are corrected without undue delay.",
            _corrected(report.request),
            "Whether the new values are accurate, and correction in the source systems.",
        ),
        Clause(
            "GDPR Article 17, erasure",
            "Personal data are erased without undue delay where a ground applies.",
            f"{_stored(report)} The influence on the model: {report.headline} {_guarantee(report)}",
            "Source systems, copies of the model, caches, backups, logs, earlier predictions, and recipients of the "
            "data (Article 19). The removal from the parameters is approximate unless the certificate says otherwise.",
        ),
        Clause(
            "GDPR Article 12(3), one month",
            "The person is told what was done within a month of the request.",
            _in_time(report.request),
            "The time before the request reached the estimator, an extension and its reasons, and telling the person.",
        ),
        Clause(
            "GDPR Article 5(2), accountability",
            "The controller can demonstrate compliance.",
            "This report: what was done, when, by which method and versions, how it was checked, and with which seeds "
            "it can be checked again.",
            "Keeping it unaltered, and the rest of the record of processing.",
        ),
        Clause(
            "EDPB Opinion 28/2024 (17 December 2024)",
            "Whether personal data can be had from a model is assessed case by case, and what was done is documented.",
            _attack(report),
            "That the model is anonymous: other attacks, by reconstruction or with shadow models, were not run.",
        ),
        Clause(
            "EU AI Act, Articles 12, 19 and 26(6)",
            "Systems of high risk record events, and their logs are kept for at least six months.",
            _recorded(report.request),
            "The use of the system, and keeping the log.",
        ),
        Clause(
            "OWASP AISVS 1.0 (2026), 11.2.5",
            "In simulated membership inference, attacks do no better than guessing.",
            f"On the erased rows: {_attack(report)}",
            "The rows that stay, and stronger attacks, such as U-LiRA with many shadow models.",
        ),
        Clause(
            "OWASP AISVS 1.0 (2026), 12.5.3",
            "All changes of a model leave immutable records.",
            _recorded(report.request),
            "Storage that cannot be written to, changes past the package, and who asked for the change.",
        ),
    ]


def _corrected(request: Any) -> str:
    if request is None or request.request != "correct":
        return "Not what this request was about."
    return f"The last request corrected {request.n_erased} rows in {request.seconds:.2f} s."


def _in_time(request: Any) -> str:
    if request is None:
        return "The estimator has no record of a request."
    if not request.requests:
        return "The request was carried out when it was made; its receipt has the time."
    n_late = sum(each["late"] for each in request.requests)
    return f"{len(request.requests)} waiting requests were carried out together, {n_late} of them after their deadline."


def _recorded(request: Any) -> str:
    if request is None or not request.request_id:
        return "The estimator has no receipt of a request."
    return f"Receipt {request.request_id}, an entry of a chain of hashes, with the digest of the parameters."


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
