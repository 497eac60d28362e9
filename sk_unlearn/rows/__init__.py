"""The rows of a fitted estimator: what is kept of them, found again and dropped for good."""

from sk_unlearn.rows._identifiers import as_identifiers
from sk_unlearn.rows._look_up import RowMatch
from sk_unlearn.rows._marks import Mark
from sk_unlearn.rows._set_digest import SetDigest
from sk_unlearn.rows.content import count_distinct
from sk_unlearn.rows.opening import open_rows
from sk_unlearn.rows.outside import OutsideRows
from sk_unlearn.rows.roles import RowRole
from sk_unlearn.rows.sampling import sample_mask
from sk_unlearn.rows.sparse_rows import SparseRows
from sk_unlearn.rows.training_set import TrainingSet

__all__ = [
    "Mark",
    "OutsideRows",
    "RowMatch",
    "RowRole",
    "SetDigest",
    "SparseRows",
    "TrainingSet",
    "as_identifiers",
    "count_distinct",
    "open_rows",
    "sample_mask",
]
