"""How good a tower is, how sure that is, and whether a tower gives the features that it gave before."""

from paint_core.evaluation.probe import check_probe, probe_features, probe_images
from paint_core.evaluation.scoring import Score, encode, evaluate, predictions, score_features

__all__ = [
    "Score",
    "check_probe",
    "encode",
    "evaluate",
    "predictions",
    "probe_features",
    "probe_images",
    "score_features",
]
