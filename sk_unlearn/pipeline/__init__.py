"""Pipelines whose steps forget together."""

from sk_unlearn.pipeline._pipeline import Pipeline, make_pipeline
from sk_unlearn.pipeline._state import PipelineState

__all__ = ["Pipeline", "PipelineState", "make_pipeline"]
