"""Retrained models as a yardstick: many of them trained at once, and kept in a folder for many audits."""

from sk_unlearn.references.files import SavedReferences, load, save
from sk_unlearn.references.many import fit_many
from sk_unlearn.references.retrained import changes_training

__all__ = ["SavedReferences", "changes_training", "fit_many", "load", "save"]
