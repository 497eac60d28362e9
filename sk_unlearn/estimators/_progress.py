"""Show the steps of a request: as a bar, or as a table with a line per step, as skorch prints a line per epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sk_unlearn.utils._progress import progress

__all__ = ["steps_shown"]

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
# What stands behind a bar: the first of these that a method records.
_BESIDE = {"gradient_norm": "gradient {:.2e}", "erased_loss": "erased loss {:.3g}", "train_loss": "loss {:.3g}"}


@contextmanager
def steps_shown(verbose: int | bool | None, verb: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Show the steps of a request, and the epochs of what is trained in it.

    Parameters
    ----------
    verbose : int, bool or None
        Of the estimator: above 0 prints a table, None shows a bar where somebody looks on, 0 nothing.
    verb : str
        What is asked for.

    Yields
    ------
    report_step : callable
        To be called with each record of the trace.
    """
    with progress(None, verb, unit="step", verbose=None if verbose is None else 0, parts=True) as bar:

        def advance(record: Mapping[str, Any]) -> None:
            name = next((name for name in _BESIDE if name in record), None)
            if name is not None:
                bar.tell(_BESIDE[name].format(record[name]))
            bar.update()

        yield _print_step if verbose else advance


def _print_step(record: Mapping[str, Any]) -> None:
    """Print one record of a trace; the first one brings the header."""
    cells = {name: form.format(record[name]) for name, form in _COLUMNS.items() if name in record}
    width = max(16, *(len(name) for name in cells))
    if record.get("step") == 1:
        print("  ".join(f"{name:>{width}}" for name in cells))
        print("  ".join("-" * width for _ in cells))
    print("  ".join(f"{cell:>{width}}" for cell in cells.values()))
