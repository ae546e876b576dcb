"""The evaluation of a version."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from contract.recorded import Recorded
from contract.scores import AccuracyChange, SplitScore, TaskRole


class EvaluatedTask(Recorded):
    """The scores of one task with the base and with the version."""

    dataset_id: str = Field(description="Id of the task's data set")
    name: str = Field(description="Name of the data set")
    role: TaskRole = Field(description="`patching`: to be improved; `supported`: must not get worse")
    zero_shot: SplitScore = Field(description="Score of the base, without any patch")
    patched: SplitScore = Field(description="Score of the version")
    change: AccuracyChange | None = Field(
        default=None,
        description="The accuracy of the version minus that of the base, on the same images; null: not known, an older "
        "release recorded it",
    )


class Evaluation(Recorded):
    """Scores of a version, the split that they were measured on, and the allowed drop of supported tasks."""

    split: Literal["validation", "test"] = Field(
        description="Which images judged: `test` images chose nothing; `validation` images chose alpha: these scores "
        "are slightly optimistic"
    )
    max_supported_drop: float | dict[str, float] | None = Field(
        default=None,
        description="Percentage points of accuracy, 0 to 100, that a supported task may lose: one limit, or one "
        "per data set id; null: no limit was set",
    )
    max_mean_drop: float | None = Field(
        default=None,
        description="Percentage points, 0 to 100, that the mean accuracy of the supported tasks may lose; null: no "
        "limit was set",
    )
    tasks: tuple[EvaluatedTask, ...] = Field(description="The tasks that were measured")

    @property
    def supported(self) -> tuple[EvaluatedTask, ...]:
        """The tasks that must not get worse."""
        return tuple(task for task in self.tasks if task.role == "supported")

    def limit_of(self, dataset_id: str) -> float | None:
        """Return how many points a supported task may lose; None: no limit was set for it."""
        limits = self.max_supported_drop
        return limits.get(dataset_id) if isinstance(limits, dict) else limits
