"""A pipeline as it is at one moment, for whoever writes it down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sk_unlearn.pipeline._pipeline import Pipeline

__all__ = ["pipeline_snapshot"]


@contextmanager
def pipeline_snapshot(pipeline: Pipeline, *, rows: bool) -> Iterator[Pipeline]:
    """Yield a pipeline with the attributes of this one; requests wait while the context lasts.

    Parameters
    ----------
    pipeline : Pipeline
        Fitted or not.
    rows : bool
        Whether it has the rows as they came, and what is counted of them. Its last step is the given one: see
        :func:`sk_unlearn.estimators.snapshot.snapshot`.
    """
    with pipeline._turn():
        other: Any = object.__new__(type(pipeline))
        vars(other).update(vars(pipeline))
        if not rows and hasattr(other, "pipeline_state_"):
            other.pipeline_state_ = other.pipeline_state_.without_rows()
        yield other
