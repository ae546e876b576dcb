"""API processes tell of themselves; jobs that do a part of another one."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=True),
        sa.Column("canary_version_id", sa.Integer(), nullable=True),
        sa.Column("shadow_version_id", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("jobs", sa.Column("parent_id", sa.String(length=40), nullable=True))
    op.add_column("jobs", sa.Column("part", sa.String(length=64), nullable=True))
    op.create_index("ix_jobs_parent", "jobs", ["parent_id"], unique=False)
