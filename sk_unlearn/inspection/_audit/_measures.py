"""The figures of an audit: one table of every measure, on every set of rows, of every kind of model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score, root_mean_squared_error

from sk_unlearn.inspection._audit._calibration import (
    Calibration,
    Seen,
    calibrate,
    distances_of_another,
    findings,
    tempered,
)
from sk_unlearn.inspection._audit._inside import Inside
from sk_unlearn.inspection._audit._shown import Recalling, Shown
from sk_unlearn.inspection._audit._table import Table
from sk_unlearn.inspection._audit._verdict import ENOUGH_REFERENCES, Verdict, expected_of_another, judge
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
from sk_unlearn.utils._progress import progress

__all__ = ["Case", "Measured", "measure"]

# The attack compares with test rows of the erased rows' classes alone if there are at least this many of them.
_ENOUGH_ROWS = 20
_LOW_RATE = 0.01
_N_BOOTSTRAP = 500
# Models this close differ in probabilities by 3 percentage points at most, on average over rows, by Pinsker's
# inequality; regressors by a hundredth of the spread of the targets. Nor does it matter to anybody if all but three
# thousandths of what the request had to remove are gone.
_NEGLIGIBLE_DIVERGENCE = 5e-4
_NEGLIGIBLE_ERROR = 1e-2
_NEGLIGIBLE_SHARE = 0.003


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

    verdict : Verdict
        On the model that forgot.

    calibration : Calibration
        What the same rules say of retrained models, and of the model before the request.

    notes : list of str
        What could not be measured, and how the attack's rows were chosen.

    table : Table
        All figures.
    """

    losses: dict[str, NDArray[np.float64]]
    attacks: dict[str, AttackResult]
    verdict: Verdict
    calibration: Calibration
    notes: list[str]
    table: Table


# The AUC of an attack, its interval, and the mean loss of the erased rows.
_Attacked: TypeAlias = tuple[float, tuple[float, float], float]


def measure(
    case: Case,
    shown: Shown,
    *,
    n_still_stored: int | None,
    random_state: int,
    verbose: int | None = None,
    retrain: Callable[[int], list[Any]] | None = None,
) -> Measured:
    """Measure everything that there are models for; `retrain` makes one more from a seed, if a measure needs it."""
    models = case  # of which predictions are not enough
    case = replace(
        case,
        after=Recalling(case.after, shown),
        before=None if case.before is None else Recalling(case.before, shown),
        references=[Recalling(model, shown) for model in case.references],
    )
    table, notes = Table(), list[str]()
    with progress(4, "audit: measuring", unit="part", verbose=verbose) as bar:
        distances = _distances(case, table, notes)
        bar.update()
        sides = _sides(case, table, random_state)
        _performance(case, table)
        bar.update()
        inside = Inside(models, case, shown, table, notes, random_state, retrain)
        inside.measure()
        bar.update()
        losses, attacks, each = _attacks(case, table, notes, random_state)
        bar.update()
    seen = {
        name: [Seen(d, *attacked, r) for d, attacked, r in zip(of, each[name], inside.recalls[name], strict=True)]
        for name, of in distances.items()
    }
    after, before, references = seen["after"][0], seen.get("before", [None])[0], seen["retrained"]
    negligible = {rows: _negligible(case, _mean(before, rows)) for rows in after.distances}
    calibration = calibrate(references, before, negligible)
    found = replace(findings(after, references, negligible, n_still_stored), inside=inside.facts)
    verdict = tempered(judge(found), calibration, is_fact=bool(n_still_stored or inside.facts))
    verdict = verdict._replace(reasons=[*verdict.reasons, *sides, *calibration.in_words])
    return Measured(losses, attacks, verdict, calibration, notes, table)


def _mean(before: Seen | None, rows: str) -> float:
    return 0.0 if before is None else float(before.distances[rows].mean())


def _negligible(case: Case, before: float) -> float:
    """Return a distance that makes no difference to anybody, given that of the model before the request."""
    least = _NEGLIGIBLE_DIVERGENCE
    if case.distance == "rms":
        spread = np.std(np.asarray(case.test.y, dtype=np.float64), axis=0)
        least = max(_NEGLIGIBLE_ERROR * float(np.sqrt(np.mean(np.square(spread)))), float(np.finfo(np.float32).tiny))
    return max(least, _NEGLIGIBLE_SHARE * before if np.isfinite(before) else 0.0)


