"""What a version was measured to cost the supported tasks, and whether that is within their limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from contract.evaluation import Evaluation
from contract.scores import SplitScore


@dataclass(frozen=True)
class SupportedDrop:
    """How far a supported task is below zero-shot.

    Attributes:
        split: Where it was measured.
        points: Percentage points; negative if it gained.
        limit_points: Most that it may drop; None: any.
    """

    dataset_id: str
    name: str
    split: str
    points: float
    limit_points: float | None

    @property
    def is_too_much(self) -> bool:
        """Whether it is beyond its limit."""
        return self.limit_points is not None and self.points > self.limit_points

    def __str__(self) -> str:
        limit = "" if self.limit_points is None else f"; the limit is {self.limit_points:g}"
        return f"{self.name!r} ({self.dataset_id}) drops by {self.points:.2f} points on its {self.split} split{limit}"


def supported_drops(evaluation: Evaluation, default_limit_points: float | None = None) -> list[SupportedDrop]:
    """Return the drop of each supported task, the one nearest to its limit, or farthest beyond it, first."""
    limits = evaluation.max_supported_drop
    drops = [
        SupportedDrop(
            dataset_id=task.dataset_id,
            name=task.name,
            split=evaluation.split,
            points=float(100 * (_share(task.zero_shot) - _share(task.patched))),
            limit_points=_limit(limits, task.dataset_id, default_limit_points),
        )
        for task in evaluation.tasks
        if task.role == "supported"
    ]
    return sorted(drops, key=_excess, reverse=True)


def too_much(drops: Iterable[SupportedDrop]) -> list[SupportedDrop]:
    """Return those that are beyond their limit."""
    return [drop for drop in drops if drop.is_too_much]


def _share(score: SplitScore) -> Fraction:
    return Fraction(score.exact(score.correct)) / score.total  # exact, so that a drop of just the limit is within it


def _limit(limits: float | Mapping[str, float] | None, dataset_id: str, default: float | None) -> float | None:
    own = limits.get(dataset_id) if isinstance(limits, Mapping) else limits
    return default if own is None else float(own)


def _excess(drop: SupportedDrop) -> float:
    return drop.points - (drop.limit_points or 0.0)
