"""head terms beside task vectors."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.add_column("task_vectors", sa.Column("kind", sa.String(16), nullable=False, server_default="tower"))
