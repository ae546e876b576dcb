"""idempotency keys belong to the owner of what their request made."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0012"

_COPY = """
INSERT INTO idempotency_keys (owner, key, request_sha256, subject_id, created_at)
SELECT COALESCE((SELECT patches.owner FROM patches WHERE patches.id = old.subject_id), ''),
       old.key, old.request_sha256, old.subject_id, old.created_at
FROM old_idempotency_keys AS old
"""


def upgrade() -> None:  # a new table, since SQLite cannot change a primary key
    op.execute("CREATE TABLE old_idempotency_keys AS SELECT * FROM idempotency_keys")
    op.drop_table("idempotency_keys")
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("subject_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key"),
    )
    op.execute(_COPY)
    op.drop_table("old_idempotency_keys")
