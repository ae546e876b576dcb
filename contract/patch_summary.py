"""What lists show of a finished patch."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from contract.report import PatchReport
from contract.scores import TaskRole


class PatchSummary(BaseModel):
    """The result of a patch in a few numbers."""

    model_config = ConfigDict(frozen=True)

    alpha: float = Field(description="The chosen alpha; 0: no acceptable patch was found")
    patching_points: float | None = Field(
        description="Mean change of the test accuracy of the tasks to improve, in percentage points; null: not known"
    )
    supported_points: float | None = Field(
        description="Mean change of the test accuracy of the supported tasks, in percentage points; null: none, or not "
        "known"
    )
    certified: bool | None = Field(
        description="Whether the drops of the supported tasks are certified to be within their limits; null: the rule "
        "certifies nothing"
    )

    @classmethod
    def of(cls, report: PatchReport) -> Self:
        """Return the summary of a report."""
        return cls(
            alpha=report.alpha,
            patching_points=_mean_change(report, "patching"),
            supported_points=_mean_change(report, "supported"),
            certified=None if report.certificate is None else report.certificate.stance == "certified",
        )


def _mean_change(report: PatchReport, role: TaskRole) -> float | None:
    changes = [task.change for task in report.tasks if task.role == role]
    known = [change.change_points for change in changes if change is not None]
    return sum(known) / len(known) if known and len(known) == len(changes) else None
