"""Several processes, each with rows of its own, that fit one model and carry out one request together."""

# For the package's own use; under the names by which the others speak of them.
from sk_unlearn.distributed._exchange import agree as agree
from sk_unlearn.distributed._exchange import as_first as as_first
from sk_unlearn.distributed._exchange import from_first as from_first
from sk_unlearn.distributed._exchange import gather as gather
from sk_unlearn.distributed._exchange import gather_rows as gather_rows
from sk_unlearn.distributed._exchange import same as same
from sk_unlearn.distributed._exchange import sum_ as sum_
from sk_unlearn.distributed._session import Processes, data_parallel
from sk_unlearn.distributed._session import in_step as in_step
from sk_unlearn.distributed._session import is_active as is_active
from sk_unlearn.distributed._session import rank as rank
from sk_unlearn.distributed._session import refuse as refuse
from sk_unlearn.distributed._session import size as size

__all__ = ["Processes", "data_parallel"]
