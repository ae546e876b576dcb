"""layout and duplicates of data sets, and what they were derived from."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("datasets", sa.Column("layout", sa.String(length=32), nullable=True))
    op.add_column("datasets", sa.Column("duplicates", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("datasets", sa.Column("derived_from", sa.String(length=40), nullable=True))
