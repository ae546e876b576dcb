"""The rules that choose a point of an alpha curve. Accuracies are compared as fractions, so that no boundary moves."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from paint_core.alpha.curve import CurvePoint
from paint_core.alpha.floor import Floor, exact_mean, limits
from paint_core.alpha.options import Rule, require_floor
from paint_core.errors import ConfigError, NoAcceptableAlphaError
from paint_core.evaluation import Score
from paint_core.runtime.arguments import require_names

__all__ = ["AlphaChoice", "Floor", "Goal", "choose_alpha", "combined", "exact_combined", "exact_mean"]


@dataclass(frozen=True)
class AlphaChoice:
    """The chosen alpha.

    Attributes:
        combined: its combined accuracy, in [0, 1].
        reason: one sentence for a report.
        is_last: whether it is the largest alpha of the curve, so that a better one may be beyond it.
    """

    alpha: float
    combined: float
    reason: str
    is_last: bool = False


def combined(point: CurvePoint, patching: Collection[str], supported: Collection[str]) -> float:
    """The mean of two means: accuracy over the supported and over the patching tasks (PAINT, footnote 2).

    Both groups weigh one half, whatever their sizes. Without supported tasks it is the patching mean.
    """
    return float(exact_combined(point, patching, supported))


def exact_combined(point: CurvePoint, patching: Collection[str], supported: Collection[str]) -> Fraction:
    """The combined accuracy as a fraction; arguments and errors as for `combined`."""
    _require_patching(patching)
    means = [exact_mean(point, names) for names in (patching, supported) if names]
    return sum(means, Fraction(0)) / len(means)


def choose_alpha(
    curve: Sequence[CurvePoint],
    patching: Collection[str],
    supported: Collection[str],
    rule: Rule = "combined",
    max_supported_drop: float | Mapping[str, float] | None = None,
    reference: Mapping[str, Score] | None = None,
) -> AlphaChoice:
    """The best alpha by the rule; among equals the smallest, which is nearest to theta_0.

    `combined` maximises the combined accuracy (PAINT, arXiv 2208.05592, section 2). `floor` maximises the mean over the
    patching tasks among the alphas at which no supported task is more than `max_supported_drop` points below its
    reference. Alpha 0 meets every floor, being zero-shot itself; so a floor that only alpha 0 meets is an error, not a
    choice: a requested patch would silently have no effect. Where a larger alpha meets the floor too but is
    worse on the patching tasks, 0 is chosen, with a reason.

    Args:
        patching: names of the tasks to improve.
        supported: names of the tasks that must not get worse; for `floor` at least one.
        rule: `combined` or `floor`.
        max_supported_drop: for `floor`, in percentage points: one number, or one for every supported task.
        reference: for `floor`, the scores to measure drops from; None means the curve's own at alpha 0.

    Raises:
        ConfigError: an empty curve, no patching task, or a floor without limits, supported tasks or reference.
    """
    if not curve:
        raise ConfigError("the alpha curve is empty: evaluate at least one alpha")
    _require_patching(patching)
    require_floor(rule, max_supported_drop)
    if rule == "combined":
        point, ties = _best(curve, {point.alpha: exact_combined(point, patching, supported) for point in curve})
        reason = _combined_reason(combined(point, patching, supported), supported)
    else:
        assert max_supported_drop is not None  # by require_floor
        floor = Floor.build(curve, supported, max_supported_drop, reference)
        accepted = floor.accepted(curve)
        point, ties = _best(accepted, {point.alpha: exact_mean(point, patching) for point in accepted})
        reason = f"{floor.reason(point)}; the patching mean is {100 * float(exact_mean(point, patching)):.2f} %"
    if ties > 1:
        reason += f"; the smallest of {ties} equal alphas"
    is_last = point.alpha > 0 and point.alpha == max(each.alpha for each in curve)
    if is_last:
        reason += f"; it is the last alpha evaluated, so a better one may lie beyond {point.alpha:g}"
    return AlphaChoice(point.alpha, combined(point, patching, supported), reason, is_last)


def _best(curve: Sequence[CurvePoint], values: Mapping[float, Fraction]) -> tuple[CurvePoint, int]:
    """The point of the largest value, the smallest alpha among equals, and how many equals there are."""
    top = max(values.values())
    equals = {point.alpha: point for point in curve if values[point.alpha] == top}
    return equals[min(equals)], len(equals)


@dataclass(frozen=True, eq=False)
class Goal:
    """A rule and the tasks to which it is applied.

    Attributes:
        max_supported_drop: as for `choose_alpha`.
        reference: as for `choose_alpha`.
    """

    patching: Collection[str]
    supported: Collection[str]
    rule: Rule = "combined"
    max_supported_drop: float | Mapping[str, float] | None = None
    reference: Mapping[str, Score] | None = None

    def require_usable(self) -> None:
        """Refuses, before anything is evaluated, what `choose` would refuse on every curve."""
        _require_patching(self.patching)
        require_floor(self.rule, self.max_supported_drop)
        if self.max_supported_drop is not None:
            limits(self.max_supported_drop, self.supported)

    def choose(self, curve: Sequence[CurvePoint]) -> AlphaChoice:
        """The choice on a curve; errors as for `choose_alpha`."""
        return choose_alpha(
            curve, self.patching, self.supported, self.rule, self.max_supported_drop, reference=self.reference
        )

    def value(self, point: CurvePoint) -> Fraction:
        """What the rule maximises, as a fraction."""
        if self.rule == "floor":
            return exact_mean(point, self.patching)
        return exact_combined(point, self.patching, self.supported)

    def worth_of_an_image(self, point: CurvePoint) -> Fraction:
        """The most by which one image of a task changes the value."""
        groups = [self.patching, self.supported] if self.rule == "combined" and self.supported else [self.patching]
        worths = [Fraction(1, len(group) * point.scores[name].total) for group in groups for name in group]
        return max(worths) / len(groups)

    def wanted(self, curve: Sequence[CurvePoint]) -> CurvePoint:
        """The point to look at next: the choice or, if every alpha misses the floor, the one that misses by least."""
        try:
            alpha = self.choose(curve).alpha
        except NoAcceptableAlphaError:
            alpha = self._floor(curve).nearest(curve).alpha
        return next(point for point in curve if point.alpha == alpha)

    def may_choose(self, point: CurvePoint, curve: Sequence[CurvePoint]) -> bool:
        """Whether the rule allows a point of the curve, wherever it ranks."""
        return self.rule == "combined" or point.alpha == 0 or self._floor(curve).excess(point)[0] <= 0

    def _floor(self, curve: Sequence[CurvePoint]) -> Floor:
        assert self.max_supported_drop is not None  # `choose` was asked before and refuses a floor without limits
        return Floor.build(curve, self.supported, self.max_supported_drop, self.reference)


def _combined_reason(value: float, supported: Collection[str]) -> str:
    groups = "supported and patching tasks" if supported else "the patching tasks"
    return f"the best mean accuracy over {groups} on validation data ({100 * value:.2f} %)"


def _require_patching(patching: Collection[str]) -> None:
    require_names("patching", patching)
    if not patching:
        raise ConfigError("there is no patching task: add at least one")
