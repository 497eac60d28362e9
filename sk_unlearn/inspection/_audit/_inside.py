"""What an audit finds inside the nets, and on rows around the erased ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from torch import nn

from sk_unlearn.inspection._audit._shown import Shown
from sk_unlearn.inspection._audit._table import Table
from sk_unlearn.inspection._audit._verdict import ENOUGH_REFERENCES, expected_of_another
from sk_unlearn.metrics.class_neighbours import distances_on, nearest_rows
from sk_unlearn.metrics.distances import last_step
from sk_unlearn.metrics.embeddings import embedding_rows
from sk_unlearn.metrics.neighbourhood import recognised_nearby
from sk_unlearn.metrics.probe import feature_probe
from sk_unlearn.metrics.relearning import relearning_curve
from sk_unlearn.metrics.strata import memorisation_strata
from sk_unlearn.rows.forms import taken

if TYPE_CHECKING:
    from sk_unlearn.inspection._audit._measures import Case

__all__ = ["Inside"]

# The probe learns from so many draws of rows, and wants so many rows of the class to be tried on.
_N_DRAWS = 8
_FEW_ROWS = 5
# So many rows are learnt again at the most, in a three-hundredth of the steps of training, within these bounds.
_LEARNT_ROWS, _SHARE_OF_STEPS, _STEPS = 200, 1 / 300, (5, 30)
# So many noisy copies of so many rows.
_N_COPIES, _COPIED_ROWS = 4, 100
_N_NEIGHBOURS = 5
# High, middle and low.
_N_STRATA = 3
# No interval of distances reaches less far than by a tenth.
_LEAST_REACH = 0.1
# What may be wrong with models that others built.
_REFUSALS = (AttributeError, TypeError, ValueError, RuntimeError)


class Inside:
    """Measures of which predictions on the rows at hand are not enough.

    Parameters
    ----------
    case : Case
        The models themselves.
    recalling : Case
        The same models, which remember their predictions on the rows of the case.
    shown : Shown
        What the last step of each is shown.
    table : Table
        Gets the figures.
    notes : list of str
        Gets what could not be measured, and what was found that the verdict does not look at.
    random_state : int
        Seeds what is drawn.
    retrain : callable or None
        Retrains one more model from a seed, and returns it in a list; None where models are not retrained here.

    Attributes
    ----------
    recalls : dict of str to list of float
        By kind of model, what the probe of features recognises with each; None where there was none.
    facts : list of str
        What is still there of the erased rows, beyond doubt.
    """

    def __init__(
        self,
        case: Case,
        recalling: Case,
        shown: Shown,
        table: Table,
        notes: list[str],
        random_state: int,
        retrain: Callable[[int], list[Any]] | None = None,
    ) -> None:
        self.case, self.recalling, self.shown, self.table, self.notes = case, recalling, shown, table, notes
        self.random_state, self.retrain = random_state, retrain
        self.recalls: dict[str, list[float | None]] = {label: [None] for label in case.judged}
        self.recalls["retrained"] = [None] * len(case.references)
        self.facts: list[str] = []
        self.references = [_with_net(model) for model in case.references]
        self.gone = _class_that_is_gone(case)
        # All that are compared with references, with these, so that each is looked at once.
        self.first = [] if case.before is None else [case.before]

    def measure(self) -> None:
        """Measure everything; what cannot be measured of these models or rows is noted."""
        if not self.case.references:
            return
        parts: list[tuple[str, Callable[[], None]]] = [
            ("Noisy copies of the erased rows were not tried", self._nearby),
            ("Strata by memorisation were not compared", self._strata),
        ]
        in_net: list[tuple[str, Callable[[], None]]] = [
            ("Features inside the net were not probed", self._probe),
            ("The erased rows were not learnt again", self._relearn),
            ("Rows next to the erased ones were not compared", self._neighbours),
            ("Rows of embeddings were not compared", self._embeddings),
        ]
        for failing, part in parts + (in_net if hasattr(last_step(self.case.after), "net_") else []):
            try:
                part()
            except _REFUSALS as reason:
                self.notes.append(f"{failing}: {reason}")

    def _probe(self) -> None:
        """Probe the features of the nets for a class of which no row is left."""
        if self.gone is None:
            return
        test = self.case.test
        names, counts = np.unique(test.y, return_counts=True)
        enough = np.isin(test.y, names[counts > 1])
        if np.count_nonzero(test.y == self.gone) < _FEW_ROWS or len(np.unique(test.y[enough])) < 2:
            raise ValueError("there are too few test rows of the erased class.")
        found = feature_probe(
            self.case.after, [*self.first, *self.references], taken(test.X, enough), test.y[enough], self.gone,
            n_draws=_N_DRAWS, random_state=self.random_state,
        )  # fmt: skip
        self._add(_PROBE, "test", [found.recall, *found.reference_recalls], most=1.0)
        others = list(found.reference_recalls)
        if self.first:
            self.recalls["before"] = [others.pop(0)]
        self.recalls |= {"after": [found.recall], "retrained": [*others]}

    def _relearn(self) -> None:
        """Learn erased rows again; those of a class that is gone beside rows of others, from which to tell it."""
        case, rng = self.case, np.random.default_rng(self.random_state)
        some = _some(rng, len(case.erased.y), _LEARNT_ROWS)
        X, y = scored = taken(case.erased.X, some), case.erased.y[some]
        if self.gone is not None:
            others = np.flatnonzero(case.test.y != self.gone)
            others = others[_some(rng, len(others), len(some))]
            X, y = _joined(X, y, taken(case.test.X, others), case.test.y[others])
        found = relearning_curve(
            case.after, [*self.first, *self.references], X, y, X_test=scored[0], y_test=scored[1],
            n_steps=self._n_steps(), random_state=self.random_state,
        )  # fmt: skip
        low, high = self._add(
            "squared error while learnt again" if found.is_loss else "recognised while learnt again",
            "erased",
            [found.mean, *found.reference_means],
            logarithmic=found.is_loss,
            most=np.inf if found.is_loss else 1.0,
        )
        if found.mean < low if found.is_loss else found.mean > high:
            self.notes.append(
                "The erased rows are learnt again faster than retrained models learn them: what was hidden in the "
                "outputs is still there. The verdict does not count this."
            )

    def _n_steps(self) -> int:
        net, n = last_step(self.case.after).net_, len(self.case.retained.y)
        size = int(net.get_params_for("iterator_train").get("batch_size", net.batch_size))
        n_trained = len(net.history) * -(-n // (n if size == -1 else size))
        return int(np.clip(_SHARE_OF_STEPS * n_trained, *_STEPS))

    def _neighbours(self) -> None:
        """Compare on the test rows nearest to the erased ones, of other classes where the class is gone."""
        case = self.case
        X = case.test.X
        if len(self.references) < 2:
            return
        stays = np.ones(len(case.test.y), dtype=bool) if self.gone is None else case.test.y != self.gone
        among = np.flatnonzero(stays)
        n_neighbours = min(_N_NEIGHBOURS, len(among))
        rows = self.references, case.erased.X, taken(X, among)
        try:
            near = nearest_rows(*rows, n_neighbours=n_neighbours)
        except ValueError:  # there is no output layer whose inputs would be features
            near = nearest_rows(*rows, n_neighbours=n_neighbours, space="inputs")
        near = among[near]
        judged, others = self._recalled
        found = [distances_on(model, others, X, near) for model in judged]
        name = {"js": "JS distance (nats)", "rms": "RMS distance"}[case.distance]
        values = [each.distance for each in found]
        self._add(name, "next to erased", [*reversed(values), *found[0].reference_distances], logarithmic=True)

    def _nearby(self) -> None:
        if not is_classifier(self.case.after):
            return
        rng, erased = np.random.default_rng(self.random_state), self.case.erased
        some = _some(rng, len(erased.y), _COPIED_ROWS)
        models = [self.case.after, *self.first, *self.case.references]
        shares = recognised_nearby(
            models, taken(erased.X, some), erased.y[some], n_neighbours=_N_COPIES, random_state=self.random_state
        )
        self._add("noisy copies recognised", "erased", shares, most=1.0)

    def _strata(self) -> None:
        """Take the distance ratio on rows that the model before the request knew by heart, and on others."""
        # Of a class that no retrained model knows, all rows are memorised alike.
        if self.case.before is None or self.gone is not None or len(self.case.references) < ENOUGH_REFERENCES:
            return
        judged, others = self._recalled
        erased = self.recalling.erased
        if len(erased.y) < _N_STRATA:
            raise ValueError(f"there are {len(erased.y)} erased rows, and it takes {_N_STRATA}.")
        found = [memorisation_strata(model, self.recalling.before, others, erased.X, erased.y) for model in judged]
        for of_before, of_after in zip(found[0], found[-1], strict=True):
            values = [of_after.ratio, of_before.ratio, *of_after.reference_ratios]
            if np.isfinite(values).all():
                self._add("distance ratio", f"erased, {of_after.name} memorisation", values, logarithmic=True)

    @property
    def _recalled(self) -> tuple[list[Any], list[Any]]:
        """The models judged, the one that forgot last, and the references."""
        return list(self.recalling.judged.values()), self.recalling.references

    def _embeddings(self) -> None:
        """Compare weights that erased rows alone had used with those of a model retrained from the same seed."""
        case, made = self.case, self._made
        after, original = last_step(case.after), None if case.before is None else last_step(case.before)
        has_table = any(isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in after.net_.module_.modules())
        others = [last_step(model) for model in self.references]
        seed = getattr(after, "random_state", None)
        same = [model for model in others if isinstance(seed, int) and getattr(model, "random_state", None) == seed]
        if not same and not (has_table and embedding_rows(after, after, *made, least_share=1)):
            return
        if not same and self.retrain is not None and isinstance(seed, int):
            same = self.retrain(seed)
        if not same:
            raise ValueError(
                "erased rows alone had used some, and no reference was retrained from the seed of the audited model "
                "(random_state, a whole number)."
            )
        rest = [model for model in others if model is not same[0]]
        for each in embedding_rows(after, same[0], *made, original=original, references=rest, least_share=1):
            name = f"distance from the same seed, {each.layer}"
            before = [] if original is None else [each.distance_before]
            self._add(name, "used by erased alone", [each.distance, *before, *each.reference_distances])
            self.table.add(name, "used by others", "after", each.distance_of_others)
            if each.n_unchanged:
                self.facts.append(
                    f"{each.n_unchanged} of {each.n_rows} rows of {each.layer} that erased rows alone had used are as "
                    "they were before the request, to the last bit."
                )

    @property
    def _made(self) -> tuple[Any, NDArray[Any], Any, NDArray[Any]]:
        """The erased rows and those that stay, with their targets, as the last step of the audited model takes them."""
        case = self.case
        erased, retained = (self.shown.to(case.after, rows.X) for rows in (case.erased, case.retained))
        return erased, case.erased.y, retained, case.retained.y

    def _add(
        self,
        measure: str,
        rows: str,
        values: Sequence[float],
        *,
        logarithmic: bool = False,
        most: float = np.inf,
    ) -> tuple[float, float]:
        """Add the figures of the model that forgot, of the one before if there is one, and of retrained ones.

        None is below 0, nor above `most`.

        Returns
        -------
        low, high : float
            Where one more retrained model is expected; without bounds if there are too few.
        """
        own, rest = values[0], list(values[1:])
        if self.first:
            self.table.add(measure, rows, "before", rest.pop(0))
        self.table.add(measure, rows, "after", own)
        if len(rest) < ENOUGH_REFERENCES:
            self.table.add_all(measure, rows, rest)
            return -np.inf, np.inf
        low, high = _of_another(rest, logarithmic)
        low, high = max(low, 0.0), min(high, most)
        self.table.add(measure, rows, "retrained", float(np.mean(rest)), low, high)
        return low, high


_PROBE = "class learnt anew from features"


def _of_another(values: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    if not logarithmic or min(values) <= 0:
        return expected_of_another(values)
    low, high = np.exp(expected_of_another(list(np.log(values)), least=_LEAST_REACH))
    return float(low), float(high)


def _some(rng: np.random.Generator, n: int, most: int) -> NDArray[np.intp]:
    """Return numbers of rows: all, or as many as are enough."""
    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))


def _joined(X: Any, y: NDArray[Any], X_more: Any, y_more: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
    """Return rows and others after them; rows of other kinds than arrays and data frames alone."""
    if isinstance(X, pd.DataFrame):
        return pd.concat([X, X_more], ignore_index=True), np.concatenate([y, y_more])
    if isinstance(X, np.ndarray):
        return np.concatenate([X, X_more]), np.concatenate([y, y_more])
    return X, y


def _with_net(model: Any) -> Any:
    """Return a retrained model itself, where it stands in one that knows outputs for erased classes."""
    last = last_step(model)
    inner = getattr(last, "model", last)
    return inner if last is model else Pipeline([*model.steps[:-1], ("last", inner)])


def _class_that_is_gone(case: Case) -> Any:
    """Return the class of all erased rows, if no row of it stays; else None."""
    if not is_classifier(case.after):
        return None
    labels = np.unique(case.erased.y)
    return labels[0] if len(labels) == 1 and not np.isin(case.retained.y, labels).any() else None
