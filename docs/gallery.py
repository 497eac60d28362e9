"""What the gallery shows, in which order, and the command line that its examples get."""

from pathlib import Path
from typing import Any

# From the plain to the special. An example that is not here comes last, and tests/test_site.py says so.
ORDER = [
    # one deletion, by what the rows are
    "plot_forget_digits",
    "plot_mixed_table",
    "plot_image_cnn",
    "plot_text_forget",
    "plot_recommender",
    "plot_regression_map",
    # other requests, other ways in
    "plot_correct_labels",
    "plot_adopt_net",
    "plot_pipeline_forget",
    "plot_sequential_requests",
    "plot_receipts",
    # which method, and how well it does
    "plot_frontier",
    "plot_grid_search",
    "plot_audit",
    "plot_attacker_roc",
    "plot_certificates",
    # why it works
    "plot_cubic_term",
    "plot_last_layer",
    # shown, but not run here: they serve requests, or start further processes
    "deletion_service",
    "several_processes",
    "dask_cluster",
]


class ByOrder:
    """Sort examples as in ``ORDER``."""

    def __init__(self, src_dir: str) -> None:
        self.src_dir = src_dir

    def __call__(self, filename: str) -> tuple[int, str]:
        """Return the place of an example."""
        name = Path(filename).stem
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)

    def __repr__(self) -> str:
        return "ByOrder"  # sphinx-gallery keeps it, and must find the same text in the next build


def few_seeds(gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
    """Return arguments that keep the build short."""
    return ["--seeds", "2"]
