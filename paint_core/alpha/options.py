"""How alpha is to be searched for: the rule, the strategy, the path and their numbers, checked before anything runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from paint_core.config.precision import RunPrecision
from paint_core.errors import ConfigError
from paint_core.evaluation import Metric

Rule = Literal["combined", "floor", "certified"]
Strategy = Literal["grid", "interpolated"]
PathChoice = Literal["flat", "lines", "lines_paper", "best"]

NODES = (0.0, 0.15, 0.35, 0.55, 0.85, 1.0)
"""Near-Chebyshev nodes with both ends, as shares of max_alpha: five forwards when alpha 0 is known already."""

MERGED_NODES = (0.0, 0.05, 0.15, 0.3, 0.5, 0.75, 1.0)
"""The same for the longer path of a merge: as near to each other where the features change most."""

STEPS: Mapping[Strategy, float] = {"grid": 0.05, "interpolated": 0.01}
"""Default distances of the alphas: those that the paper plots, and a fine grid where that costs almost nothing."""

MAX_LINES_ALPHA = 1.5
"""Where the search along a profile by depth ends by default: it shrinks the update, so more of it helps."""

MAX_MERGED_ALPHA = 3.0
"""Where the search along a merge that is no plain sum ends by default, as in the authors' code: the method decides
the length of such a task vector, so alpha 1 has no special meaning."""

MAX_MEAN_DROP, MAX_TASK_DROP = 1.0, 3.0
"""Percentage points that supported tasks may lose by rule `certified` by default: their mean, and each of them."""

_COARSER_BEYOND_ONE = 2


def grid(step: float = 0.05, max_alpha: float = 1.0) -> tuple[float, ...]:
    """The alphas 0, step, 2 step, ..., max_alpha (the paper plots 0.05); both ends are exact.

    Args:
        step: distance in (0, 1]; the last step is shorter if it does not divide max_alpha.
        max_alpha: the end, > 0.

    Raises:
        ConfigError: the step is not in (0, 1], or the end is not a positive number.
    """
    if not 0 < step <= 1:
        raise ConfigError(f"the step of the alpha grid is {step}: choose one in (0, 1]")
    if not 0 < max_alpha < math.inf:
        raise ConfigError(f"the largest alpha is {max_alpha}: choose a finite number above 0")
    exact, end = (Fraction(number).limit_denominator(10**6) or Fraction(number) for number in (step, max_alpha))
    return (*(float(index * exact) for index in range(math.ceil(end / exact))), float(max_alpha))


@dataclass(frozen=True)
class AlphaOptions:
    """How to search for alpha; the constructor refuses contradictory options.

    Attributes:
        rule: `combined` (the paper's: best mean of the supported and the patching mean), `floor` (best patching mean
            with no supported task more than `max_supported_drop` below zero-shot on the validation split), or
            `certified` (the same, where the drops are below their limits with a stated confidence).
        max_supported_drop: for `floor` and `certified`, in percentage points, >= 0: one number, or one for every
            supported task.
        max_mean_drop: for `certified`, in percentage points, >= 0: of the mean over the supported tasks. With neither
            limit, `certified` takes `MAX_MEAN_DROP` and `MAX_TASK_DROP`.
        confidence: for `certified`, in (0.5, 0.999): of each statement about a drop.
        strategy: `grid` evaluates every alpha; `interpolated` evaluates a few and verifies its choice.
        path: a profile, or `best`: the better of `flat` and `lines_paper` by the rule.
        step: distance of the alphas to choose from, in (0, 1]; None means 0.05 for `grid`, 0.01 for `interpolated`.
        max_alpha: the largest alpha, > 0; None means 1 for flat and 1.5 for profiles by depth, or `max_flat_alpha`
            where that is larger. A flat path does not go beyond `max_flat_alpha`.
        max_flat_alpha: where a flat path ends at the latest, >= 1: 1 is theta_1. `PatchPlan` sets it to
            `MAX_MERGED_ALPHA` for the merging methods that have no theta_1; beyond 1 the step is twice as long then.
        nodes: for `interpolated`: where to evaluate, as shares of max_alpha from 0 to 1; None means `NODES`.
        tolerance_points: for `interpolated`: how far the prediction of what the rule maximises may be from the truth,
            in percentage points, before the choice is made again with the truth as another node. One image is always
            within it.
        precision: of the tower's forward passes: `fp32`, or `bf16` or `auto`: bf16 where it can be used
            (`choose_precision`). All points of a search are compared with each other, so what bf16 changes, it changes
            for all of them.
        metric: what the rule maximises: top-1 `accuracy`, `balanced_accuracy` or `macro_f1`, which count rare classes
            as much as frequent ones. Limits on drops are of accuracy, whatever the metric.
    """

    rule: Rule = "combined"
    max_supported_drop: float | Mapping[str, float] | None = None
    max_mean_drop: float | None = None
    confidence: float = 0.95
    strategy: Strategy = "grid"
    path: PathChoice = "flat"
    step: float | None = None
    max_alpha: float | None = None
    max_flat_alpha: float = 1.0
    nodes: tuple[float, ...] | None = None
    tolerance_points: float = 0.5
    precision: RunPrecision = "fp32"
    metric: Metric = "accuracy"

    def __post_init__(self) -> None:
        _require_one_of("rule", self.rule, get_args(Rule))
        _require_one_of("metric", self.metric, get_args(Metric))
        _require_one_of("strategy", self.strategy, ("grid", "interpolated"))
        _require_one_of("path", self.path, get_args(PathChoice))
        _require_one_of("precision", self.precision, ("fp32", "bf16", "auto"))
        if self.rule == "certified" and self.max_supported_drop is None and self.max_mean_drop is None:
            object.__setattr__(self, "max_mean_drop", MAX_MEAN_DROP)
            object.__setattr__(self, "max_supported_drop", MAX_TASK_DROP)
        require_limits(self.rule, self.max_supported_drop, self.max_mean_drop, self.confidence)
        grid(self.spacing, 1.0 if self.max_alpha is None else self.max_alpha)
        if not 1 <= self.max_flat_alpha < math.inf:
            raise ConfigError(f"max_flat_alpha is {self.max_flat_alpha}: choose a finite number >= 1")
        if self.max_alpha is not None and self.max_alpha > self.max_flat_alpha and self.path == "flat":
            raise ConfigError(
                f"max_alpha is {self.max_alpha}: above {self.max_flat_alpha:g} it needs path 'lines', 'lines_paper' or "
                "'best'"
            )
        if not 0 <= self.tolerance_points < math.inf:
            raise ConfigError(f"tolerance_points is {self.tolerance_points}: choose a number of points >= 0")
        _require_nodes(self.nodes, self.strategy)

    @property
    def profiles(self) -> tuple[str, ...]:
        """The profiles to search along, in the order of preference among equals."""
        return ("flat", "lines_paper") if self.path == "best" else (self.path,)

    @property
    def spacing(self) -> float:
        """The distance of the alphas to choose from."""
        return STEPS[self.strategy] if self.step is None else self.step

    def max_alpha_of(self, profile: str) -> float:
        """The largest alpha along a profile; flat never goes beyond `max_flat_alpha`."""
        if profile == "flat":
            return min(self.max_flat_alpha, self.max_alpha or self.max_flat_alpha)
        return self.max_alpha or max(MAX_LINES_ALPHA, self.max_flat_alpha)

    def alphas(self, profile: str) -> tuple[float, ...]:
        """The alphas to choose from along a profile, rising from 0."""
        end = self.max_alpha_of(profile)
        if self.max_flat_alpha == 1 or end <= 1:
            return grid(self.spacing, end)
        beyond = grid(min(1.0, _COARSER_BEYOND_ONE * self.spacing), end - 1)[1:]
        return (*grid(self.spacing), *(round(1 + alpha, 9) for alpha in beyond[:-1]), float(end))

    def node_alphas(self, profile: str) -> tuple[float, ...]:
        """The alphas whose features the interpolation along a profile needs, rising from 0.

        They are rounded to the grid, so that a measured value is also a candidate. Where two would then coincide,
        `grid` has fewer of them, and `interpolated` does not round.
        """
        shares = self.nodes or (NODES if self.max_flat_alpha == 1 else MERGED_NODES)
        exact = tuple(share * self.max_alpha_of(profile) for share in shares)
        candidates = self.alphas(profile)
        moved = tuple(min(candidates, key=lambda alpha: abs(alpha - node)) for node in exact)
        if self.strategy == "grid":
            return tuple(dict.fromkeys(moved))
        return moved if len(set(moved)) == len(moved) else exact


def require_limits(
    rule: str,
    max_supported_drop: float | Mapping[str, float] | None,
    max_mean_drop: float | None = None,
    confidence: float = 0.95,
) -> None:
    """Refuses a rule without its limits, limits without a rule for them, and limits that are no numbers of points.

    Args:
        rule: `combined`, `floor` or `certified`.
        max_supported_drop: in points: one number, one for every supported task, or None.
        max_mean_drop: in points, or None.
        confidence: for `certified`.

    Raises:
        ConfigError: they do not go together, or a number is outside its range.
    """
    if rule == "combined" and max_supported_drop is not None:
        raise ConfigError("the rule 'combined' has no use for max_supported_drop: omit it, or use 'floor'")
    if rule == "floor" and max_supported_drop is None:
        raise ConfigError("the rule 'floor' needs max_supported_drop: give both or neither")
    if rule != "certified" and max_mean_drop is not None:
        raise ConfigError(f"the rule {rule!r} has no use for max_mean_drop: omit it, or use 'certified'")
    if rule == "certified" and max_supported_drop is None and max_mean_drop is None:
        raise ConfigError("the rule 'certified' needs max_mean_drop or max_supported_drop: give at least one")
    if not 0.5 < confidence < 0.999:
        raise ConfigError(f"confidence is {confidence}: choose a number between 0.5 and 0.999, such as 0.95")
    limits = max_supported_drop.values() if isinstance(max_supported_drop, Mapping) else [max_supported_drop]
    for name, limit in [("max_mean_drop", max_mean_drop), *(("max_supported_drop", each) for each in limits)]:
        if limit is not None and not 0 <= limit < math.inf:
            raise ConfigError(f"{name} is {limit}: choose a number of percentage points >= 0")


def _require_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"unknown {name} {value!r}: use one of {', '.join(allowed)}")


def _require_nodes(nodes: tuple[float, ...] | None, strategy: str) -> None:
    if nodes is None:
        return
    if strategy != "interpolated":
        raise ConfigError(f"nodes require the strategy 'interpolated', not {strategy!r}: omit them")
    rising = all(first < second for first, second in itertools.pairwise(nodes))
    if len(nodes) < 2 or not rising or (nodes[0], nodes[-1]) != (0, 1):
        raise ConfigError(f"nodes are {nodes}: give at least two increasing numbers, from 0 to 1")
