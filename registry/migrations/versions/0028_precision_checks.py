"""how versions answer in lower precisions."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.add_column("versions", sa.Column("precision_checks", sa.JSON(), nullable=True))
