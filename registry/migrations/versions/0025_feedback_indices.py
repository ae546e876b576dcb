"""Indices for counting open feedback and for filtering it by label."""

from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.drop_index("ix_feedback_owner", "feedback")
    op.create_index("ix_feedback_owner", "feedback", ["owner", "state", "source"])
    op.create_index("ix_feedback_label", "feedback", ["label", "created_at", "id"])
