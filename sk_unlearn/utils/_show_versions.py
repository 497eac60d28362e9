"""What to put into a bug report: versions of everything that has a part in the numbers."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from sk_unlearn._version import __version__

__all__ = ["show_versions"]

_DEPENDENCIES = ("numpy", "scipy", "pandas", "scikit-learn", "skorch", "torch", "joblib")


def show_versions() -> None:
    """Print the versions of Python, this package and its dependencies, and what torch computes on.

    Paste it into a bug report. It names the Python executable, so look at the path before you publish it.

    Examples
    --------
    >>> from sk_unlearn import show_versions
    >>> show_versions()  # doctest: +ELLIPSIS
    <BLANKLINE>
    System:
           python: ...
    """
    _print_table(
        "System",
        {"python": sys.version.replace("\n", " "), "executable": sys.executable, "machine": platform.platform()},
    )
    _print_table("Python dependencies", {"sk_unlearn": __version__, **{name: _version(name) for name in _DEPENDENCIES}})
    _print_table("torch", _torch_settings())


def _version(distribution: str) -> str:
    # From the metadata, so that nothing has to be imported for it.
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _torch_settings() -> dict[str, object]:
    available = torch.cuda.is_available()
    return {
        "CUDA available": available,
        "CUDA device": torch.cuda.get_device_name() if available else "none",
        "threads": torch.get_num_threads(),
    }


def _print_table(title: str, entries: dict[str, object]) -> None:
    print(f"\n{title}:")
    width = max(map(len, entries)) + 3
    for name, value in entries.items():
        print(f"{name:>{width}}: {value}")
