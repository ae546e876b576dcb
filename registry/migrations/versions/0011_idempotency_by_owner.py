"""idempotency keys belong to the owner of what their request made."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0012"
branch_labels = None
depends_on = None

_COPY_UP = """
INSERT INTO idempotency_keys (owner, key, request_sha256, subject_id, created_at)
SELECT COALESCE((SELECT patches.owner FROM patches WHERE patches.id = old.subject_id), ''),
       old.key, old.request_sha256, old.subject_id, old.created_at
FROM old_idempotency_keys AS old
"""
_COPY_DOWN = """
INSERT INTO idempotency_keys (key, request_sha256, subject_id, created_at)
SELECT old.key, old.request_sha256, old.subject_id, old.created_at
FROM old_idempotency_keys AS old
WHERE old.owner = (SELECT MIN(other.owner) FROM old_idempotency_keys AS other WHERE other.key = old.key)
"""


def _replace(own: list[sa.Column[str]], keys: list[str], copy: str) -> None:
    """Make the table anew, since SQLite cannot change a primary key, and take over its rows."""
    op.execute("CREATE TABLE old_idempotency_keys AS SELECT * FROM idempotency_keys")
    op.drop_table("idempotency_keys")
    op.create_table(
        "idempotency_keys",
        *own,
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("subject_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(*keys),
    )
    op.execute(copy)
    op.drop_table("old_idempotency_keys")


def upgrade() -> None:
    _replace([sa.Column("owner", sa.String(length=64), nullable=False)], ["owner", "key"], _COPY_UP)


def downgrade() -> None:
    _replace([], ["key"], _COPY_DOWN)
