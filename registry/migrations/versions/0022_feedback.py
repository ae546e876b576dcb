"""Feedback on answers."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0023"


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("image_sha256", sa.String(64), nullable=False),
        sa.Column("picture_sha256", sa.String(64), nullable=False),
        sa.Column("num_bytes", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=True),
        sa.Column("predicted", sa.String(500), nullable=True),
        sa.Column("label", sa.String(200), nullable=True),
        sa.Column("note", sa.String(1000), nullable=True),
        sa.Column("margin", sa.Double(), nullable=True),
        sa.Column("origin", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("dataset_id", sa.String(40), nullable=True),
        sa.Column("owner", sa.String(64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
    )
    op.create_index("ix_feedback_created", "feedback", ["created_at", "id"])
    op.create_index("ix_feedback_state", "feedback", ["state", "created_at", "id"])
    op.create_index("ix_feedback_owner", "feedback", ["owner", "state"])
    op.create_index("ix_feedback_picture", "feedback", ["picture_sha256"])
    op.create_index("ix_feedback_image", "feedback", ["image_sha256"])
    op.create_index("ix_feedback_expires", "feedback", ["expires_at"])
    op.add_column("datasets", sa.Column("test_digests", sa.String(64), nullable=True))
