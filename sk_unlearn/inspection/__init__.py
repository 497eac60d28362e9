"""Look at a deletion: an audit of it in words and figures, and displays of its parts."""

from sk_unlearn.estimators.report_display import UnlearningReportDisplay
from sk_unlearn.inspection._audit import AuditReport, audit
from sk_unlearn.inspection._erased_loss import ErasedLossDisplay
from sk_unlearn.inspection._feature_probe import FeatureProbeDisplay
from sk_unlearn.inspection._forget_curve import ForgetCurveDisplay
from sk_unlearn.inspection._frontier import FrontierDisplay
from sk_unlearn.inspection._membership_roc import MembershipRocDisplay
from sk_unlearn.inspection._relearning import RelearningDisplay
from sk_unlearn.inspection._sequence_drift import SequenceDriftDisplay

__all__ = [
    "AuditReport",
    "ErasedLossDisplay",
    "FeatureProbeDisplay",
    "ForgetCurveDisplay",
    "FrontierDisplay",
    "MembershipRocDisplay",
    "RelearningDisplay",
    "SequenceDriftDisplay",
    "UnlearningReportDisplay",
    "audit",
]
