# Part of: python -m benchmarks.every_layer
"""From the records of `benchmarks.every_layer` to a table with a line a request, and to what is met and missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._every_layer_methods import RIVALS, SHARED
from benchmarks._every_layer_tasks import Limit
from benchmarks._rivals import NO_OP, OURS
from benchmarks._verdicts import Verdict, medians

Limits = Mapping[str, Mapping[str, Limit]]
SLACK = 1.02  # noise that "no worse" allows
EQUAL_TIME = 1.1  # noise of processor seconds
LATENCY_SECONDS = 0.05
BUDGET = 0.25
FINE = 1.3  # ratio up to which a short retraining counts as fine


def best_rival(part: pd.DataFrame, share: float, column: str = "ratio_erased") -> pd.Series | None:
    """Return the closest rival, doing nothing among them, that takes no more than a share of retraining's time."""
    in_time = part[part.family.isin(RIVALS) & (part.share <= share)]
    return None if in_time.empty else in_time.loc[in_time[column].idxmin()]


def requests(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, pd.DataFrame]]:
    """Return task, request and the medians over seeds, a line a method, of each request that models forgot."""
    forgot = [dict(record) for record in records if "ratio_erased" in record]
    if not forgot:
        return []
    return [(*key, part) for key, part in medians(forgot).groupby(["task", "request"], sort=False)]


def one(part: pd.DataFrame, family: str) -> pd.Series | None:
    lines = part[part.family == family]
    return None if lines.empty else lines.iloc[0]


def summary(records: Sequence[Mapping[str, Any]], limits: Limits) -> pd.DataFrame:
    """Return a line a request: the default, doing nothing, the best rivals and the short retrainings, erased rows.

    ``rival`` is the best in the default's own time, ``in budget`` the best in the time that the request is given.
    """
    lines = []
    for task, request, part in requests(records):
        ours, limit = one(part, OURS), limits[task][request]
        columns = {"task": task, "request": request}
        for name, family in (("no-op", NO_OP.family), ("retrain", "retrain"), ("ours", OURS)):
            of = one(part, family)
            if of is not None:
                columns |= {name: of.ratio_erased, f"{name} same": of.same_erased, f"{name} test": of.ratio_test}
        if ours is not None:
            columns["share"] = ours.share
            rivals = {"rival": EQUAL_TIME * ours.share, "in budget": max(limit.share, ours.share)}
            for name, share in rivals.items():
                rival = best_rival(part, share)
                if rival is not None:
                    columns |= {name: rival.ratio_erased, f"{name} is": rival.method}
        for _, of in part[part.family == SHARED].iterrows():
            columns |= {of.method: of.ratio_erased, f"{of.method} test": of.ratio_test}
        lines.append(columns)
    table = pd.DataFrame(lines)
    return table.set_index(["task", "request"]) if lines else table


def judge(records: Sequence[Mapping[str, Any]], limits: Limits) -> list[Verdict]:
    """Return what is met and missed: of each request, of the short retrainings together, of one row's seconds."""
    verdicts: list[Verdict] = []
    for task, request, part in requests(records):
        ours = one(part, OURS)
        if ours is not None:
            verdicts += of_request(f"{task}, {request}", part, ours, limits[task][request])
    return [*verdicts, *regret(records), *short_retrainings(records, limits), *latency(records)]


def of_request(name: str, part: pd.DataFrame, ours: pd.Series, limit: Limit) -> list[Verdict]:
    """Judge the default on one request."""
    no_op, retrained = one(part, NO_OP.family), one(part, "retrain")
    verdicts = [Verdict(f"time, {name}", ours.share <= limit.share, f"{ours.share:.3g} (wanted {limit.share})")]
    if np.isfinite(limit.distance):
        distance = ours[f"{limit.column}_erased"]
        wanted = f"{limit.column} {distance:.3g} (wanted {limit.distance})"
        verdicts.append(Verdict(f"distance, {name}", distance <= limit.distance, wanted))
    if limit.no_worse and no_op is not None:
        for rows in ("erased", "test"):
            was, now = no_op[f"same_{rows}"], ours[f"same_{rows}"]
            verdicts.append(Verdict(f"no harm, {name}, {rows}", now <= SLACK * was, f"{was:.3g} before, {now:.3g} now"))
    if limit.no_rival:
        rival = best_rival(part, EQUAL_TIME * ours.share)
        if rival is not None:
            detail = f"{ours.ratio_erased:.3g}; {rival.method} {rival.ratio_erased:.3g} in {rival.share:.3g}"
            verdicts.append(Verdict(f"no rival, {name}", ours.ratio_erased <= SLACK * rival.ratio_erased, detail))
    return verdicts + (of_probes(name, ours, retrained) if retrained is not None else [])


