"""Whether a version may serve: what its weights cost the supported tasks, and whether that is within the limits.

The only implementation of the rule: for aliases that move in the API, for patches that are served if they are accepted,
and for checks without a move.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from contract.evaluation import Evaluation
from contract.scores import SplitScore
from registry.evidence import Evidence, MeasuredTask


@dataclass(frozen=True)
class SupportedDrop:
    """How far a supported task is below the base.

    Attributes:
        measurement: What was measured.
        limit_points: Percentage points that it may drop; None: any.
    """

    measurement: MeasuredTask
    limit_points: float | None

    @property
    def points(self) -> float:
        """Percentage points; negative if it gained."""
        return float(100 * drop_of(self.measurement))

    @property
    def is_too_much(self) -> bool:
        """Whether it is beyond its limit."""
        return self.limit_points is not None and self.points > self.limit_points

    def __str__(self) -> str:
        task = self.measurement
        limit = "" if self.limit_points is None else f"; the limit is {self.limit_points:g}"
        return f"{task.name!r} ({task.dataset_id}) drops by {self.points:.2f} points on its {task.split} split{limit}"


@dataclass(frozen=True)
class MeanDrop:
    """How far the mean accuracy of supported tasks is below the base.

    Attributes:
        points: Percentage points; negative if it gained.
        limit_points: Percentage points that it may drop.
        num_tasks: The number of tasks.
    """

    points: float
    limit_points: float
    num_tasks: int

    @property
    def is_too_much(self) -> bool:
        """Whether it is beyond its limit."""
        return self.points > self.limit_points

    def __str__(self) -> str:
        return (
            f"the mean of {self.num_tasks} supported tasks drops by {self.points:.2f} points; "
            f"the limit is {self.limit_points:g}"
        )


@dataclass(frozen=True)
class MissingTask:
    """A supported task with a limit that was not measured on these weights.

    Attributes:
        limit_points: Percentage points that it may drop; None: only the mean of several tasks has a limit.
    """

    dataset_id: str
    name: str
    limit_points: float | None

    def __str__(self) -> str:
        return f"{self.name!r} ({self.dataset_id})"


@dataclass(frozen=True)
class Assessment:
    """The supported tasks of a version, against their limits.

    Attributes:
        drops: Of those that were measured, the one nearest to its limit, or farthest beyond it, first.
        means: Of those whose mean has a limit.
        missing: Those with a limit that were not measured.
        lacks_any: Whether the installation sets a limit, and no supported task is known.
    """

    drops: tuple[SupportedDrop, ...] = ()
    means: tuple[MeanDrop, ...] = ()
    missing: tuple[MissingTask, ...] = ()
    lacks_any: bool = False

    @property
    def too_large(self) -> tuple[SupportedDrop | MeanDrop, ...]:
        """The drops beyond their limits."""
        drops: tuple[SupportedDrop | MeanDrop, ...] = (*self.drops, *self.means)
        return tuple(each for each in drops if each.is_too_much)

    @property
    def is_unmeasured(self) -> bool:
        """Whether evidence is missing."""
        return self.lacks_any or bool(self.missing)

    @property
    def reason(self) -> str | None:
        """Why the version is not accepted, in one sentence without a full stop; None: it is."""
        reasons = [str(each) for each in self.too_large]
        if self.missing:
            reasons.append(f"it has not been evaluated on {', '.join(map(str, self.missing))}")
        if self.lacks_any:
            reasons.append("it has not been evaluated on any supported task")
        return "; ".join(reasons) or None


def assess(evidence: Evidence, default_limit_points: float | None = None) -> Assessment:
    """Return how a version stands against the limits of its supported tasks.

    The limit of a task is that of the version's own evaluation; else the strictest one of versions with the same
    weights and of ancestors; else the installation's. Every task with a limit must have been measured on the version's
    weights. If no evaluation names a supported task, every data set that the weights were measured on counts as one,
    but those that they were to improve.

    Args:
        evidence: What is known about the weights.
        default_limit_points: The installation's limit; None: none.
    """
    if evidence.is_base:
        return Assessment()
    measured: dict[str, MeasuredTask] = {}
    for each in evidence.measurements:
        measured.setdefault(each.dataset_id, each)
    names = {task.dataset_id: task.name for each in evidence.evaluations for task in each.supported}
    if not names:  # such as an imported version: what was measured on request counts
        names = {each.dataset_id: each.name for each in measured.values() if each.role == "supported"}
    limits = {identifier: _limit(evidence, identifier, default_limit_points) for identifier in names}
    in_means = _with_mean_limits(evidence)
    needed = {identifier for identifier, limit in limits.items() if limit is not None}
    needed |= {task.dataset_id for each in in_means for task in each.supported}
    drops = [SupportedDrop(measured[each], limit) for each, limit in limits.items() if each in measured]
    return Assessment(
        drops=tuple(sorted(drops, key=_excess, reverse=True)),
        means=tuple(_means(in_means, measured)),
        missing=tuple(
            MissingTask(each, name, limits[each]) for each, name in names.items() if each in needed - measured.keys()
        ),
        lacks_any=default_limit_points is not None and not names,
    )


def drop_of(measurement: MeasuredTask) -> Fraction:
    """Return the exact share of accuracy that was lost, so that a drop of just the limit is within it."""
    return _share(measurement.zero_shot) - _share(measurement.patched)


def _limit(evidence: Evidence, dataset_id: str, default: float | None) -> float | None:
    own = _limits([evidence.own] if evidence.own else [], dataset_id)
    return min(own or _limits(evidence.others, dataset_id), default=default)


def _limits(evaluations: Collection[Evaluation], dataset_id: str) -> list[float]:
    """Return the limits that evaluations set for one of their supported tasks."""
    naming = (each for each in evaluations if dataset_id in {task.dataset_id for task in each.supported})
    return [float(limit) for each in naming if (limit := each.limit_of(dataset_id)) is not None]


def _with_mean_limits(evidence: Evidence) -> tuple[Evaluation, ...]:
    """Return the evaluations that limit the mean drop of their tasks: the version's own, or else all others."""
    if evidence.own is not None and evidence.own.max_mean_drop is not None:
        return (evidence.own,)
    return tuple(each for each in evidence.others if each.max_mean_drop is not None)


def _means(evaluations: Collection[Evaluation], measured: Mapping[str, MeasuredTask]) -> Iterator[MeanDrop]:
    """Yield the mean drops of evaluations whose supported tasks were all measured."""
    for each in evaluations:
        identifiers = [task.dataset_id for task in each.supported]
        if identifiers and all(identifier in measured for identifier in identifiers):
            assert each.max_mean_drop is not None
            drops = [drop_of(measured[identifier]) for identifier in identifiers]
            yield MeanDrop(float(100 * sum(drops) / len(drops)), each.max_mean_drop, len(drops))


def _share(score: SplitScore) -> Fraction:
    return Fraction(score.exact(score.correct)) / score.total


def _excess(drop: SupportedDrop) -> float:
    return drop.points - (drop.limit_points or 0.0)
