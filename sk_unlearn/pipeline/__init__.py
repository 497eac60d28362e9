"""Pipelines whose steps forget together."""

from sk_unlearn.pipeline._pipeline import Pipeline, make_pipeline

__all__ = ["Pipeline", "make_pipeline"]
