"""Where the images of a collected data set come from."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0022"


def upgrade() -> None:
    op.add_column("datasets", sa.Column("collected", sa.JSON(none_as_null=True), nullable=True))
