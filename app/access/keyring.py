"""The API keys, in memory: identifying a caller needs no database query."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from app.access.callers import LOCAL_CALLER, Caller
from app.http.dependencies import provided
from app.http.errors import AccessRefusedError
from contract.access import Scope
from registry.database import Database, utc_now
from registry.keys import ApiKeys, are_keys_required, hash_token, key_id_of, remember_keys
from registry.tables import ApiKeyRow

RELOAD_SECONDS = 1.0
"""Maximum age of the cache: how long other API processes accept a key that was revoked here."""

BOOTSTRAP = "bootstrap"
_BOOTSTRAP_CALLER = Caller(BOOTSTRAP, BOOTSTRAP, frozenset({Scope.ADMIN}))
_SEND = "Send the header `Authorization: Bearer KEY`."
_ASK = "Ask an admin for a new key."


@dataclass(frozen=True)
class _Known:
    caller: Caller
    sha256: str
    expires_at: datetime | None
    is_revoked: bool


class Keyring:
    """Identifies the owner of a token.

    Args:
        database: Holds the keys.
        bootstrap: A key that always exists and has all scopes; None: there is none.
        keys_file: Records, outside the database, that keys were created.
        now: Clock.

    Raises:
        ConfigurationError: The database has no key, although keys were created.
    """

    def __init__(
        self, database: Database, bootstrap: str | None, keys_file: Path, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._database = database
        self._bootstrap = bootstrap.encode() if bootstrap else None
        self._keys_file = keys_file
        self._now = now
        self._known: dict[str, _Known] = {}
        self._were_made = self._bootstrap is None and are_keys_required(database, keys_file)
        self.reload()

    @property
    def has_bootstrap(self) -> bool:
        """Whether there is a key in addition to those of the database."""
        return self._bootstrap is not None

    @property
    def is_open(self) -> bool:
        """Whether no key is required because none was ever created; revoking or losing one does not reopen it."""
        return self._bootstrap is None and not self._were_made

    def reload(self) -> None:
        """Read the keys from the database."""
        with self._database.read() as session:
            self._known = {row.id: _read(row) for row in ApiKeys(session).all()}
        if self._known:
            self._were_made = True
            remember_keys(self._keys_file)

    def identify(self, authorization: str) -> Caller:
        """Return the caller of a header `Authorization`, which may be empty.

        Raises:
            AccessRefusedError: It holds no key, or not a valid one.
        """
        if self.is_open:
            return LOCAL_CALLER
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer":
            raise AccessRefusedError("unauthorised", "The API key is missing.", _SEND)
        if self._bootstrap is not None and hmac.compare_digest(token.encode(), self._bootstrap):
            return _BOOTSTRAP_CALLER
        known = self._known.get(key_id_of(token) or "")
        if known is None or not hmac.compare_digest(hash_token(token), known.sha256):
            raise AccessRefusedError("unauthorised", "The API key is invalid.", _SEND)
        return self._require_valid(known)

    def find(self, key_id: str) -> tuple[Caller, bytes]:
        """Return the caller of a key by its public id, and a secret that is the same as long as the key is.

        Raises:
            AccessRefusedError: There is no such key, or it is no longer valid.
        """
        if key_id == BOOTSTRAP and self._bootstrap is not None:
            return _BOOTSTRAP_CALLER, self._bootstrap
        known = self._known.get(key_id)
        if known is None:
            raise AccessRefusedError("unauthorised", "The API key is invalid.", _SEND)
        return self._require_valid(known), known.sha256.encode()

    def _require_valid(self, known: _Known) -> Caller:
        if known.is_revoked:
            raise AccessRefusedError("key_revoked", f"Key {known.caller.key_id} was revoked.", _ASK)
        if known.expires_at is not None and known.expires_at <= self._now():
            raise AccessRefusedError("key_expired", f"Key {known.caller.key_id} has expired.", _ASK)
        return known.caller


def _read(row: ApiKeyRow) -> _Known:
    caller = Caller(row.id, row.name, frozenset(Scope(scope) for scope in row.scopes))
    return _Known(caller, row.sha256, row.expires_at, row.revoked_at is not None)


KeyringDep = Annotated[Keyring, provided(Keyring)]
