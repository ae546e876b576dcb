"""the instant patch of a patch of method auto."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.add_column("patches", sa.Column("instant_patch_id", sa.String(40), nullable=True))
