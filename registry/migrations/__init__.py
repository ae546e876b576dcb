"""Alembic revisions of the schema; `Database.migrate` runs them."""
