"""Files of fitted estimators that hold no code: saved at once or not at all, and checked before anything is made."""

from sk_unlearn.persistence.files import load, save, untrusted_types
from sk_unlearn.persistence.lock import exclusive

__all__ = ["exclusive", "load", "save", "untrusted_types"]
