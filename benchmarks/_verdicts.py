# Part of: benchmarks.frontier, benchmarks.methods, benchmarks.sequence (python -m benchmarks.frontier)
"""From measured records to a sentence a claim: met, or missed by how much.

A record is a dict of one run; see `benchmarks.frontier.measure`. ``distance`` is what the claims are about, 0 for the
model they aim at: the Jensen-Shannon divergence (root mean square difference for regression) from the model retrained
from the same seed on the erased rows, over that between retrained models of different seeds; on full-batch tasks
``||w - w_warm|| / ||w_0 - w_warm||``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._rivals import CUT, FORCED, NO_OP, OURS

# Largest distance after forgetting, and the share of retraining's time within which it is to be reached.
TARGETS = {
    "whole class": [(1.1, 0.03), (0.75, 0.10)],
    "half a class": [(1.0, 0.05)],
    "10 %": [(1.0, 0.05)],
}
TARGET_TASKS = ("digits", "fashion")


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds, and by how much."""

    claim: str
    met: bool
    detail: str

    def __str__(self) -> str:
        return f"{'met   ' if self.met else 'MISSED'}  {self.claim}: {self.detail}"


def medians(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the medians over seeds of all numbers, a line for each task, request and method."""
    table = pd.DataFrame(records)
    by = table.groupby(["task", "request", "method", "family"], sort=False)
    return by.median(numeric_only=True).drop(columns="seed").reset_index()


def distance_for_time(records: Sequence[dict[str, Any]]) -> list[Verdict]:
    """Judge the default by the `TARGETS`, cut off after the steps that fit into the time; if none do, the fastest."""
    verdicts = []
    table = medians(records)
    for (task, request), part in table.groupby(["task", "request"], sort=False):
        for distance, share in TARGETS.get(str(request), []) if task in TARGET_TASKS else []:
            ours = part[part.family.isin([OURS, CUT])]
            in_time = ours[ours.share <= share].sort_values("distance")
            best = (in_time if len(in_time) else ours.sort_values("share")).iloc[0]
            verdicts.append(
                Verdict(
                    f"distance for time, {task}, {request}",
                    bool(best.distance <= distance and best.share <= share),
                    f"{best.method!r} at {best.distance:.3g} in {best.share:.3g} of retraining "
                    f"(wanted {distance} in {share})",
                )
            )
    return verdicts


def frontier(records: Sequence[dict[str, Any]]) -> list[Verdict]:
    """List the rivals that were both closer and faster than the default on every seed: the noise has no say then."""
    verdicts = []
    table = pd.DataFrame(records)
    for (task, request), part in table.groupby(["task", "request"], sort=False):
        ours = part[part.family == OURS]
        ahead = []
        for method, rival in part[~part.family.str.startswith(OURS)].groupby("method", sort=False):
            both = rival.merge(ours, on="seed", suffixes=("", "_ours"))
            better = (both.distance < both.distance_ours) & (both.share < both.share_ours)
            if len(both) and better.all():
                ahead.append(f"{method} ({both.distance.median():.3g} in {both.share.median():.3g})")
        position = f"ours {ours.distance.median():.3g} in {ours.share.median():.3g}"
        detail = f"{position}; closer and faster: {', '.join(ahead) or 'none'}"
        verdicts.append(Verdict(f"on the frontier, {task}, {request}", not ahead, detail))
    return verdicts


def full_batch(records: Sequence[dict[str, Any]], ratio: float = 0.02) -> list[Verdict]:
    """Judge whether the default comes within `ratio` of the warm-started optimum no later than L-BFGS, on each seed."""
    verdicts = []
    table = pd.DataFrame([r for r in records if r["full_batch"]])
    if table.empty:
        return []
    for (task, request), part in table.groupby(["task", "request"], sort=False):
        misses, n_seeds = [], 0
        for seed, run in part.groupby("seed"):
            ours = run[run.family == OURS].iloc[0]
            arrived = run[(run.family == "L-BFGS") & (run.distance <= ratio)].share
            limit = arrived.min() if len(arrived) else np.inf
            n_seeds += 1
            if not (ours.distance <= ratio and ours.share <= limit):
                misses.append(f"seed {seed} at {ours.distance:.3g} in {ours.share:.3g} (L-BFGS there in {limit:.3g})")
        verdicts.append(
            Verdict(
                f"ratio {ratio} as soon as L-BFGS, {task}, {request}",
                not misses,
                "; ".join(misses) or f"on all {n_seeds} seeds",
            )
        )
    return verdicts


def no_harm(records: Sequence[dict[str, Any]], tolerance: float = 1.02) -> list[Verdict]:
    """Where doing nothing is within the floor, the distance must not grow: medians, on erased and on test rows."""
    verdicts = []
    sampled = [r for r in records if not r["full_batch"]]
    table = medians(sampled) if sampled else pd.DataFrame()
    if table.empty or "same_test" not in table:
        return []
    for (task, request), part in table.groupby(["task", "request"], sort=False):
        before, after = part[part.family == NO_OP.family].iloc[0], part[part.family == OURS].iloc[0]
        for rows in ("erased", "test"):
            was, now = before[f"same_{rows}"], after[f"same_{rows}"]
            if was <= 1:
                detail = f"{was:.3g} before, {now:.3g} after ({now / was:.3g} times, wanted {tolerance})"
                verdicts.append(Verdict(f"no harm, {task}, {request}, {rows}", bool(now <= tolerance * was), detail))
    return verdicts


def stops_by_itself(records: Sequence[dict[str, Any]]) -> list[Verdict]:
    """Twice as many steps must not be closer by more than 5 %, nor any cut-off run by more than 10 %: medians.

    Nothing is asked where doing nothing is within the floor already: there is no best point to pass.
    """
    verdicts = []
    for (task, request), part in medians(records).groupby(["task", "request"], sort=False):
        at = part.set_index("family").distance
        if at[NO_OP.family] <= 1 and task not in {r["task"] for r in records if r["full_batch"]}:
            continue
        own = at[OURS]
        if FORCED in at:
            detail = f"{own:.3g}, forced {at[FORCED]:.3g}"
            verdicts.append(Verdict(f"stops late enough, {task}, {request}", bool(at[FORCED] >= 0.95 * own), detail))
        best = part[part.family == CUT].distance.min()
        if np.isfinite(best):
            detail = f"{own:.3g}, best on the way {best:.3g}"
            verdicts.append(Verdict(f"stops early enough, {task}, {request}", bool(own <= 1.1 * best), detail))
    return verdicts


def nothing_forgotten(moves: dict[str, float]) -> list[Verdict]:
    """Judge the distance that parameters went when nothing was to be forgotten."""
    return [
        Verdict(f"forgetting nothing, {task}", move == 0, f"parameters moved by {move:.3g}")
        for task, move in moves.items()
    ]


def harmless(records: Sequence[dict[str, Any]], tolerance: float = 1.1) -> list[Verdict]:
    """Judge either way at its end beside doing nothing: medians of the distances, erased, retained and test rows."""
    verdicts = []
    table = pd.DataFrame(records)
    for (task, way), part in table.groupby(["task", "way"], sort=False) if records else []:
        ends = part["round"] == part["round"].max()
        for rows in ("erased", "retained", "test"):
            after, before = (part.loc[at, f"ratio_{rows}"].median() for at in (ends, part["round"] == 0))
            detail = f"{after:.3g} after {before:.3g}, wanted {tolerance} times that or 1"
            verdicts.append(
                Verdict(f"no harm, {task}, {way}, {rows}", bool(after <= max(1, tolerance * before)), detail)
            )
    return verdicts


def sequences(records: Sequence[dict[str, Any]], tolerance: float = 1.2) -> list[Verdict]:
    """Judge the end of a sequence of requests beside one request for all of them: medians, erased and test rows."""
    verdicts = []
    for task, part in pd.DataFrame(records).groupby("task", sort=False) if records else []:
        end = part[part["round"] == part["round"].max()]
        for rows in ("erased", "test"):
            one, many = (end[end.way == way][f"same_{rows}"].median() for way in ("one request", "sequence"))
            detail = f"{many:.3g} against {one:.3g} ({many / max(one, 1e-12):.3g} times, wanted {tolerance})"
            verdicts.append(Verdict(f"sequence, {task}, {rows}", bool(many <= tolerance * one), detail))
    return verdicts
