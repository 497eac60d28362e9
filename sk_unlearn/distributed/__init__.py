"""Several processes, each with rows of its own, that fit one model and carry out one request together."""

from sk_unlearn.distributed._exchange import (
    agree,
    as_first,
    from_first,
    gather,
    gather_rows,
    same,
    sum_,
)
from sk_unlearn.distributed._session import (
    Processes,
    ProcessesError,
    data_parallel,
    in_step,
    is_active,
    rank,
    refuse,
    size,
)

__all__ = [
    "Processes",
    "ProcessesError",
    "agree",
    "as_first",
    "data_parallel",
    "from_first",
    "gather",
    "gather_rows",
    "in_step",
    "is_active",
    "rank",
    "refuse",
    "same",
    "size",
    "sum_",
]
