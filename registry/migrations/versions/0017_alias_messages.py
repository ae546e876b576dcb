"""Webhook messages that are not about a job."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0018"


def upgrade() -> None:
    with op.batch_alter_table("webhook_deliveries") as table:
        table.alter_column("job_id", existing_type=sa.String(length=40), nullable=True)
