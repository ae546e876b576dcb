"""How accurate a tower is, how certain that is, and whether a loaded tower gives the same features as before."""

from paint_core.evaluation.precision import UsedPrecision, choose_precision
from paint_core.evaluation.probe import check_probe, probe_features, probe_images
from paint_core.evaluation.scoring import Metric, Score, correct_answers, encode, evaluate, predictions, score_features

__all__ = [
    "Metric",
    "Score",
    "UsedPrecision",
    "check_probe",
    "choose_precision",
    "correct_answers",
    "encode",
    "evaluate",
    "predictions",
    "probe_features",
    "probe_images",
    "score_features",
]
