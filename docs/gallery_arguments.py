"""The command line that the gallery gives its examples."""

from typing import Any


def few_seeds(gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
    """Return arguments that keep the build short."""
    return ["--seeds", "2"]
