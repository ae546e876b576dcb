"""the precision that was chosen for a version."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    op.add_column("versions", sa.Column("serving_precision", sa.String(8), nullable=True))
