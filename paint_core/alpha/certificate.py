"""What a choice of alpha guarantees about the supported tasks, with a stated confidence.

Alphas are tested in increasing order, and testing stops at the first one that fails. Therefore every alpha before it
holds its limits with the confidence of a single test, however many were tested and whichever is chosen (fixed sequence
testing; Angelopoulos et al., Learn then Test, 2021, arXiv 2110.01052, section 3.2). An alpha passes only if each limit
passes its own test; such an intersection-union test needs no correction for the number of limits (Berger,
Technometrics 1982).

The guarantee is about images like those of the validation splits, drawn independently of each other and of the
training, and about the weights that were evaluated; where a point of the curve is interpolated, the walk relies on the
interpolation, and the chosen point is evaluated truly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from paint_core.alpha.curve import CurvePoint
from paint_core.alpha.floor import limits
from paint_core.errors import ConfigError
from paint_core.evaluation import Score
from paint_core.evaluation.drops import (
    PairedCounts,
    drop_p_value,
    images_to_certify,
    largest_drop,
    mean_counts,
    smallest_drop,
)

Stance = Literal["certified", "no_evidence_of_drop"]
"""`certified`: the drop is within its limit, with the confidence asked for. `no_evidence_of_drop`: the images do not
show that; they do not show the contrary either."""


@dataclass(frozen=True)
class DropBound:
    """The estimate and the bounds of one drop.

    Attributes:
        task: name of the supported task; None: the mean over all of them.
        points: the observed drop, in percentage points; negative if it is a gain.
        low_points: its lower bound; each bound has the confidence of the certificate on its own.
        high_points: its upper bound.
        limit_points: most that it may drop.
        is_certified: whether the drop is within the limit with that confidence.
    """

    task: str | None
    points: float
    low_points: float
    high_points: float
    limit_points: float
    is_certified: bool


@dataclass(frozen=True)
class Certificate:
    """What a choice guarantees.

    Attributes:
        stance: the strongest that holds.
        confidence: of each statement.
        bounds: one for each limit.
        images_needed: for `no_evidence_of_drop`: validation images with which the limit that is furthest from it would
            be certified, with a probability of 80 %, if the true drop is 0 and as many images differ; of the task, or
            of all supported tasks together. If all limits hold at the chosen alpha, the number is that for the smallest
            alpha at which one does not. None where that is a limit of 0, which only a gain can certify.
    """

    stance: Stance
    confidence: float
    bounds: tuple[DropBound, ...]
    images_needed: int | None = None


@dataclass(frozen=True)
class Limits:
    """What supported tasks may lose, and how sure that has to be.

    Attributes:
        mean: most that their mean may drop; None: any.
        tasks: most that each may drop; a task that is missing may drop by any.
        confidence: of the test, one-sided.
    """

    mean: Fraction | None
    tasks: Mapping[str, Fraction]
    supported: tuple[str, ...]
    confidence: float

    @classmethod
    def build(
        cls,
        supported: Collection[str],
        max_mean_drop: float | None,
        max_supported_drop: float | Mapping[str, float] | None,
        confidence: float,
    ) -> Limits:
        """The limits of these tasks; arguments and errors as for `choose_alpha`."""
        if not supported:
            raise ConfigError("rule 'certified' needs supported tasks: add at least one, or use 'combined'")
        tasks = {} if max_supported_drop is None else limits(max_supported_drop, supported)
        mean = None if max_mean_drop is None or max_mean_drop >= 100 else Fraction(str(float(max_mean_drop))) / 100
        return cls(mean, {name: limit for name, limit in tasks.items() if limit < 1}, tuple(supported), confidence)

    def certified(self, curve: Sequence[CurvePoint]) -> list[CurvePoint]:
        """The points up to the first that is not certified, in rising order, without alpha 0."""
        return _walk(curve, self.are_certified)

    def not_excluded(self, curve: Sequence[CurvePoint]) -> list[CurvePoint]:
        """The points up to the first that is shown to drop by more than a limit, in rising order, without alpha 0."""
        return _walk(curve, lambda point: not self.are_exceeded(point))

    def are_certified(self, point: CurvePoint) -> bool:
        """Whether every limit holds at a point, with the confidence."""
        return all(self._is_certified(counts, limit) for _, counts, limit in self._drops(point))

    def are_exceeded(self, point: CurvePoint) -> bool:
        """Whether the images show, with the confidence, that a drop is beyond its limit."""
        return any(
            counts.drop > limit
            and drop_p_value(PairedCounts(counts.gained, counts.lost, counts.total), -float(limit)) <= self._error
            for _, counts, limit in self._drops(point)
        )

    def certificate(self, point: CurvePoint, stance: Stance, curve: Sequence[CurvePoint] = ()) -> Certificate:
        """What is known of every drop at a point of a curve."""
        bounds = tuple(self._bound(*drop) for drop in self._drops(point))
        needed = None if stance == "certified" else self._images_needed(point, curve)
        return Certificate(stance, self.confidence, bounds, needed)

    @property
    def _error(self) -> float:
        return 1 - self.confidence

    def _images_needed(self, point: CurvePoint, curve: Sequence[CurvePoint]) -> int | None:
        if self.are_certified(point):  # a smaller alpha is not, else the stance would be `certified`
            point = next(each for each in _rising(curve) if not self.are_certified(each))
        open_limits = [
            (counts.flip_rate, float(limit))
            for _, counts, limit in self._drops(point)
            if not self._is_certified(counts, limit)
        ]
        if any(limit == 0 for _, limit in open_limits):
            return None
        return max(images_to_certify(flip_rate, limit, self.confidence) for flip_rate, limit in open_limits)

    def _is_certified(self, counts: PairedCounts, limit: Fraction) -> bool:
        return counts.drop < limit and drop_p_value(counts, float(limit)) <= self._error

    def _drops(self, point: CurvePoint) -> Iterator[tuple[str | None, PairedCounts, Fraction]]:
        counts = {name: _counts(point.scores[name]) for name in self.supported}
        if self.mean is not None:
            yield None, mean_counts(list(counts.values())), self.mean
        for name, limit in self.tasks.items():
            yield name, counts[name], limit

    def _bound(self, task: str | None, counts: PairedCounts, limit: Fraction) -> DropBound:
        low, high = smallest_drop(counts, self.confidence), largest_drop(counts, self.confidence)
        return DropBound(
            task=task,
            points=100 * float(counts.drop),
            low_points=100 * low,
            high_points=100 * high,
            limit_points=100 * float(limit),
            is_certified=self._is_certified(counts, limit),
        )


def _walk(curve: Sequence[CurvePoint], passes: Callable[[CurvePoint], bool]) -> list[CurvePoint]:
    passed = []
    for point in _rising(curve):
        if not passes(point):
            break
        passed.append(point)
    return passed


def _rising(curve: Sequence[CurvePoint]) -> list[CurvePoint]:
    return sorted((point for point in curve if point.alpha > 0), key=lambda point: point.alpha)


def _counts(score: Score) -> PairedCounts:
    if score.lost is None or score.gained is None:
        raise ConfigError(
            "the curve does not say how many images were lost and gained, which rule 'certified' needs: search again"
        )
    return PairedCounts(score.lost, score.gained, score.total)
