"""The figures of an audit: one table of every measure, on every set of rows, of every kind of model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score, root_mean_squared_error
from tqdm import tqdm

from sk_unlearn.inspection._audit._inside import Inside
from sk_unlearn.inspection._audit._shown import Recalling, Shown
from sk_unlearn.inspection._audit._verdict import ENOUGH_REFERENCES, Closeness, Findings, expected_of_another
from sk_unlearn.metrics import (
    distance_ratio_interval,
    gap_closed,
    ks_pvalue,
    retrain_distance,
    row_losses,
    tug_of_war_score,
)
from sk_unlearn.metrics.distances import Distance
from sk_unlearn.metrics.membership import AttackResult, evaluate_attack, loss_scores
from sk_unlearn.metrics.relative import relative_distance
from sk_unlearn.references.retrained import Rows
from sk_unlearn.rows.forms import taken

__all__ = ["Case", "Measured", "measure"]

# The attack compares with test rows of the erased rows' classes alone if there are at least this many of them.
_ENOUGH_ROWS = 20
_LOW_RATE = 0.01
_N_BOOTSTRAP = 500


@dataclass(frozen=True)
class Case:
    """One deletion: the models and the rows, as they came where a model is a Pipeline."""

    after: Any
    before: Any
    references: list[Any]
    erased: Rows
    retained: Rows
    test: Rows

    @property
    def sets(self) -> dict[str, Rows]:
        return {"erased": self.erased, "retained": self.retained, "test": self.test}

    @property
    def judged(self) -> dict[str, Any]:
        """The models that are compared with the references."""
        return {"after": self.after} if self.before is None else {"before": self.before, "after": self.after}

    @property
    def distance(self) -> Distance:
        return "js" if is_classifier(self.after) else "rms"


@dataclass
class Measured:
    """What was measured.

    Attributes
    ----------
    losses : dict of str to ndarray
        Losses of the erased rows by kind of model; under "unseen" those of the rows that the attack compares with.

    attacks : dict of str to AttackResult
        By kind of model; "retrained" is the first of the references.

    findings : Findings
        What the verdict rests on.

    notes : list of str
        What could not be measured, and how the attack's rows were chosen.
    """

    losses: dict[str, NDArray[np.float64]]
    attacks: dict[str, AttackResult]
    findings: Findings
    notes: list[str]
    records: list[dict[str, Any]] = field(default_factory=list)

    def frame(self) -> pd.DataFrame:
        """Return the table, the records of a measure together."""
        table = pd.DataFrame(self.records, columns=["measure", "rows", "model", "value", "low", "high"])
        order = {name: number for number, name in enumerate(table["measure"].unique())}
        return table.sort_values("measure", key=lambda names: names.map(order), kind="stable", ignore_index=True)


class _Table:
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def add(self, measure: str, rows: str, model: str, value: float, low: float = np.nan, high: float = np.nan) -> None:
        names = ("measure", "rows", "model", "value", "low", "high")
        self.records.append(dict(zip(names, (measure, rows, model, value, low, high), strict=True)))

    def add_all(self, measure: str, rows: str, values: Sequence[float]) -> None:
        """Add the mean over retrained models, with their range."""
        if len(values):
            self.add(measure, rows, "retrained", float(np.mean(values)), float(np.min(values)), float(np.max(values)))


def measure(
    case: Case,
    shown: Shown,
    *,
    n_still_stored: int | None,
    random_state: int,
    verbose: int = 0,
    retrain: Callable[[int], list[Any]] | None = None,
) -> Measured:
    """Measure everything that there are models for; `retrain` makes one more from a seed, if a measure needs it."""
    inside = case  # of which predictions are not enough
    case = replace(
        case,
        after=Recalling(case.after, shown),
        before=None if case.before is None else Recalling(case.before, shown),
        references=[Recalling(model, shown) for model in case.references],
    )
    table, notes = _Table(), list[str]()
    with tqdm(total=4, desc="audit: measuring", unit="part", disable=not verbose, leave=False) as bar:
        ratios = _distances(case, table, notes)
        bar.update()
        _sides(case, table, random_state)
        _performance(case, table)
        bar.update()
        Inside(inside, case, shown, table, notes, random_state, retrain).measure()
        bar.update()
        losses, attacks, reference_aucs, reference_losses = _attacks(case, table, notes, random_state)
        bar.update()
    findings = Findings(
        ratios=ratios,
        auc=attacks["after"].auc,
        auc_interval=attacks["after"].auc_interval,
        reference_aucs=reference_aucs,
        loss=float(losses["after"].mean()),
        reference_losses=reference_losses,
        n_still_stored=n_still_stored,
    )
    return Measured(losses, attacks, findings, notes, table.records)


def _distances(case: Case, table: _Table, notes: list[str]) -> dict[str, Closeness]:
    name = {"js": "JS distance (nats)", "rms": "RMS distance"}[case.distance]
    ratios: dict[str, Closeness] = {}
    for rows, part in case.sets.items() if case.references else ():
        for label, model in case.judged.items():
            table.add(name, rows, label, _mean_distance(model, case.references, part.X, case.distance))
        among = _among(case.references, part.X, case.distance)
        if len(case.references) < ENOUGH_REFERENCES:
            table.add_all(name, rows, among)
            continue
        try:
            for label, model in case.judged.items():
                interval = distance_ratio_interval(model, case.references, part.X, case.distance)
                table.add("distance ratio", rows, label, *interval)
            floor = float(np.mean(among))
            # The interval is taken on a logarithmic scale, so that it holds no negative distance.
            low, high = np.exp(expected_of_another(list(np.log(among)), least=0.0))
            table.add(name, rows, "retrained", floor, float(low), float(high))
            own = _mean_distance(case.after, case.references, part.X, case.distance)
            ratios[rows] = Closeness(own / floor, float(low) / floor, float(high) / floor)
        except ValueError as reason:
            notes.append(f"No distance ratio on {rows} rows: {reason}")
    if case.before is not None and case.references:
        try:
            closed = gap_closed(case.after, case.before, case.references, case.erased.X, case.distance)
            table.add("gap closed", "erased", "after", closed)
        except ValueError as reason:
            notes.append(f"No gap closed: {reason}")
    return ratios


def _mean_distance(model: Any, references: Sequence[Any], X: Any, distance: Distance) -> float:
    return float(np.mean([retrain_distance(model, reference, X, distance) for reference in references]))


def _among(references: Sequence[Any], X: Any, distance: Distance) -> list[float]:
    """Return the mean distance of each retrained model to the others."""
    if len(references) < 2:
        return []
    others = [[b for b in references if b is not a] for a in references]
    return [_mean_distance(a, rest, X, distance) for a, rest in zip(references, others, strict=True)]


def _sides(case: Case, table: _Table, random_state: int) -> None:
    """Tell on which side of the model before the request and of retrained ones the model that forgot stands."""
    if case.before is None or len(case.references) < 2:
        return
    for rows in ("erased", "test"):
        found = relative_distance(
            case.after, case.before, case.references, case.sets[rows].X,
            n_bootstrap=_N_BOOTSTRAP, random_state=random_state,
        )  # fmt: skip
        table.add(_SIDE, rows, "after", found.difference, found.low, found.high)


# Below zero it is closer to the retrained models.
_SIDE = "distance to retrained less that to before"


def _performance(case: Case, table: _Table) -> None:
    classifier = is_classifier(case.after)
    name = "accuracy" if classifier else "RMS error"
    score: Callable[[Any, Any], float] = accuracy_score if classifier else root_mean_squared_error
    for rows, (X, y, _) in case.sets.items():
        for label, model in case.judged.items():
            table.add(name, rows, label, float(score(y, model.predict(X))))
        table.add_all(name, rows, [float(score(y, model.predict(X))) for model in case.references])
    if classifier and case.references:
        sets = [part for rows in case.sets.values() for part in (rows.X, rows.y)]
        for label, model in case.judged.items():
            scores = [tug_of_war_score(model, reference, *sets) for reference in case.references]
            table.add("Tug-of-War", "all", label, float(np.mean(scores)))
        pairs = permutations(case.references, 2)
        table.add_all("Tug-of-War", "all", [tug_of_war_score(a, b, *sets) for a, b in pairs])


def _attacks(
    case: Case, table: _Table, notes: list[str], random_state: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, AttackResult], list[float], list[float]]:
    """Attack the erased rows by their losses, under the models judged and under each retrained one."""
    X_out, y_out = _nonmembers(case, notes)
    known = not is_classifier(case.after) or all(np.isin(case.erased.y, m.classes_).all() for m in case.references)

    def attack(model: Any, n_bootstrap: int) -> tuple[NDArray[np.float64], NDArray[np.float64], AttackResult]:
        own, others = row_losses(model, case.erased.X, case.erased.y), row_losses(model, X_out, y_out)
        scores = loss_scores(own), loss_scores(others)
        return own, others, evaluate_attack(*scores, n_bootstrap=n_bootstrap, random_state=random_state)

    losses, attacks = {}, {}
    for label, model in case.judged.items():
        losses[label], unseen, attacks[label] = attack(model, _N_BOOTSTRAP)
    # Only the first reference is drawn, so only it needs an interval of its own.
    of_references = [attack(model, _N_BOOTSTRAP if k == 0 else 1) for k, model in enumerate(case.references)]
    for label, result in attacks.items():
        table.add("attack AUC", "erased", label, result.auc, *result.auc_interval)
        table.add("attack TPR at 1 % FPR", "erased", label, result.tpr[_LOW_RATE], *result.tpr_interval[_LOW_RATE])
        reversed_rate = result.streisand_tpr[_LOW_RATE], *result.streisand_tpr_interval[_LOW_RATE]
        table.add("reversed attack TPR at 1 % FPR", "erased", label, *reversed_rate)
        if of_references and known:
            p_values = [ks_pvalue(losses[label], own) for own, *_ in of_references]
            table.add("KS p-value of losses", "erased", label, float(np.median(p_values)))
    aucs = [result.auc for *_, result in of_references]
    if not known:
        notes.append(
            "The retrained models do not know every erased class: their loss of such a row is that of probability "
            "zero, so that the attack tells little, and the losses are not tested for being distributed equally."
        )
    if len(aucs) >= ENOUGH_REFERENCES:
        table.add("attack AUC", "erased", "retrained", float(np.mean(aucs)), *expected_of_another(aucs))
    else:
        table.add_all("attack AUC", "erased", aucs)
    table.add_all("attack TPR at 1 % FPR", "erased", [result.tpr[_LOW_RATE] for *_, result in of_references])
    reversed_rates = [result.streisand_tpr[_LOW_RATE] for *_, result in of_references]
    table.add_all("reversed attack TPR at 1 % FPR", "erased", reversed_rates)
    pairs = permutations(range(len(of_references)), 2)
    p_values = [ks_pvalue(of_references[a][0], of_references[b][0]) for a, b in pairs]
    if p_values and known:
        table.add(
            "KS p-value of losses", "erased", "retrained", float(np.median(p_values)), min(p_values), max(p_values)
        )
    if of_references:
        losses["retrained"] = np.concatenate([own for own, *_ in of_references])
        attacks["retrained"] = of_references[0][2]
    losses["unseen"] = unseen
    return losses, attacks, aucs, [float(own.mean()) for own, *_ in of_references]


def _nonmembers(case: Case, notes: list[str]) -> tuple[Any, Any]:
    """Return the test rows that the attack compares with.

    They are of the erased rows' classes, if there are enough of these. With other classes among them the attack would
    tell classes apart, and not rows that were trained on from rows that were not.
    """
    X, y, _ = case.test
    if is_classifier(case.after):
        alike = np.isin(y, np.unique(case.erased.y))
        if not alike.all() and alike.sum() >= _ENOUGH_ROWS:
            notes.append(f"The attack compares with the {alike.sum()} test rows of the erased rows' classes.")
            return taken(X, alike), y[alike]
    return X, y
