"""The rules that choose a point of an alpha curve. Accuracies are compared as fractions, so that no boundary moves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import get_args

from paint_core.alpha.certificate import Certificate, Limits, Stance
from paint_core.alpha.curve import CurvePoint
from paint_core.alpha.floor import Floor, exact_mean, limits
from paint_core.alpha.options import AlphaOptions, Rule, require_limits
from paint_core.errors import ConfigError, NoAcceptableAlphaError
from paint_core.evaluation import Metric, Score
from paint_core.runtime.arguments import require_names

__all__ = ["AlphaChoice", "Floor", "Goal", "choose_alpha", "combined", "exact_combined", "exact_mean"]

NO_PATCH = "no acceptable patch"
"""How the reason begins where alpha is 0."""


@dataclass(frozen=True)
class AlphaChoice:
    """The chosen alpha.

    Attributes:
        combined: its combined accuracy, in [0, 1].
        reason: one sentence for a report.
        is_last: whether it is the largest alpha of the curve, so that a better one may be beyond it.
        certificate: for rule `certified`, what is guaranteed; None for the other rules, and where alpha is 0.
    """

    alpha: float
    combined: float
    reason: str
    is_last: bool = False
    certificate: Certificate | None = None


def combined(
    point: CurvePoint, patching: Collection[str], supported: Collection[str], metric: Metric = "accuracy"
) -> float:
    """The mean of two means: accuracy over the supported and over the patching tasks (PAINT, footnote 2).

    Both groups weigh one half, whatever their sizes. Without supported tasks it is the patching mean.
    """
    return float(exact_combined(point, patching, supported, metric))


def exact_combined(
    point: CurvePoint, patching: Collection[str], supported: Collection[str], metric: Metric = "accuracy"
) -> Fraction:
    """The combined accuracy as a fraction; arguments and errors as for `combined`."""
    _require_patching(patching)
    means = [exact_mean(point, names, metric) for names in (patching, supported) if names]
    return sum(means, Fraction(0)) / len(means)


def choose_alpha(
    curve: Sequence[CurvePoint],
    patching: Collection[str],
    supported: Collection[str],
    rule: Rule = "combined",
    max_supported_drop: float | Mapping[str, float] | None = None,
    reference: Mapping[str, Score] | None = None,
    max_mean_drop: float | None = None,
    confidence: float = 0.95,
    metric: Metric = "accuracy",
) -> AlphaChoice:
    """The best alpha by the rule; among equals the smallest, which is nearest to theta_0.

    `combined` maximises the combined accuracy (PAINT, arXiv 2208.05592, section 2); it guarantees nothing about the
    supported tasks. `floor` maximises the mean over the patching tasks among the alphas at which no supported task is
    more than `max_supported_drop` points below its reference on these images; on others it may drop by more.
    `certified` does the same among the alphas whose true drops are within the limits with the confidence, on any such
    images (`certificate.py`). If it certifies no alpha that improves the patching tasks, it chooses as `combined` does
    among the alphas that are not shown to break a limit, and the choice's certificate says `no_evidence_of_drop`.

    Alpha 0 holds every limit, being zero-shot itself; so limits that only alpha 0 holds are an error, not a choice:
    a requested patch would silently have no effect. Where a larger alpha holds them too but is worse on the patching
    tasks, 0 is chosen, with a reason.

    Args:
        patching: names of the tasks to improve.
        supported: names of the tasks that must not get worse; with limits at least one.
        rule: `combined`, `floor` or `certified`.
        max_supported_drop: for `floor` and `certified`, in percentage points: one number, or one for every supported
            task.
        reference: for `floor`, the scores to measure drops from; None means the curve's own at alpha 0.
        max_mean_drop: for `certified`, in percentage points: of the mean over the supported tasks.
        confidence: for `certified`, in (0.5, 0.999).
        metric: what is maximised in place of the accuracy; limits are of the accuracy.

    Raises:
        ConfigError: an empty curve, no patching task, or limits without supported tasks, reference or paired scores.
        NoAcceptableAlphaError: no alpha above 0 holds the limits.
    """
    goal = Goal(patching, supported, rule, max_supported_drop, reference, max_mean_drop, confidence, metric)
    goal.require_usable()
    return goal.choose(curve)


def _best(curve: Sequence[CurvePoint], values: Mapping[float, Fraction]) -> tuple[CurvePoint, int]:
    """The point of the largest value, the smallest alpha among equals, and how many equals there are."""
    top = max(values.values())
    equals = {point.alpha: point for point in curve if values[point.alpha] == top}
    return equals[min(equals)], len(equals)


@dataclass(frozen=True, eq=False)
class Goal:
    """A rule and the tasks to which it is applied.

    Attributes:
        rule: `combined`, `floor` or `certified`.
        max_supported_drop: as for `choose_alpha`.
        reference: as for `choose_alpha`.
        max_mean_drop: as for `choose_alpha`.
        confidence: as for `choose_alpha`.
        metric: as for `choose_alpha`.
    """

    patching: Collection[str]
    supported: Collection[str]
    rule: Rule = "combined"
    max_supported_drop: float | Mapping[str, float] | None = None
    reference: Mapping[str, Score] | None = None
    max_mean_drop: float | None = None
    confidence: float = 0.95
    metric: Metric = "accuracy"

    @classmethod
    def of(
        cls,
        options: AlphaOptions,
        patching: Collection[str],
        supported: Collection[str],
        reference: Mapping[str, Score] | None = None,
        num_paths: int = 1,
    ) -> Goal:
        """The options' rule, applied to these tasks; paths to choose from share the error of `certified`."""
        confidence = 1 - (1 - options.confidence) / num_paths
        limits = (options.max_supported_drop, reference, options.max_mean_drop, confidence)
        return cls(tuple(patching), tuple(supported), options.rule, *limits, options.metric)

    def require_usable(self) -> None:
        """Refuses, before anything is evaluated, what `choose` would refuse on every curve."""
        _require_patching(self.patching)
        require_limits(self.rule, self.max_supported_drop, self.max_mean_drop, self.confidence)
        if self.max_supported_drop is not None:
            limits(self.max_supported_drop, self.supported)
        if self.rule == "certified":
            self._limits()

    def choose(self, curve: Sequence[CurvePoint], *, only_measured: bool = False) -> AlphaChoice:
        """The choice on a curve.

        Args:
            curve: at least one point.
            only_measured: whether a point that is interpolated may not be chosen. It counts all the same for
                `certified`, which asks every alpha on the way.

        Returns:
            As for `choose_alpha`, which lists the errors too.
        """
        if not curve:
            raise ConfigError("the alpha curve is empty: evaluate at least one alpha")
        candidates = [point for point in curve if point.measured] if only_measured else curve
        certificate = None
        if self.rule == "combined":
            point, ties = _best(candidates, {point.alpha: self.value(point) for point in candidates})
            reason = self._combined_reason(point)
        elif self.rule == "floor":
            floor = self._floor(candidates)
            accepted = floor.accepted(candidates)
            point, ties = _best(accepted, {point.alpha: self.value(point) for point in accepted})
            reason = f"{floor.reason(point)}; {self._patching_mean(point)}"
        else:
            point, ties, certificate = self._most_certain(curve, candidates)
            improves = all(self.value(point) > self.value(each) for each in curve if each.alpha == 0)
            reason = f"{_certified_reason(certificate, improves=improves)}; {self._patching_mean(point)}"
        if point.alpha == 0 and any(each.alpha > 0 for each in curve):
            reason = f"{NO_PATCH}: {reason}"
        if ties > 1:
            reason += f"; the smallest of {ties} equal alphas"
        is_last = point.alpha > 0 and point.alpha == max(each.alpha for each in candidates)
        if is_last:
            reason += f"; it is the last alpha evaluated, so a better one may lie beyond {point.alpha:g}"
        value = combined(point, self.patching, self.supported)
        return AlphaChoice(point.alpha, value, reason, is_last, certificate)

    def nothing(self, curve: Sequence[CurvePoint], why: str) -> AlphaChoice:
        """The choice of alpha 0, because no other alpha of the curve is acceptable."""
        start = next(point for point in curve if point.alpha == 0)
        return AlphaChoice(0.0, combined(start, self.patching, self.supported), f"{NO_PATCH}: {why}")

    def value(self, point: CurvePoint) -> Fraction:
        """What the rule maximises, as a fraction."""
        return self._combined(point) if self.rule == "combined" else exact_mean(point, self.patching, self.metric)

    def preference(self, choice: AlphaChoice, curve: Sequence[CurvePoint]) -> tuple[bool, Fraction]:
        """What tells choices on several curves apart, the better one larger: whether it is certified, and the value."""
        is_certified = choice.certificate is not None and choice.certificate.stance == "certified"
        return is_certified, self.value(next(point for point in curve if point.alpha == choice.alpha))

    def _combined(self, point: CurvePoint) -> Fraction:
        return exact_combined(point, self.patching, self.supported, self.metric)

    def worth_of_an_image(self, point: CurvePoint) -> Fraction:
        """The most by which one image of a task changes the value; with other metrics than accuracy, on average."""
        groups = [self.patching, self.supported] if self.rule == "combined" and self.supported else [self.patching]
        worths = [Fraction(1, len(group) * point.scores[name].total) for group in groups for name in group]
        return max(worths) / len(groups)

    def wanted(self, curve: Sequence[CurvePoint]) -> CurvePoint:
        """The point to look at next: the choice or, if every alpha breaks the limits, the one that does so by least."""
        try:
            alpha = self.choose(curve).alpha
        except NoAcceptableAlphaError:
            alpha = self._nearest(curve).alpha
        return next(point for point in curve if point.alpha == alpha)

    def standing(self, point: CurvePoint, curve: Sequence[CurvePoint]) -> str:
        """Whether the rule allows a point of the curve, wherever it ranks: `certified`, `allowed` or `refused`."""
        if self.rule == "combined" or point.alpha == 0:
            return "allowed"
        if self.rule == "floor":
            return "allowed" if self._floor(curve).excess(point)[0] <= 0 else "refused"
        if self._limits().are_certified(point):
            return "certified"
        return "refused" if self._limits().are_exceeded(point) else "allowed"

    def _most_certain(
        self, curve: Sequence[CurvePoint], candidates: Sequence[CurvePoint]
    ) -> tuple[CurvePoint, int, Certificate | None]:
        """The best point that is certified, else that is not shown to break a limit, else alpha 0."""
        limits, start = self._limits(), [point for point in candidates if point.alpha == 0]
        passed = {"certified": limits.certified(curve), "no_evidence_of_drop": limits.not_excluded(curve)}
        stance: Stance
        for stance in get_args(Stance):
            allowed = [*start, *(point for point in passed[stance] if point in candidates)]
            if not allowed:
                continue
            value = self.value if stance == "certified" else self._combined
            point, ties = _best(allowed, {each.alpha: value(each) for each in allowed})
            if point.alpha > 0:
                held: Stance = "certified" if point in passed["certified"] else stance
                return point, ties, limits.certificate(point, held, curve)
        if not passed["no_evidence_of_drop"]:
            raise NoAcceptableAlphaError(self._refusal(curve), curve)
        return start[0], 1, None

    def _refusal(self, curve: Sequence[CurvePoint]) -> str:
        point = self._nearest(curve)
        certificate = self._limits().certificate(point, "no_evidence_of_drop")
        worst = max(certificate.bounds, key=lambda bound: bound.low_points - bound.limit_points)
        return (
            f"every alpha drops by more than a limit; the closest is alpha {point.alpha:g}, where {_name(worst.task)} "
            f"drops by {worst.points:.2f} points (at least {worst.low_points:.2f} with {100 * self.confidence:g} % "
            f"confidence) and {worst.limit_points:g} are allowed: increase the limit, search with path 'best' or a "
            "smaller step, or fine-tune with anchors or a lower learning rate"
        )

    def _nearest(self, curve: Sequence[CurvePoint]) -> CurvePoint:
        """The point above alpha 0 that is the last to break its limits: for `certified` that is the first one."""
        if self.rule == "floor":
            return self._floor(curve).nearest(curve)
        moved = [point for point in curve if point.alpha > 0]
        if not moved:
            raise ConfigError("the curve has no alpha above 0: evaluate at least one")
        return min(moved, key=lambda point: point.alpha)

    def _patching_mean(self, point: CurvePoint) -> str:
        value = 100 * float(exact_mean(point, self.patching, self.metric))
        return f"the patching mean is {value:.2f} %" + ("" if self.metric == "accuracy" else f" ({self._noun})")

    def _combined_reason(self, point: CurvePoint) -> str:
        groups = "supported and patching tasks" if self.supported else "the patching tasks"
        value = f"mean {self._noun} over {groups} on validation data ({100 * float(self._combined(point)):.2f} %)"
        return f"no larger alpha has a better {value}" if point.alpha == 0 else f"the best {value}"

    @property
    def _noun(self) -> str:
        return {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro-F1"}[self.metric]

    def _floor(self, curve: Sequence[CurvePoint]) -> Floor:
        assert self.max_supported_drop is not None  # `require_usable` refuses a floor without limits
        return Floor.build(curve, self.supported, self.max_supported_drop, self.reference)

    def _limits(self) -> Limits:
        return Limits.build(self.supported, self.max_mean_drop, self.max_supported_drop, self.confidence)


def _name(task: str | None) -> str:
    return "the mean of the supported tasks" if task is None else repr(task)


def _certified_reason(certificate: Certificate | None, *, improves: bool) -> str:
    if certificate is None:
        return "no alpha whose drops may be within their limits improves the patching tasks"
    confidence = f"{100 * certificate.confidence:g} % confidence"
    if certificate.stance == "certified":
        drops = ", ".join(
            f"{_name(bound.task)} drops by at most {max(0.0, bound.high_points):.2f} points"
            for bound in certificate.bounds
        )
        best = "the best patching accuracy that is certified"
        if not improves:
            best = "the best mean accuracy over supported and patching tasks, which is certified"
        return f"{best}: with {confidence}, {drops}"
    needed = "only a gain certifies a limit of 0 points"
    if certificate.images_needed is not None:
        needed = f"about {certificate.images_needed} are needed"
    return (
        "the best mean accuracy over supported and patching tasks where no drop beyond a limit is shown; there are too "
        f"few validation images to certify the limits with {confidence}; {needed}"
    )


def _require_patching(patching: Collection[str]) -> None:
    require_names("patching", patching)
    if not patching:
        raise ConfigError("there is no patching task: add at least one")
