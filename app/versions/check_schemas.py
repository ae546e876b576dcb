"""API schemas of the check of an alias move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import BaseModel, Field

from contract.bodies import Body, VersionNumber
from contract.scores import TaskRole
from registry.acceptance import MissingTask, SupportedDrop, drop_of
from registry.evidence import MeasuredTask

Interval = tuple[float, float] | None
_POINTS = "percentage points of top-1 accuracy"


class AliasCheckRequest(Body):
    """Body of `POST /v1/aliases/{alias}/check`."""

    version: VersionNumber = Field(description="Id of the version to move the alias to")


class CheckReason(BaseModel):
    """Why the move would be rejected."""

    code: str = Field(description="Error code, such as `supported_drop` or `not_evaluated`")
    detail: str = Field(description="The reason")


class CheckedTask(BaseModel):
    """A task that was measured on the version's weights."""

    dataset_id: str = Field(description="Id of the task's data set")
    name: str = Field(description="Name of the data set")
    role: TaskRole = Field(description="`patching`: to be improved; `supported`: must not get worse")
    split: str = Field(description="Images that it was measured on: `test` or `validation`")
    num_images: int = Field(description="Number of these images")
    measured_version: int | None = Field(
        description="Id of the version that was evaluated: this one, or another one with the same weights; null: these "
        "weights were measured by an evaluation"
    )
    before: float = Field(description="Accuracy of the base, 0 to 1")
    after: float = Field(description="Accuracy of the version, 0 to 1")
    change_points: float = Field(description=f"The change, in {_POINTS}; negative if it got worse")
    low_points: float | None = Field(description="Lower end of the change's 95 % confidence interval; null: not known")
    high_points: float | None = Field(description="Upper end of the interval; null: not known")
    limit_points: float | None = Field(description="Percentage points that it may drop; null: no limit")
    within_limit: bool = Field(description="Whether it keeps its limit; true without a limit")

    @classmethod
    def of(cls, task: MeasuredTask, role: TaskRole, drop: SupportedDrop | None, interval: Interval) -> Self:
        """Return the task of a measurement, its drop if it is supported, and the interval of its change."""
        low, high = interval or (None, None)
        return cls(
            dataset_id=task.dataset_id,
            name=task.name,
            role=role,
            split=task.split,
            num_images=task.zero_shot.total,
            measured_version=task.version_id,
            before=task.zero_shot.correct / task.zero_shot.total,
            after=task.patched.correct / task.patched.total,
            change_points=-float(100 * drop_of(task)),
            low_points=low,
            high_points=high,
            limit_points=drop.limit_points if drop else None,
            within_limit=not (drop and drop.is_too_much),
        )


class MissingEvaluation(BaseModel):
    """A supported task with a limit that was not measured on the version's weights."""

    dataset_id: str = Field(description="Id of the task's data set")
    name: str = Field(description="Name of the data set")
    limit_points: float | None = Field(
        description="Percentage points that it may drop; null: only the mean of several tasks has a limit"
    )

    @classmethod
    def of(cls, task: MissingTask) -> Self:
        """Return the description of a missing task."""
        return cls(**vars(task))


class AliasCheck(BaseModel):
    """Whether an alias may move to a version, and what is known about the version's weights."""

    alias: str = Field(description="The alias")
    version: int = Field(description="Id of the version to move to")
    current_version: int | None = Field(
        description="Id of the version that the alias names now; null: there is no such alias"
    )
    accepted: bool = Field(description="Whether the move would be accepted without `force`")
    reasons: list[CheckReason] = Field(description="Why it would be rejected; empty if it would be accepted")
    loads: bool = Field(
        description="Whether the version can be served: for `active`, `canary` and `shadow`, whether it was loaded and "
        "verified; for other aliases, whether its parts are intact"
    )
    tasks: list[CheckedTask] = Field(
        description="Tasks that were measured: supported tasks first, the one nearest to its limit first"
    )
    missing: list[MissingEvaluation] = Field(
        description="Supported tasks with a limit that were not measured on these weights"
    )
    mean_supported_change_points: float | None = Field(
        description=f"Mean change of the supported tasks, in {_POINTS}; null: none was measured"
    )
    mean_patching_change_points: float | None = Field(
        description=f"Mean change of the tasks to be improved, in {_POINTS}; null: none was measured"
    )


def mean_change(tasks: Sequence[CheckedTask], role: TaskRole) -> float | None:
    """Return the mean change of the tasks of a role, in points; None if there are none."""
    changes = [task.change_points for task in tasks if task.role == role]
    return sum(changes) / len(changes) if changes else None
