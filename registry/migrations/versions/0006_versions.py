"""tags, parents, evaluation, weights and trash of versions; deletions and forced moves of aliases."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_AUTOINCREMENT = {"sqlite_autoincrement": True}  # SQLite's copy of a table would lose it


def upgrade() -> None:
    op.add_column("versions", sa.Column("weights_fingerprint", sa.String(length=64), nullable=True))
    op.add_column("versions", sa.Column("evaluation", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("versions", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "version_tags",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"]),
        sa.PrimaryKeyConstraint("version_id", "tag"),
    )
    op.create_index("ix_version_tags_tag", "version_tags", ["tag", "version_id"], unique=False)
    op.create_table(
        "version_parents",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["versions.id"]),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"]),
        sa.PrimaryKeyConstraint("version_id", "parent_id"),
    )
    op.create_index("ix_version_parents_parent_id", "version_parents", ["parent_id"], unique=False)
    _fill_parents(op.get_bind())
    with op.batch_alter_table("alias_history", table_kwargs=_AUTOINCREMENT) as table:
        table.alter_column("to_version_id", existing_type=sa.Integer(), nullable=True)
        table.add_column(sa.Column("forced", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("alias_history", table_kwargs=_AUTOINCREMENT) as table:
        table.alter_column("forced", existing_type=sa.Boolean(), server_default=None)


def _fill_parents(connection: sa.Connection) -> None:
    versions = sa.table(
        "versions", sa.column("id", sa.Integer), sa.column("job_id", sa.String), sa.column("lineage", sa.JSON)
    )
    terms = sa.table("version_terms", sa.column("version_id"), sa.column("task_vector_sha256"))
    vectors = sa.table("task_vectors", sa.column("sha256"), sa.column("job_id"))
    known = {row.id: row.lineage or {} for row in connection.execute(sa.select(versions.c.id, versions.c.lineage))}
    pairs = {(version, parent) for version, lineage in known.items() for parent in _named(lineage) & known.keys()}
    trained = (
        sa.select(terms.c.version_id, versions.c.id)
        .join(vectors, vectors.c.sha256 == terms.c.task_vector_sha256)
        .join(versions, versions.c.job_id == vectors.c.job_id)
    )
    pairs |= {(version, parent) for version, parent in connection.execute(trained) if version != parent}
    rows = [{"version_id": version, "parent_id": parent} for version, parent in sorted(pairs)]
    if rows:
        connection.execute(
            sa.insert(sa.table("version_parents", sa.column("version_id"), sa.column("parent_id"))), rows
        )


def _named(lineage: dict[str, Any]) -> set[int]:
    """The versions that a composition's request names."""
    request = lineage.get("request") or {}
    terms = request.get("terms") or ()
    return {number for number in (request.get("from_version"), *(term.get("version") for term in terms)) if number}
