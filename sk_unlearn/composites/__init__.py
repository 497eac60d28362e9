"""Deletion across a whole model: every part of a pipeline, an ensemble or a search that knows the rows."""

from sk_unlearn.composites._forget import forget, which_parts_know
from sk_unlearn.composites._summary import ForgetSummary, OtherPart, PartSummary

__all__ = ["ForgetSummary", "OtherPart", "PartSummary", "forget", "which_parts_know"]
