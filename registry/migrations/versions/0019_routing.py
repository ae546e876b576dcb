"""routing by labels."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("versions", sa.Column("routing", sa.String(16), nullable=False, server_default="none"))
    op.add_column("versions", sa.Column("patched_names", sa.JSON(none_as_null=True), nullable=True))
