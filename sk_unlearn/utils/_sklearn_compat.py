"""The one place that knows which scikit-learn it runs under."""

from __future__ import annotations

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn < 1.9 has no callbacks

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in without callbacks."""


__all__ = ["CallbackSupportMixin"]
