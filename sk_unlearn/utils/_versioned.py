"""Pickles that know which version of the package wrote them."""

from __future__ import annotations

import warnings
from typing import Any

from sk_unlearn._version import __version__
from sk_unlearn.exceptions import InconsistentVersionWarning

__all__ = ["VersionedMixin"]

_KEY = "_sk_unlearn_version"


class VersionedMixin:
    """Write the package's version into the pickled state, and warn where another one is read.

    To be named before BaseEstimator, which does the same for estimators of scikit-learn's own modules only.
    """

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return {**state, _KEY: __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop(_KEY, "unknown")
        if version != __version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sk_unlearn_version=__version__,
                    original_sk_unlearn_version=version,
                ),
                stacklevel=2,
            )
        super().__setstate__(state)  # type: ignore[misc]
