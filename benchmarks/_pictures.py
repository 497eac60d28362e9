# Part of: benchmarks.frontier and others (python -m benchmarks.frontier)
"""The frontier of distance against time, and the drift over a sequence of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._rivals import CUT, FORCED, OURS
from benchmarks._verdicts import medians


def draw_frontier(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw a panel for each task and request: medians, log axes, a line for each family of methods."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    table = medians(records)
    names = list(dict.fromkeys(table.task))
    n_columns = max(table[table.task == task].request.nunique() for task in names)
    figure, axes = plt.subplots(
        len(names), n_columns, figsize=(3.6 * n_columns, 3.2 * len(names)), squeeze=False, layout="constrained"
    )
    families = [f for f in dict.fromkeys(table.family) if f not in (OURS, CUT, FORCED)]
    colours = {family: f"C{k % 10}" for k, family in enumerate(families)} | dict.fromkeys((OURS, CUT, FORCED), "black")
    markers = {OURS: "*", CUT: ".", FORCED: "x"}
    handles = {}
    for task, line in zip(names, axes, strict=True):
        parts = list(table[table.task == task].groupby("request", sort=False))
        for axis in line[len(parts) :]:
            axis.set_visible(False)
        for (request, part), axis in zip(parts, line, strict=False):
            left = part.share[part.share > 0].min() / 2
            for family, points in part.groupby("family", sort=False):
                handles[family] = axis.plot(
                    points.share.clip(lower=left), points.distance, markers.get(family, "o"), label=family,
                    ls="-" if len(points) > 1 else "", color=colours[family], ms=12 if family == OURS else 5,
                    zorder=3 if family == OURS else 2,
                )[0]  # fmt: skip
            if not part.full_batch.any():
                axis.axhline(1, color="grey", lw=0.8, ls=":")
            axis.set(xscale="log", yscale="log", title=f"{task}, {request}", xlabel="time / retraining")
            axis.xaxis.set_minor_formatter(NullFormatter())
        line[0].set_ylabel("distance" + (", of the no-op's" if parts[0][1].full_batch.any() else " / floor"))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_sequences(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the distance to the model retrained without all rows, round by round; a band from seed to seed."""
    import matplotlib.pyplot as plt

    table = pd.DataFrame(records)
    names = list(dict.fromkeys(table.task))
    figure, axes = plt.subplots(
        2, len(names), figsize=(4 * len(names), 6), squeeze=False, layout="constrained", sharex=True
    )
    for task, column in zip(names, axes.T, strict=True):
        for rows, axis in zip(("erased", "test"), column, strict=True):
            for way, part in table[table.task == task].groupby("way", sort=False):
                by = part.groupby("round")[f"same_{rows}"]
                axis.plot(by.median(), "o-" if way == "one request" else ".-", label=way)
                axis.fill_between(by.min().index, by.min(), by.max(), alpha=0.2)
            axis.set(title=f"{task}, {rows} rows", ylabel="distance / floor", ylim=(0, None))
        axis.set(xlabel="requests so far", xticks=np.unique(table["round"][table.way == "one request"]))
    axes[0, 0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_every_layer(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw a panel for each task: ratio on the erased rows against time, medians, a point for each request."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    table = medians([record for record in records if "ratio_erased" in record])
    table = table[table.family != "retrain"]
    names = list(dict.fromkeys(table.task))
    families = [family for family in dict.fromkeys(table.family) if family != OURS]
    colours = {family: f"C{k % 10}" for k, family in enumerate(families)} | {OURS: "black"}
    n_columns = min(4, len(names))
    n_lines = -(-len(names) // n_columns)
    figure, axes = plt.subplots(
        n_lines, n_columns, figsize=(3.6 * n_columns, 3.2 * n_lines), squeeze=False, layout="constrained"
    )
    handles = {}
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for task, axis in zip(names, axes.flat, strict=False):
        of_task = table[table.task == task]
        left = of_task.share[of_task.share > 0].min() / 2 if (of_task.share > 0).any() else 1e-3
        for family, points in of_task.groupby("family", sort=False):
            handles[family] = axis.plot(
                points.share.clip(lower=left), points.ratio_erased, "*" if family == OURS else "o", label=family, ls="",
                color=colours[family], ms=11 if family == OURS else 4, zorder=3 if family == OURS else 2,
            )[0]  # fmt: skip
        axis.axhline(1, color="grey", lw=0.8, ls=":")
        axis.set(xscale="log", yscale="log", title=task, xlabel="time / retraining")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_minor_formatter(NullFormatter())
    for axis in axes[:, 0]:
        axis.set_ylabel("ratio, erased rows")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_growth(records: Sequence[dict[str, Any]], path: Path, clock: str) -> None:
    """Draw seconds and bytes a row against rows, log axes; dotted: as fast as the rows grow."""
    import matplotlib.pyplot as plt

    ending = "_s" if clock == "wall" else "_cpu_s"
    rows = [record["rows"] for record in records]
    most = f"{records[-1]['erased_at_once']:,d}"
    shown = {
        "adopt a trained net": "adopt", "build the index": "index", "first forget": "first",
        f"forget {most} rows at once (a tenth at most)": "many", "forget one row": "one_row",
        "the same without steps": "no_steps",
    }  # fmt: skip
    figure, (axis, below) = plt.subplots(
        2, 1, figsize=(6.4, 6.4), layout="constrained", sharex=True, height_ratios=(3, 1)
    )
    for label, name in shown.items():
        axis.plot(rows, [record[name + ending] for record in records], "o-", label=label)
    start = records[0]["index" + ending]
    axis.plot(rows, [start * n / rows[0] for n in rows], color="grey", lw=0.8, ls=":")
    axis.set(xscale="log", yscale="log", ylabel=f"seconds, {clock}")
    axis.legend()
    everything = [sum(record["bytes_a_row"].values()) + record["id_index_bytes_a_row"] for record in records]
    index = [record["index_bytes_a_row"] for record in records]
    below.plot(rows, index, "s-", label="index by content")
    below.plot(rows, [a + b for a, b in zip(everything, index, strict=True)], "s-", label="all beyond the row itself")
    below.set(xscale="log", ylim=(0, None), xlabel="rows of the training set", ylabel="bytes a row")
    below.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
