"""API keys: created once, stored as hashes, revoked permanently.

A token has 256 random bits, so one round of SHA-256 protects it at rest: it cannot be guessed (OWASP ASVS 5.0, 6.5.2).
It starts with a prefix that secret scanners can look for and the key's public id, by which it is found.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from sqlalchemy import select

from contract.access import Scope
from registry.database import Database
from registry.errors import ConfigurationError, ConflictError
from registry.paging import Page, read_page
from registry.repository import Repository
from registry.tables import ApiKeyRow

_TOKEN_PREFIX = "paintbox_"
_ID_PREFIX = "key_"


def hash_token(token: str) -> str:
    """Return the stored form of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def key_id_of(token: str) -> str | None:
    """Return the public id of the key that a token claims to be, or None if it does not look like one of ours."""
    found = token.removeprefix(_TOKEN_PREFIX).partition("_")
    return f"{_ID_PREFIX}{found[0]}" if token.startswith(_TOKEN_PREFIX) and found[2] else None


def are_keys_required(database: Database, keys_file: Path) -> bool:
    """Return whether requests need a key, because at least one has been created.

    A file beside the database also records that keys exist: a lost or replaced database must not make the API
    public.

    Returns:
        Whether the database holds a key, even a revoked or expired one.

    Raises:
        ConfigurationError: The database holds none, although the file says that keys exist.
    """
    with database.read() as session:
        is_required = session.scalar(select(ApiKeyRow.id).limit(1)) is not None
    if is_required:
        remember_keys(keys_file)
    elif keys_file.exists():
        raise ConfigurationError(
            f"PAINTBOX_DATABASE_URL: the database has no API keys, but {keys_file} says that keys exist: the "
            "database was lost, or it is another one.",
            "Restore it from a backup, or start with PAINTBOX_API_KEY and create new keys. To run without keys, "
            "delete that file.",
        )
    return is_required


def remember_keys(keys_file: Path) -> None:
    """Record in a file that keys exist; if the disk rejects the write, the next call tries again."""
    if not keys_file.exists():
        with suppress(OSError):
            keys_file.write_text("API keys were made: see docs/operations.md, Keys.\n", encoding="utf-8")
            keys_file.chmod(0o600)


class ApiKeys(Repository):
    """API keys within one transaction."""

    def create(
        self, *, name: str, scopes: Collection[Scope], expires_at: datetime | None, created_by: str
    ) -> tuple[ApiKeyRow, str]:
        """Return a new key and its token, which cannot be retrieved later.

        Args:
            name: Whose it is. What a key creates belongs to its name, so keys of one name share it.
        """
        public = secrets.token_hex(8)
        token = f"{_TOKEN_PREFIX}{public}_{secrets.token_urlsafe(32)}"
        row = ApiKeyRow(
            id=f"{_ID_PREFIX}{public}",
            name=name,
            scopes=[scope.value for scope in Scope if scope in scopes],
            sha256=hash_token(token),
            created_by=created_by,
            created_at=self._now(),
            expires_at=expires_at,
        )
        self._session.add(row)
        self._session.flush()
        return row, token

    def get(self, key_id: str) -> ApiKeyRow:
        """Return the key, locked until the transaction ends, or raise `NotFoundError`."""
        return self._get(ApiKeyRow, key_id, "key", locked=True)

    def all(self) -> Sequence[ApiKeyRow]:
        """Return every key, those that were revoked or have expired too."""
        return self._session.scalars(select(ApiKeyRow)).all()

    def newest(self, limit: int = 100, cursor: str | None = None) -> Page[ApiKeyRow]:
        """Return a page of keys, newest first; errors as for `read_page`."""
        keys = (ApiKeyRow.created_at, ApiKeyRow.id)
        return read_page(self._session, select(ApiKeyRow), keys, limit, cursor)

    def revoke(self, key_id: str) -> ApiKeyRow:
        """Return the key, which opens nothing from now on; one that was revoked before stays as it is."""
        row = self.get(key_id)
        row.revoked_at = row.revoked_at or self._now()
        self._session.flush()
        return row

    def require_admin(self) -> None:
        """Raise an error if no permanent key with scope `admin` would be left: nobody could create another.

        Raises:
            ConflictError: There is none that is neither revoked nor expires.
        """
        lasting = (row for row in self.all() if row.revoked_at is None and row.expires_at is None)
        if not any(Scope.ADMIN in row.scopes for row in lasting):
            raise ConflictError(
                "This is the last permanent key with scope admin; without it, nobody could create keys.",
                "Create another one with scope admin first, or start the service with PAINTBOX_API_KEY.",
            )
