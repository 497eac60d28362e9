"""Measures of forgetting: distances to a retrained model, membership attacks, and a scorer for searches."""

from sk_unlearn.metrics.class_neighbours import NeighbourDistance, neighbour_distance
from sk_unlearn.metrics.distances import (
    distance_ratio,
    jensen_shannon,
    kl_divergence,
    retrain_distance,
    rms_distance,
    total_variation,
    tug_of_war,
    tug_of_war_score,
)
from sk_unlearn.metrics.embeddings import EmbeddingRows, embedding_rows
from sk_unlearn.metrics.forgetting import (
    anamnesis_index,
    distance_ratio_interval,
    forget_quality,
    gap_closed,
    ks_pvalue,
    loss_ks_pvalue,
    parameter_distance,
    prediction_ratio,
    privacy_degrees,
    relearn_time,
    retrain_warm,
    row_losses,
    warm_ratio,
)
from sk_unlearn.metrics.margins import klom, klom_score, row_margins
from sk_unlearn.metrics.membership import tug_of_war_mia_score
from sk_unlearn.metrics.neighbourhood import residual_knowledge
from sk_unlearn.metrics.probe import FeatureProbe, feature_probe, hidden_features
from sk_unlearn.metrics.relative import RelativeDistance, relative_distance
from sk_unlearn.metrics.relearning import RelearningCurve, relearning_curve
from sk_unlearn.metrics.scorer import make_retrain_scorer
from sk_unlearn.metrics.strata import MemorisationStratum, memorisation_strata

__all__ = [
    "EmbeddingRows",
    "FeatureProbe",
    "MemorisationStratum",
    "NeighbourDistance",
    "RelativeDistance",
    "RelearningCurve",
    "anamnesis_index",
    "distance_ratio",
    "distance_ratio_interval",
    "embedding_rows",
    "feature_probe",
    "forget_quality",
    "gap_closed",
    "hidden_features",
    "jensen_shannon",
    "kl_divergence",
    "klom",
    "klom_score",
    "ks_pvalue",
    "loss_ks_pvalue",
    "make_retrain_scorer",
    "memorisation_strata",
    "neighbour_distance",
    "parameter_distance",
    "prediction_ratio",
    "privacy_degrees",
    "relative_distance",
    "relearn_time",
    "relearning_curve",
    "residual_knowledge",
    "retrain_distance",
    "retrain_warm",
    "rms_distance",
    "row_losses",
    "row_margins",
    "total_variation",
    "tug_of_war",
    "tug_of_war_mia_score",
    "tug_of_war_score",
    "warm_ratio",
]
