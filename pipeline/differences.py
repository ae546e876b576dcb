"""Differences between two models, as they are recorded."""

from __future__ import annotations

from paint_core.evaluation.statistics import Difference


def describe_difference(difference: Difference) -> dict[str, float]:
    """Return the fields of a recorded change of accuracy."""
    return {
        "change_points": difference.points,
        "low_points": difference.low,
        "high_points": difference.high,
        "p_value": difference.p_value,
    }
