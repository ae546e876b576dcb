"""When a job was queued, when its lease was renewed, when its trainer last told anything, and until when it pauses."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0013"

_MOMENTS = ("queued_at", "lease_renewed_at", "progress_at", "paused_until")


def upgrade() -> None:
    for name in _MOMENTS:
        op.add_column("jobs", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("num_setbacks", sa.Integer(), nullable=False, server_default="0"))
