"""what a rollback of an alias goes back to."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("alias_history", sa.Column("restores_id", sa.Integer(), nullable=True))
