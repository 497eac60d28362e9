"""Errors and warnings of the package's own."""

__all__ = [
    "CertificateRefused",
    "DominatingNoiseWarning",
    "NotConvexError",
    "RetrainRequired",
    "VacuousBoundWarning",
]


class CertificateRefused(ValueError):  # noqa: N818  the name says what happened
    """Raised where a guarantee rests on something that does not hold; see :meth:`CertifiedNewton.unlearn`."""


class RetrainRequired(RuntimeError):  # noqa: N818
    """Raised where a request would pass the budget; see :meth:`CertifiedRemoval.unlearn`."""


class VacuousBoundWarning(UserWarning):
    """Warns of a bound that says no more than what holds for any two models; see :meth:`CertifiedNewton.unlearn`."""


class DominatingNoiseWarning(UserWarning):
    """Warns of noise that is longer than the parameters it hides; see :meth:`CertifiedNewton.unlearn`."""


class NotConvexError(ValueError):
    """The objective is not known to be strongly convex; the message says why."""
