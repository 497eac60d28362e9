"""The rows of a fitted estimator: what is kept of them, found again and dropped for good."""

from sk_unlearn.rows._columns import as_rows, joined, replaced, rows_given, taken
from sk_unlearn.rows._content import count_distinct, numbered, same_content
from sk_unlearn.rows._identifiers import as_identifiers
from sk_unlearn.rows.parts import as_records, fields, for_net, has_parts, part_name, parts_in, tensors_for_net
from sk_unlearn.rows.roles import RowRole
from sk_unlearn.rows.sampling import sample_mask
from sk_unlearn.rows.sparse_rows import SparseRows, dense, in_blocks
from sk_unlearn.rows.training_set import RowMatch, TrainingSet

__all__ = [
    "RowMatch",
    "RowRole",
    "SparseRows",
    "TrainingSet",
    "as_identifiers",
    "as_records",
    "as_rows",
    "count_distinct",
    "dense",
    "fields",
    "for_net",
    "has_parts",
    "in_blocks",
    "joined",
    "numbered",
    "part_name",
    "parts_in",
    "replaced",
    "rows_given",
    "same_content",
    "sample_mask",
    "taken",
    "tensors_for_net",
]
