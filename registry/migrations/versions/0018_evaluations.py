"""evaluations on request, and measurements by the weights that were judged."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("request", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("version_ids", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("dataset_id", sa.String(40), nullable=False),
        sa.Column("split", sa.String(16), nullable=False),
        sa.Column("base_fingerprint", sa.String(64), sa.ForeignKey("base_models.fingerprint"), nullable=False),
        sa.Column("job_id", sa.String(40), nullable=False),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("owner", sa.String(64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_evaluations_created", "evaluations", ["created_at", "id"])
    op.create_index("ix_evaluations_dataset", "evaluations", ["dataset_id"])
    op.create_table(
        "measurements",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("weights_fingerprint", sa.String(64), nullable=False),
        sa.Column("dataset_id", sa.String(40), nullable=False),
        sa.Column("split", sa.String(16), nullable=False),
        sa.Column("head_id", sa.String(40), nullable=False),
        sa.Column("num_images", sa.Integer(), nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("predictions_sha256", sa.String(64), nullable=False),
        sa.Column("num_bytes", sa.Integer(), nullable=False),
        sa.Column("is_own_head", sa.Boolean(), nullable=False),
        sa.Column("patch_id", sa.String(40), nullable=True),
        sa.Column("owner", sa.String(64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_measurements_patch", "measurements", ["patch_id"])
    op.create_index("ix_measurements_dataset", "measurements", ["dataset_id", "split"])
    op.create_index("ix_measurements_weights", "measurements", ["weights_fingerprint"])
    op.create_index("ix_measurements_owner", "measurements", ["owner", "num_bytes"])