def _distances(case: Case, table: Table, notes: list[str]) -> dict[str, list[dict[str, NDArray[np.float64]]]]:
    """Return the distances of each model to the retrained ones on each set of rows."""
    name = {"js": "JS distance (nats)", "rms": "RMS distance"}[case.distance]
    groups = {label: [model] for label, model in case.judged.items()} | {"retrained": case.references}
    found: dict[str, list[dict[str, NDArray[np.float64]]]] = {label: [{} for _ in of] for label, of in groups.items()}
    for rows, part in case.sets.items() if case.references else ():
        among = _among(case.references, part.X, case.distance)
        for label, model in case.judged.items():
            each = [retrain_distance(model, reference, part.X, case.distance) for reference in case.references]
            table.add(name, rows, label, float(np.mean(each)))
            found[label][0][rows] = np.array(each)
        for k, own in enumerate(among):
            found["retrained"][k][rows] = own
        means = list(among.sum(axis=1) / max(len(among) - 1, 1))
        if len(means) < ENOUGH_REFERENCES:
            table.add_all(name, rows, means if len(means) > 1 else [])
            continue
        before = float(np.mean(found["before"][0][rows])) if "before" in found else 0.0
        low, high = distances_of_another(means, _negligible(case, before))
        table.add(name, rows, "retrained", float(np.mean(means)), low, high)
        try:
            for label, model in case.judged.items():
                interval = distance_ratio_interval(model, case.references, part.X, case.distance)
                table.add("distance ratio", rows, label, *interval)
        except ValueError as reason:
            notes.append(f"No distance ratio on {rows} rows: {reason}")
    if case.before is not None and case.references:
        try:
            closed = gap_closed(case.after, case.before, case.references, case.erased.X, case.distance)
            table.add("gap closed", "erased", "after", closed)
        except ValueError as reason:
            notes.append(f"No gap closed: {reason}")
    return found


def _among(references: Sequence[Any], X: Any, distance: Distance) -> NDArray[np.float64]:
    """Return the distances of retrained models from each other; both that are used are symmetric."""
    matrix = np.zeros((len(references), len(references)))
    for j, k in combinations(range(len(references)), 2):
        matrix[j, k] = matrix[k, j] = retrain_distance(references[j], references[k], X, distance)
    return matrix


def _sides(case: Case, table: Table, random_state: int) -> list[str]:
    """Tell on which side of the model before the request and of retrained ones the model that forgot stands."""
    if case.before is None or len(case.references) < 2:
        return []
    said = []
    for rows, words in (("erased", "the erased rows"), ("test", "rows never seen")):
        found = relative_distance(
            case.after, case.before, case.references, case.sets[rows].X,
            n_bootstrap=_N_BOOTSTRAP, random_state=random_state,
        )  # fmt: skip
        table.add(_SIDE, rows, "after", found.difference, found.low, found.high)
        said.append(_SIDES[found.verdict].format(rows=words))
    return said


_SIDES = {
    "closer": "On {rows} it is closer to retrained models than to the model before the request.",
    "farther": "On {rows} it is closer to the model before the request than to retrained models.",
    "undecided": "On {rows} it is about as close to the model before the request as to retrained models.",
}
# Below zero it is closer to the retrained models.
_SIDE = "distance to retrained less that to before"


def _performance(case: Case, table: Table) -> None:
    classifier = is_classifier(case.after)
    name = "accuracy" if classifier else "RMS error"
    score: Callable[[Any, Any], float] = accuracy_score if classifier else root_mean_squared_error
    for rows, (X, y, *_) in case.sets.items():
        for label, model in case.judged.items():
            table.add(name, rows, label, float(score(y, model.predict(X))))
        table.add_all(name, rows, [float(score(y, model.predict(X))) for model in case.references])
    if classifier and case.references:
        sets = [part for rows in case.sets.values() for part in (rows.X, rows.y)]
        for label, model in case.judged.items():
            scores = [tug_of_war_score(model, reference, *sets) for reference in case.references]
            table.add("Tug-of-War", "all", label, float(np.mean(scores)))
        pairs = combinations(case.references, 2)
        table.add_all("Tug-of-War", "all", [tug_of_war_score(a, b, *sets) for a, b in pairs])


