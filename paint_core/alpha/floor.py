"""The floor under the supported tasks: how far each may drop, compared as fractions so that no boundary moves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from paint_core.alpha.curve import CurvePoint
from paint_core.errors import ConfigError, NoAcceptableAlphaError
from paint_core.evaluation import Metric, Score


@dataclass(frozen=True)
class Floor:
    """How much accuracy each supported task may lose.

    Attributes:
        reference: accuracy of each supported task before the patch.
        limits: maximum drop; both exact shares.
    """

    reference: Mapping[str, Fraction]
    limits: Mapping[str, Fraction]

    @classmethod
    def build(
        cls,
        curve: Sequence[CurvePoint],
        supported: Collection[str],
        max_supported_drop: float | Mapping[str, float],
        reference: Mapping[str, Score] | None,
    ) -> Floor:
        """The floor under these tasks; arguments and errors as for `choose_alpha`."""
        allowed = limits(max_supported_drop, supported)
        if reference is None:
            reference = next((point.scores for point in curve if point.alpha == 0), None)
        if reference is None:
            raise ConfigError("the curve has no alpha 0 to measure drops from: evaluate it, or give `reference`")
        return cls({name: _accuracy(reference[name]) for name in supported}, allowed)

    def excess(self, point: CurvePoint) -> tuple[Fraction, str]:
        """By how much the worst supported task drops more than it may (at most 0: it holds), and that task's name."""
        return max((self.drop(point, name) - self.limits[name], name) for name in sorted(self.limits))

    def drop(self, point: CurvePoint, name: str) -> Fraction:
        """How far a supported task is below its reference, as a share; negative if it gained."""
        return self.reference[name] - _accuracy(point.scores[name])

    def accepted(self, curve: Sequence[CurvePoint]) -> list[CurvePoint]:
        """The points that meet the floor, in their order; alpha 0 always does.

        Raises:
            NoAcceptableAlphaError: no point above 0 does.
        """
        accepted = [point for point in curve if point.alpha == 0 or self.excess(point)[0] <= 0]
        if all(point.alpha == 0 for point in accepted):
            raise NoAcceptableAlphaError(self._refusal(curve), curve)
        return accepted

    def nearest(self, curve: Sequence[CurvePoint]) -> CurvePoint:
        """The point above alpha 0 that misses the floor by least; the smallest alpha among equals.

        Raises:
            ConfigError: the curve has none above 0.
        """
        moved = sorted((point for point in curve if point.alpha != 0), key=lambda point: point.alpha)
        if not moved:
            raise ConfigError("the curve has no alpha above 0: evaluate at least one")
        return min(moved, key=lambda point: self.excess(point)[0])

    def reason(self, point: CurvePoint) -> str:
        """What the choice of this point rests on, for a report."""
        if point.alpha == 0:
            return "no alpha within the allowed drops of the supported tasks improves the patching tasks"
        name = max(sorted(self.limits), key=lambda name: self.drop(point, name))
        drop = 100 * float(self.drop(point, name))
        change = f"drop is {drop:.2f} points" if drop >= 0 else f"change is a gain of {-drop:.2f} points"
        return f"the best patching accuracy within the allowed drops; the worst supported {change} ({name})"

    def _refusal(self, curve: Sequence[CurvePoint]) -> str:
        point = self.nearest(curve)
        _, name = self.excess(point)
        return (
            f"no alpha keeps every supported task within its allowed drop; the closest is alpha {point.alpha:g}, where "
            f"{name!r} drops by {100 * float(self.drop(point, name)):.2f} points and "
            f"{100 * float(self.limits[name]):.2f} are allowed: increase max_supported_drop, search with path 'best' "
            "or a smaller step, or fine-tune with anchors or a lower learning rate"
        )


def exact_mean(point: CurvePoint, names: Collection[str], metric: Metric = "accuracy") -> Fraction:
    """The mean of a metric over some tasks (at least one), as a fraction.

    Raises:
        ConfigError: a score lacks the metric.
    """
    return sum((_value(point.scores[name], metric) for name in names), Fraction(0)) / len(names)


def limits(max_supported_drop: float | Mapping[str, float], supported: Collection[str]) -> dict[str, Fraction]:
    """The allowed drop of each supported task, as an exact share.

    Args:
        max_supported_drop: in percentage points: one number, or one for every supported task.
        supported: at least one name.

    Raises:
        ConfigError: no supported task, or the mapping names others than these.
    """
    if not supported:
        raise ConfigError("a limit on drops needs supported tasks: add at least one, or use rule 'combined'")
    if not isinstance(max_supported_drop, Mapping):
        max_supported_drop = dict.fromkeys(supported, max_supported_drop)
    if set(max_supported_drop) != set(supported):
        raise ConfigError(
            f"max_supported_drop has {sorted(max_supported_drop)}, but the supported tasks are {sorted(supported)}: "
            "give one number, or one for each supported task"
        )
    # As it is written: the binary 0.3 is less than 3/10 and would refuse a drop of exactly 0.3 points.
    return {name: Fraction(str(float(points))) / 100 for name, points in max_supported_drop.items()}


def _value(score: Score, metric: Metric) -> Fraction:
    if metric == "accuracy":
        return _accuracy(score)
    value: float | None = getattr(score, metric)
    if value is None:
        raise ConfigError(f"a score of an older release has no {metric}: use metric 'accuracy', or evaluate again")
    return Fraction(value)


def _accuracy(score: Score) -> Fraction:
    return Fraction(score.correct, score.total)
