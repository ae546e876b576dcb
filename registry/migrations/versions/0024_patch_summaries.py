"""What lists show of a finished patch, so that they need not read its report; indices for lists of one owner."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0021"

_PATCHES = sa.table(
    "patches",
    sa.column("id", sa.String()),
    sa.column("report", sa.JSON(none_as_null=True)),
    sa.column("summary", sa.JSON(none_as_null=True)),
)


def upgrade() -> None:
    op.drop_index("ix_datasets_owner", "datasets")
    for table in ("datasets", "patches", "evaluations", "jobs"):
        op.create_index(f"ix_{table}_owner", table, ["owner", "created_at", "id"])
    op.create_index("ix_versions_owner", "versions", ["owner", "id"])
    op.create_index("ix_jobs_status_created", "jobs", ["status", "created_at", "id"])
    op.add_column("patches", sa.Column("summary", sa.JSON(none_as_null=True), nullable=True))
    connection = op.get_bind()
    for identifier in connection.scalars(sa.select(_PATCHES.c.id).where(_PATCHES.c.report.is_not(None))).all():
        report = connection.scalar(sa.select(_PATCHES.c.report).where(_PATCHES.c.id == identifier))
        values = {"summary": _summarise(report)}
        connection.execute(_PATCHES.update().where(_PATCHES.c.id == identifier).values(values))


def _summarise(report: Any) -> dict[str, Any] | None:
    if not report or "alpha" not in report:
        return None
    certificate = report.get("certificate")
    return {
        "alpha": report["alpha"],
        "patching_points": _mean(report, "patching"),
        "supported_points": _mean(report, "supported"),
        "certified": None if certificate is None else certificate["stance"] == "certified",
    }


def _mean(report: dict[str, Any], role: str) -> float | None:
    tasks = [task for task in report.get("tasks", ()) if task["role"] == role]
    changes = [task["change"]["change_points"] for task in tasks if task.get("change")]
    return sum(changes) / len(changes) if tasks and len(changes) == len(tasks) else None
