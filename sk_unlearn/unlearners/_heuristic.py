"""What methods have in common that read the stored rows and do not aim at the retrained net."""

from __future__ import annotations

from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags

__all__ = ["RowHeuristic"]


class RowHeuristic(Unlearner):
    """An unlearner that reads the stored rows and makes the model wrong on the erased ones, or blurs it."""

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        tags.aims_at_retrained = False
        return tags
