"""Scores that a stored interpolant predicts for an alpha that was not evaluated; no model is needed."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

from app.patches.interpolants import StoredCurve
from contract.scores import AlphaPoint, SplitScore
from paint_core.alpha import CurvePoint, combined
from paint_core.evaluation import Score


def predict_point(
    stored: StoredCurve, alpha: float, patching: Collection[str], supported: Collection[str], *, starts_at_base: bool
) -> AlphaPoint | None:
    """Return the point at an alpha; None where the interpolant does not reach.

    Args:
        stored: The interpolant.
        alpha: Any.
        patching: Ids of the data sets to improve on.
        supported: Ids of the data sets that must not get worse.
        starts_at_base: Whether alpha 0 of the path is the base, so that lost and gained images can be counted.
    """
    curve = stored.features
    if not curve.nodes[0] <= alpha <= curve.nodes[-1]:
        return None
    scores = curve.scores(alpha, reference=stored.correct_at_0 if starts_at_base else None)
    point = CurvePoint(alpha, scores, measured=alpha in curve.nodes)
    return AlphaPoint(
        alpha=alpha,
        combined=combined(point, patching, supported),
        patching=combined(point, patching, ()),
        supported=combined(point, supported, ()) if supported else None,
        measured=point.measured,
        tasks={name: _record(score) for name, score in point.scores.items()},
    )


def _record(score: Score) -> SplitScore:
    low, high = score.interval()
    counts = {} if score.lost is None else {"lost": score.lost, "gained": score.gained}
    return SplitScore(
        correct=float(score.correct) if isinstance(score.correct, Fraction) else score.correct,
        total=score.total,
        accuracy=score.accuracy,
        low=low,
        high=high,
        loss=score.loss,
        ece=score.ece,
        balanced_accuracy=score.balanced_accuracy,
        macro_f1=score.macro_f1,
        **counts,
    )
