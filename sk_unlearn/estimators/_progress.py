"""Print a table, a line per step, as skorch prints a line per epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["print_step", "silent"]

_COLUMNS = {
    "step": "{:d}",
    "objective_change": "{:.3e}",
    "gradient_norm": "{:.3e}",
    "L": "{:.2e}",
    "damping": "{:.2e}",
    "ratio": "{:.2f}",
    "step_norm": "{:.3e}",
    "n_products": "{:d}",
    "train_loss": "{:.4f}",
    "erased_loss": "{:.4f}",
    "retained_loss": "{:.4f}",
    "seconds": "{:.3f}",
}


def print_step(record: Mapping[str, Any]) -> None:
    """Print one record of a trace; the first one brings the header."""
    cells = {name: form.format(record[name]) for name, form in _COLUMNS.items() if name in record}
    width = max(16, *(len(name) for name in cells))
    if record.get("step") == 1:
        print("  ".join(f"{name:>{width}}" for name in cells))
        print("  ".join("-" * width for _ in cells))
    print("  ".join(f"{cell:>{width}}" for cell in cells.values()))


def silent(record: Mapping[str, Any]) -> None:
    """Print nothing."""
