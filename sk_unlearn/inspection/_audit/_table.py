"""The table of an audit: every measure, on every set of rows, of every kind of model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Table"]

_COLUMNS = ["measure", "rows", "model", "value", "low", "high"]


class Table:
    """Figures, as they are measured."""

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []

    def add(self, measure: str, rows: str, model: str, value: float, low: float = np.nan, high: float = np.nan) -> None:
        """Add a figure of one kind of model."""
        self._records.append(dict(zip(_COLUMNS, (measure, rows, model, value, low, high), strict=True)))

    def add_all(self, measure: str, rows: str, values: Sequence[float]) -> None:
        """Add the mean over retrained models, with their range."""
        if len(values):
            self.add(measure, rows, "retrained", float(np.mean(values)), float(np.min(values)), float(np.max(values)))

    def frame(self) -> pd.DataFrame:
        """Return the table, the figures of a measure together."""
        table = pd.DataFrame(self._records, columns=_COLUMNS)
        order = {name: number for number, name in enumerate(table["measure"].unique())}
        return table.sort_values("measure", key=lambda names: names.map(order), kind="stable", ignore_index=True)
