"""What the verbs of a pipeline stand on: its last step, rows that are found, and changes of all steps at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _num_samples, check_is_fitted

from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.drafts import (
    Draft,
    all_found,
    is_learnt,
    known_in,
    narrowed,
    stored_rows,
    stored_targets,
)
from sk_unlearn.estimators.shards.base import BaseSharded
from sk_unlearn.pipeline._kinds import told_of_kinds
from sk_unlearn.pipeline._passing_over import PassingOver
from sk_unlearn.pipeline._pinned import Attributes
from sk_unlearn.pipeline._raw import check_columns
from sk_unlearn.pipeline._requests import After, check_steps_are_those_of_fit, retained_raw
from sk_unlearn.pipeline._state import PipelineState
from sk_unlearn.pipeline._steps import transformer_of
from sk_unlearn.rows import RowMatch, TrainingSet
from sk_unlearn.rows.digests import digest_rows
from sk_unlearn.utils._journal import Assignment
from sk_unlearn.utils._lock import taking_turns

__all__ = ["NO_MORE", "Ground"]

NO_MORE = (
    "{verb} cannot be had with steps that resample, for nobody knows which rows they would draw then: {cure} anew."
)


class Ground(PassingOver):
    """A pipeline as its verbs see it. See `Pipeline`."""

    keep_raw: bool
    preprocessing: str
    pipeline_state_: PipelineState

    def _last_step(self) -> BaseUnlearnable | None:
        """Return the last step if it is one that this pipeline can forget in."""
        self._validate_names([name for name, _ in self.steps])
        last = self.steps[-1][1] if self.steps else None
        if isinstance(last, BaseSharded):
            raise ValueError(
                f"{type(last).__name__} cannot be the last step: when a step before it forgets, the features of all "
                "shards change, and each would have to be trained anew. Take an UnlearnableClassifier or "
                "UnlearnableRegressor with Retrain(), which is as exact; or leave steps out that learn, and let the "
                "net of each shard scale its rows, as the built-in one does."
            )
        return last if isinstance(last, BaseUnlearnable) else None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep others from changing the pipeline and its last step."""
        last = self.steps[-1][1] if self.steps else None
        with taking_turns([self, last] if isinstance(last, BaseUnlearnable) else [self]):
            yield

    def _fitted_last(self, verb: str) -> BaseUnlearnable:
        check_is_fitted(self)
        last = self._last_step()
        if last is None:
            raise ValueError(
                f"{verb} needs an UnlearnableClassifier or UnlearnableRegressor as the last step, which is "
                f"{type(self.steps[-1][1]).__name__}. An ensemble goes around pipelines: sk_unlearn.forget finds them."
            )
        rows: TrainingSet | None = getattr(last, "training_set_", None)
        if not hasattr(self, "pipeline_state_") or (rows is not None and rows.raw_source is None):
            raise ValueError(f"{verb} needs a pipeline whose own fit was called; its last step was fitted past it.")
        check_steps_are_those_of_fit(self.steps[:-1], self.pipeline_state_)
        return last

    def _with_rows(self, verb: str) -> tuple[BaseUnlearnable, TrainingSet]:
        last = self._fitted_last(verb)
        return last, stored_rows(last, verb)

    def _refuse_samplers(self, verb: str, cure: str) -> None:
        if self.pipeline_state_.resampled is not None:
            raise ValueError(NO_MORE.format(verb=verb, cure=cure))

    def _digests(self, X: Any) -> NDArray[np.uint8]:
        return digest_rows(self.steps[-1][1].receipt_key_, X)

    def _match(self, X: Any, y: Any, name: str) -> RowMatch:
        check_columns(X, self, name)
        last, source = self.steps[-1][1], self._digests(X)
        targets = None if y is None else stored_targets(last, y, len(source), name.replace("X", "y", 1))
        return last.training_set_.match_source(source, targets, name=name)

    def _found(self, X: Any, y: Any, name: str) -> RowMatch:
        check_columns(X, self, name)  # before rows are counted, which a single value has none of
        if not _num_samples(X):
            raise ValueError(f"{name} is empty: pass at least one row.")
        match = self._match(X, y, name)
        return all_found(match, name, "" if match.row_found.all() else self._told_of_unknown(X, name))

    def _transformed(self, X: Any, after: After | None = None) -> Any:
        transformer = transformer_of(self.steps[:-1] if after is None else after.steps)
        return X if transformer is None else transformer.transform(X)

    def _notes(self, after: After) -> list[str]:
        if self.memory is None:
            return after.notes
        return [*after.notes, "memory of the pipeline keeps steps that were fitted on the rows until it is cleared."]

    def _combined(self, draft: Draft, after: After) -> Draft:
        """Return what makes the last step and the others forget at once."""
        assignments = [*draft.assignments, *self._assignments(after.steps, after.state)]
        return Draft(draft.journal, assignments, draft.report, draft.rows)

    def _checked_match(self, X_del: Any, y_del: Any, sample_id: Any, verb: str) -> RowMatch | None:
        """Return which stored rows were made of those that a request names; None where it names identifiers alone."""
        self._with_rows(verb)
        if X_del is None and sample_id is None:
            raise ValueError(f"{verb} needs X_del (rows) or sample_id (identifiers given at fit); both are None.")
        if X_del is None and y_del is not None:
            raise ValueError("y_del narrows X_del, which is None; pass X_del too.")
        return None if X_del is None else self._found(X_del, y_del, "X_del")

    def _assignments(
        self, steps: Sequence[tuple[str, Any]], state: PipelineState, last: Any = None, new_last: Any = None
    ) -> list[Assignment]:
        """Return what gives the steps that there are what other objects have learnt, and the pipeline another state."""
        own, n = vars(self), vars(self).get("_n_changes", 0)
        # Whoever holds a step holds the forgetful one.
        learnt = [
            (Attributes(old), "__dict__", vars(new))
            for (_, old), (_, new) in zip(self.steps, steps, strict=False)
            if new is not old and hasattr(new, "__dict__")
        ]
        if last is not None:
            learnt.append((Attributes(last), "__dict__", _not_learnt(last) | vars(new_last)))
        return [
            (own, "_n_changes", n + 1),  # odd while steps are exchanged
            *learnt,
            (own, "pipeline_state_", state),
            (own, "_n_changes", n + 2),
        ]

    # ------------------------------------------------------------------ inside other models

    def _known_rows(self, X: Any, y: Any, sample_id: Any) -> tuple[Any, Any]:
        """Return which of some rows, and which identifiers, belong to stored rows; None for what was not asked."""
        self._last_step()
        return known_in(self.steps[-1][1], None if X is None else self._digests(X), y, sample_id)

    def _told_of_unknown(self, X: Any, name: str) -> str:
        """Say what about the columns of rows keeps them from being found; "" if nothing does."""
        try:
            check_columns(X, self, name)
        except ValueError as error:
            return f" {error}"
        raw = self.pipeline_state_.raw
        return "" if raw is None else told_of_kinds(X, raw.X)

    def _retained_rows(self, X: Any, y: Any, sample_id: Any) -> tuple[Any, Any] | None:
        """Return the raw rows and targets that stay after a request; None where they are not kept."""
        last, match = self.steps[-1][1], self._checked_match(X, y, sample_id, "forget")
        positions = narrowed(last, None if match is None else match.positions, sample_id)
        kept = retained_raw(self, last, positions)
        return None if kept is None else (kept.X, kept.y)


def _not_learnt(step: Any) -> dict[str, Any]:
    """Return what somebody else put into a step, such as scikit-learn for its callbacks."""
    return {name: value for name, value in vars(step).items() if not is_learnt(name)}