def of_probes(name: str, ours: pd.Series, retrained: pd.Series) -> list[Verdict]:
    """Judge what the probes found, beside what they find in the retrained model."""
    verdicts = []
    if np.isfinite(ours.get("row", np.nan)):
        # Relative to the row's own length; where decay took that to zero, relative to the way there.
        away, known = min(ours.row, ours.row_left), f"{ours.known:.3g}, {retrained.known:.3g} retrained"
        verdicts += [
            Verdict(f"users' rows, {name}", away <= 1e-3, f"{ours.row:.3g}, {ours.row_left:.3g} of the way left"),
            Verdict(f"users' labels, {name}", abs(ours.known) <= 0.1, known),
        ]  # fmt: skip
    if np.isfinite(ours.get("probe", np.nan)):
        detail = f"{ours.probe:.3f}, {retrained.probe:.3f} retrained"
        verdicts.append(Verdict(f"features, {name}", abs(ours.probe - retrained.probe) <= 0.03, detail))
    if np.isfinite(ours.get("relearning", np.nan)):
        met = ours.relearning >= 0.8 * retrained.relearning
        verdicts.append(Verdict(f"relearning, {name}", met, f"{ours.relearning:g}, {retrained.relearning:g} retrained"))
    return verdicts


def short_retrainings(records: Sequence[Mapping[str, Any]], limits: Limits) -> list[Verdict]:
    """Count the requests for a class or group for which retraining in fewer steps is fine on erased and test rows."""
    ratios: dict[str, list[float]] = {}
    for task, request, part in requests(records):
        if not limits[task][request].no_worse:
            for _, of in part[part.family == SHARED].iterrows():
                ratios.setdefault(of.method, []).append(max(of.ratio_erased, of.ratio_test))
    verdicts = []
    for method, worst in ratios.items():
        fine = sum(ratio <= FINE for ratio in worst)
        detail = f"ratio up to {FINE} for {fine} of {len(worst)}, at worst {max(worst):.3g}"
        verdicts.append(Verdict(f"{method}, classes and groups", fine >= 0.85 * len(worst), detail))
    return verdicts


def regret(records: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Count the requests where the default is within a tenth of the best way in a quarter of retraining's time.

    A ratio below 1 counts as 1: retraining itself is there.
    """
    regrets, harmed = [], []
    for task, request, part in requests(records):
        ours, no_op = one(part, OURS), one(part, NO_OP.family)
        affordable = part[(part.share <= BUDGET) & (part.family != "retrain")]
        if ours is None or no_op is None:
            continue
        regrets.append(max(ours.ratio_erased, 1) / max(affordable.ratio_erased.min(), 1))
        if any(ours[f"ratio_{rows}"] > 1.1 * no_op[f"ratio_{rows}"] for rows in ("erased", "test")):
            harmed.append(f"{task}, {request}")
    if not regrets:
        return []
    near = sum(each <= 1.1 for each in regrets)
    detail = f"{near} of {len(regrets)}, worst regret {max(regrets):.3g}"
    return [
        Verdict("within 10 % of the best way", near >= 0.85 * len(regrets) and max(regrets) <= 1.4, detail),
        Verdict("never worse than nothing by 10 %", not harmed, "; ".join(harmed) or "on erased and test rows"),
    ]


def latency(records: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    return [
        Verdict(f"one row, {r['request']}", r["cpu"] <= LATENCY_SECONDS, f"{1e3 * r['cpu']:.1f} ms")
        for r in records
        if r["task"] == "latency"
    ]
