"""how the upload of a data set was read."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("datasets", sa.Column("reading", sa.JSON(none_as_null=True), nullable=True))
