"""A fitted estimator as it is at one moment, for whoever writes it down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.fitting import first_anchor
from sk_unlearn.exceptions import PersistenceError
from sk_unlearn.utils._journal import Journal
from sk_unlearn.utils._lock import taking_turns

__all__ = ["snapshot"]


@contextmanager
def snapshot(est: BaseUnlearnable, *, rows: bool, receipts: bool = True) -> Iterator[BaseUnlearnable]:
    """Yield an estimator with the attributes of this one; requests wait while the context lasts.

    Parameters
    ----------
    est : BaseUnlearnable
        Fitted or not.
    rows : bool
        Whether it has the stored rows, too. Without them it is as one fitted with ``keep_training_set=False``.
    receipts : bool, default=True
        Whether it has its receipts. Without these and without rows it has no key either: nothing is left to be digested
        that was before.
    """
    with taking_turns([est]):
        fitted = est.__sklearn_is_fitted__()
        other: Any = object.__new__(type(est))
        other.__dict__.update(est.__dict__)
        if not rows and fitted and est.keep_training_set:
            _give_up_rows(other)
        if not receipts:
            vars(other).pop("receipts_", None)
            if not hasattr(other, "training_set_"):
                vars(other).pop("_receipt_key", None)
        yield other


def _give_up_rows(est: Any) -> None:
    """Keep a sketch of what the rows that go say of the curvature, as a fit does that keeps no rows."""
    if est.pending_:
        raise PersistenceError(
            f"Pending requests ({len(est.pending_)}) wait on the stored rows, which rows=False leaves out, and would "
            "be lost: settle() them first, or save with rows=True."
        )
    stored, state = est.training_set_, est.unlearning_state_
    sketched = first_anchor(est.net_, stored, state.seed, keeps_rows=False)
    known = state.anchor or sketched
    anchor = replace(known, sketch=sketched.sketch, chance=sketched.chance)
    est.unlearning_state_ = replace(state, anchor=anchor, features=None, recording=None)
    est.keep_training_set = False
    del est.training_set_
    est._journal = Journal()