def _attacks(
    case: Case, table: Table, notes: list[str], random_state: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, AttackResult], dict[str, list[_Attacked]]]:
    """Attack the erased rows by their losses, under the models judged and under each retrained one."""
    X_out, y_out = _nonmembers(case, notes)
    known = not is_classifier(case.after) or all(np.isin(case.erased.y, m.classes_).all() for m in case.references)

    shared = None if known else _shared_classes(case)

    def attack(model: Any, n_bootstrap: int) -> tuple[NDArray[np.float64], NDArray[np.float64], AttackResult]:
        own, others = row_losses(model, case.erased.X, case.erased.y), row_losses(model, X_out, y_out)
        seen = (own, others) if shared is None else (_unsureness(model, X, shared) for X in (case.erased.X, X_out))
        scores = map(loss_scores, seen)
        return own, others, evaluate_attack(*scores, n_bootstrap=n_bootstrap, random_state=random_state)

    losses, attacks = {}, {}
    for label, model in case.judged.items():
        losses[label], unseen, attacks[label] = attack(model, _N_BOOTSTRAP)
    of_references = [attack(model, 1) for model in case.references]
    aucs = [result.auc for *_, result in of_references]
    for k, model in enumerate(case.references):
        # Intervals take time: of these one is drawn, and those are judged by them that differ from others which agree.
        others = np.delete(aucs, k)
        if k == 0 or (np.ptp(others) == 0 and others[0] != aucs[k]):
            of_references[k] = attack(model, _N_BOOTSTRAP)
    judged = list(attacks.items())
    for label, result in judged:
        table.add("attack AUC", "erased", label, result.auc, *result.auc_interval)
        table.add("attack TPR at 1 % FPR", "erased", label, result.tpr[_LOW_RATE], *result.tpr_interval[_LOW_RATE])
        reversed_rate = result.streisand_tpr[_LOW_RATE], *result.streisand_tpr_interval[_LOW_RATE]
        table.add("reversed attack TPR at 1 % FPR", "erased", label, *reversed_rate)
        if of_references and known:
            p_values = [ks_pvalue(losses[label], own) for own, *_ in of_references]
            table.add("KS p-value of losses", "erased", label, float(np.median(p_values)))
    if not known:
        notes.append(
            "The retrained models do not know every erased class. So the attack goes, in all models, by the confidence "
            "in the classes that all of them know, and the losses are not tested for being distributed equally."
        )
    if len(aucs) >= ENOUGH_REFERENCES:
        expected = np.clip(expected_of_another(aucs), 0, 1)
        table.add("attack AUC", "erased", "retrained", float(np.mean(aucs)), *map(float, expected))
    else:
        table.add_all("attack AUC", "erased", aucs)
    table.add_all("attack TPR at 1 % FPR", "erased", [result.tpr[_LOW_RATE] for *_, result in of_references])
    reversed_rates = [result.streisand_tpr[_LOW_RATE] for *_, result in of_references]
    table.add_all("reversed attack TPR at 1 % FPR", "erased", reversed_rates)
    pairs = combinations(range(len(of_references)), 2)
    p_values = [ks_pvalue(of_references[a][0], of_references[b][0]) for a, b in pairs]
    if p_values and known:
        table.add(
            "KS p-value of losses", "erased", "retrained", float(np.median(p_values)), min(p_values), max(p_values)
        )
    if of_references:
        losses["retrained"] = np.concatenate([own for own, *_ in of_references])
        attacks["retrained"] = of_references[0][2]
    losses["unseen"] = unseen
    each = {label: [(result.auc, result.auc_interval, float(losses[label].mean()))] for label, result in judged}
    each["retrained"] = [(result.auc, result.auc_interval, float(own.mean())) for own, _, result in of_references]
    return losses, attacks, each


def _shared_classes(case: Case) -> NDArray[Any]:
    """Return the classes that all models know."""
    models = [*case.judged.values(), *case.references]
    return functools.reduce(np.intersect1d, [model.classes_ for model in models])


def _unsureness(model: Any, X: Any, classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return minus the logarithm of the largest probability of a row, among some classes alone.

    A retrained model that lacks a class has the same loss for all its rows, and tells nothing of them by it, whereas
    one that has an output to spare for it does: no attack by losses would compare the two.
    """
    probabilities = np.asarray(model.predict_proba(X), dtype=np.float64)[:, np.isin(model.classes_, classes)]
    probabilities = np.maximum(probabilities, np.finfo(np.float32).tiny)
    return -np.log(probabilities.max(axis=1) / probabilities.sum(axis=1))


def _nonmembers(case: Case, notes: list[str]) -> tuple[Any, Any]:
    """Return the test rows that the attack compares with.

    They are of the erased rows' classes, if there are enough of these. With other classes among them the attack would
    tell classes apart, and not rows that were trained on from rows that were not.
    """
    X, y, *_ = case.test
    if is_classifier(case.after):
        alike = np.isin(y, np.unique(case.erased.y))
        if not alike.all() and alike.sum() >= _ENOUGH_ROWS:
            notes.append(f"The attack compares with the {alike.sum()} test rows of the erased rows' classes.")
            return taken(X, alike), y[alike]
        if not alike.all():
            notes.append(
                f"Only {alike.sum()} of the {len(y)} test rows are of the erased rows' classes, and {_ENOUGH_ROWS} are "
                "needed: the attack compares with all test rows, and may tell classes apart rather than rows that were "
                "trained on. Give more test rows of these classes."
            )
            return X, y
    if len(y) < _ENOUGH_ROWS:
        notes.append(
            f"The attack compares with {len(y)} test rows, and {_ENOUGH_ROWS} are needed: it finds gross traces only. "
            "Give more test rows."
        )
    return X, y
