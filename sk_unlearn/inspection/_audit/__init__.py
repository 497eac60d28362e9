"""The audit of one deletion: measures, a verdict in words, a report."""

from sk_unlearn.inspection._audit._audit import audit
from sk_unlearn.inspection._audit._report import AuditReport

__all__ = ["AuditReport", "audit"]
