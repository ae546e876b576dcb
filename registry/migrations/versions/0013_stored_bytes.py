"""Sizes of stored blobs by data set, and blobs that nothing names any more."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("datasets", sa.Column("blob_bytes", sa.JSON(none_as_null=True), nullable=True))
    op.create_index("ix_datasets_owner", "datasets", ["owner"], unique=False)
    op.add_column("label_sets", sa.Column("num_bytes", sa.Integer(), server_default="0", nullable=False))
    op.create_index("ix_label_sets_owner", "label_sets", ["owner", "num_bytes"], unique=False)
    op.create_table(
        "unused_blobs",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
    )
