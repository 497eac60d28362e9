"""A pipeline of scikit-learn's in which steps may resample, as in imbalanced-learn's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline as SklearnPipeline

from sk_unlearn.pipeline._steps import is_sampler, passed_over

__all__ = ["PassingOver"]


class PassingOver(SklearnPipeline):
    """Whatever is not ``fit`` passes over steps that resample: rows that come later meet the others."""

    def _validate_steps(self) -> None:
        SklearnPipeline(passed_over(self.steps))._validate_steps()

    @property
    def _final_estimator(self) -> Any:
        last = super()._final_estimator
        return "passthrough" if is_sampler(last) else last

    def _iter(self, with_final: bool = True, filter_passthrough: bool = True) -> Iterator[tuple[int, str, Any]]:
        return (each for each in super()._iter(with_final, filter_passthrough) if not is_sampler(each[2]))

    @property
    def n_features_in_(self) -> int:
        """Number of features of the first step that takes them."""
        return int(self._first().n_features_in_)

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Names of features of the first step that has them."""
        names: NDArray[np.object_] = self._first().feature_names_in_
        return names

    def _first(self) -> Any:
        return next((step for _, step in self.steps if not is_sampler(step)), self.steps[0][1])

    def __sklearn_is_fitted__(self) -> bool:
        return bool(SklearnPipeline(passed_over(self.steps)).__sklearn_is_fitted__())
