"""API keys, and who owns what they made."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"

_OWNED = ("datasets", "patches", "jobs", "versions")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_api_keys_created", "api_keys", ["created_at", "id"], unique=False)
    for table in _OWNED:
        op.add_column(table, sa.Column("owner", sa.String(length=64), nullable=True))
