"""Scores that a stored interpolant predicts for an alpha that was not evaluated; no model is needed."""

from __future__ import annotations

from fractions import Fraction

from app.patches.reselection import Stage
from contract.scores import AlphaPoint, SplitScore
from paint_core.alpha import CurvePoint, FeatureCurve, combined
from paint_core.evaluation import Score
from registry.blobs import BlobStore


def predict_point(blobs: BlobStore, sha256: str, stage: Stage, alpha: float) -> AlphaPoint | None:
    """Return the curve's point at an alpha, marked as not measured; None where the interpolant does not reach.

    Args:
        blobs: Holds the interpolant.
        sha256: The interpolant that the report names for the profile.
        stage: Distinguishes patching tasks from supported ones.
        alpha: Any.
    """
    curve = FeatureCurve.from_bytes(blobs.read(sha256))
    if not curve.nodes[0] <= alpha <= curve.nodes[-1]:
        return None
    point = CurvePoint(alpha, curve.scores(alpha), measured=alpha in curve.nodes)
    return AlphaPoint(
        alpha=alpha,
        combined=combined(point, stage.patching, stage.supported),
        patching=combined(point, stage.patching, ()),
        supported=combined(point, stage.supported, ()) if stage.supported else None,
        measured=point.measured,
        tasks={name: _record(score) for name, score in point.scores.items()},
    )


def _record(score: Score) -> SplitScore:
    low, high = score.interval()
    return SplitScore(
        correct=float(score.correct) if isinstance(score.correct, Fraction) else score.correct,
        total=score.total,
        accuracy=score.accuracy,
        low=low,
        high=high,
        loss=score.loss,
        ece=score.ece,
    )
