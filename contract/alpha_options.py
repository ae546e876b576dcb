"""How alpha is to be chosen, as patch requests say it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from contract.bodies import Body, Id

Points = Annotated[float, Field(ge=0, le=100)]
"""Percentage points of accuracy."""

MAX_SUPPORTED = 64

RuleName = Literal["combined", "floor", "certified"]
MetricName = Literal["accuracy", "balanced_accuracy", "macro_f1"]
DEFAULT_MEAN_DROP, DEFAULT_TASK_DROP, DEFAULT_CONFIDENCE = 1.0, 3.0, 0.95
"""Limits of rule `certified` where a request has neither, in percentage points, and its confidence."""


def _has_few_members(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > MAX_SUPPORTED:
        raise ValueError(f"must have at most {MAX_SUPPORTED} members")
    return value


Drops = Annotated[
    Annotated[Points, Tag("number")]
    | Annotated[dict[Id, Points], Field(max_length=MAX_SUPPORTED), BeforeValidator(_has_few_members), Tag("object")],
    Discriminator(lambda value: "object" if isinstance(value, dict) else "number"),
]
"""Points that supported tasks may lose: one limit for all, or one each by data set id."""


class AlphaOptions(Body):
    """How alpha is chosen, on validation splits."""

    rule: RuleName | None = Field(
        default=None,
        description="`combined` maximises ½ (mean supported accuracy + mean patching accuracy); `floor` maximises the "
        "patching accuracy among the alphas at which no supported task loses more than `max_supported_drop` on its "
        "validation split; `certified` does so where the true drops are within the limits with the `confidence`. "
        "Default: `certified` with supported tasks; `combined` without any, with folds and with `coefficients: "
        "per_task`. The stored request has the rule that was used",
    )
    max_supported_drop: Drops | None = Field(
        default=None,
        description="Percentage points of accuracy, 0 to 100, that a supported task may lose against zero-shot: one "
        "limit for all tasks, or one per data set id. Required with `rule: floor`, optional with `certified`",
    )
    max_mean_drop: Points | None = Field(
        default=None,
        description="With `rule: certified`: percentage points that the mean accuracy of the supported tasks may lose. "
        "Default, if `max_supported_drop` is absent too: 1 for the mean and 3 for each task",
    )
    confidence: float | None = Field(
        default=None,
        ge=0.6,
        le=0.995,
        description="With `rule: certified`: the probability, at least, with which a choice holds its limits. "
        "Default: 0.95",
    )
    metric: MetricName = Field(
        default="accuracy",
        description="What the rule maximises: `accuracy` (top 1); `balanced_accuracy`, the mean over classes of the "
        "share classified correctly; or `macro_f1`, the mean of F1 over classes. The last two count a rare class as "
        "much as a frequent one. Limits on drops are of accuracy, whatever the metric",
    )
    strategy: Literal["grid", "interpolated"] = Field(
        default="interpolated",
        description="`interpolated` evaluates a few alphas, interpolates the image features between them and verifies "
        "the chosen alpha; `grid` evaluates every alpha",
    )
    path: Literal["flat", "lines", "lines_paper", "best"] = Field(
        default="flat",
        description="`flat` scales all weights alike (PAINT); `lines_paper` scales by depth as LiNeS does; `lines` "
        "scales by depth in an earlier variant; `best` tries `flat` and `lines_paper`",
    )
    grid_step: float | None = Field(
        default=None,
        ge=0.001,
        le=0.5,  # a thousand evaluations are enough
        description="Distance between two alphas; 1 must be a multiple of it. Default: 0.05 with `grid`, 0.01 with "
        "`interpolated`",
    )
    max_alpha: float | None = Field(
        default=None,
        ge=1,
        le=3,
        description="Last alpha of the curve, with a path by depth, `best`, or any `merge` but average and "
        "task_arithmetic. Default: 1.5 by depth, 3 with these merges. Every other flat path ends at 1, the fine-tuned "
        "weights",
    )
    tolerance_points: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="With `interpolated`: percentage points by which the measured value of what the rule maximises may "
        "differ from its prediction at the chosen alpha",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="fp32",
        description="Arithmetic of the validation splits' evaluations. `bf16` is faster where the hardware supports it "
        "and moves accuracies by up to a point; where it does not, or where the image tower computes other features in "
        "bf16, `bf16` and `auto` use fp32, and the lineage says why. Test splits are always evaluated in fp32",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.grid_step is not None and abs(round(1 / self.grid_step) * self.grid_step - 1) > 1e-9:
            raise ValueError("grid_step must divide 1, such as 0.05, 0.1 or 0.25")
        if self.rule == "floor" and self.max_supported_drop in (None, {}):
            raise ValueError("rule floor needs max_supported_drop, the maximum drop of a supported task in points")
        if self.rule == "combined" and self.max_supported_drop is not None:
            raise ValueError("max_supported_drop requires rule floor or certified; rule combined has no limit")
        if self.rule in ("combined", "floor") and (self.max_mean_drop, self.confidence) != (None, None):
            raise ValueError("max_mean_drop and confidence require rule certified")
        if self.strategy == "grid" and self.tolerance_points is not None:
            raise ValueError("tolerance_points requires strategy interpolated; a grid evaluates every alpha")
        return self

    def resolved(self, default: RuleName) -> AlphaOptions:
        """Return the options with the rule, and with rule `certified` also its limits, spelt out.

        Args:
            default: The rule if none was given.

        Raises:
            ValueError: There are limits, but the default rule has none.
        """
        given = {name: value for name, value in self if value is not None}
        if (given.get("rule") or default) == "certified":
            limits = {"max_mean_drop": DEFAULT_MEAN_DROP, "max_supported_drop": DEFAULT_TASK_DROP}
            has_limits = bool(given.keys() & limits.keys())
            given = {"confidence": DEFAULT_CONFIDENCE} | ({} if has_limits else limits) | given
        return AlphaOptions(**{"rule": default} | given)
