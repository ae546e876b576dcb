"""Pools of unlabelled images, the decoder of a data set, and which splits were made of others."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("datasets", sa.Column("kind", sa.String(length=16), server_default="labelled", nullable=False))
    op.add_column("datasets", sa.Column("decoder", sa.Integer(), server_default="1", nullable=False))
    op.add_column("datasets", sa.Column("taken_from", sa.JSON(none_as_null=True), nullable=True))
