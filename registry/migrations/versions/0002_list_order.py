"""indexes of the order in which lists are read."""

from alembic import op

revision = "0002"
down_revision = "0001"

_TABLES = ("datasets", "patches", "jobs")


def upgrade() -> None:
    for table in _TABLES:
        op.create_index(f"ix_{table}_created", table, ["created_at", "id"], unique=False)
