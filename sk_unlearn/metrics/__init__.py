"""Measures of forgetting: distances to a retrained model, and a scorer for scikit-learn's searches."""

from sk_unlearn.metrics.distance import (
    distance_ratio,
    jensen_shannon,
    kl_divergence,
    retrain_distance,
    rms_distance,
    total_variation,
    tug_of_war_score,
)
from sk_unlearn.metrics.scorer import make_retrain_scorer

__all__ = [
    "distance_ratio",
    "jensen_shannon",
    "kl_divergence",
    "make_retrain_scorer",
    "retrain_distance",
    "rms_distance",
    "total_variation",
    "tug_of_war_score",
]
