"""Making, listing and revoking API keys."""

from __future__ import annotations

from datetime import timedelta

import structlog

from app.access.callers import Caller
from app.access.keyring import Keyring
from app.access.keys.schemas import Key, KeyList, KeyRequest, NewKey
from registry.database import Database, utc_now
from registry.keys import ApiKeys

_log = structlog.get_logger(__name__)


def create_key(database: Database, keyring: Keyring, request: KeyRequest, caller: Caller) -> NewKey:
    """Return a new key with its token, which cannot be read again; other processes accept it within a second."""
    days = request.expires_in_days
    with database.write() as session:
        keys = ApiKeys(session)
        row, token = keys.create(
            name=request.name,
            scopes=request.scopes,
            expires_at=None if days is None else utc_now() + timedelta(days=days),
            created_by=caller.actor,
        )
        if not keyring.has_bootstrap:
            keys.require_admin()
        made = NewKey.from_row(row, token=token)
    keyring.reload()
    _log.info("key made", made=made.id, scopes=made.scopes)
    return made


def list_keys(database: Database, limit: int, cursor: str | None) -> KeyList:
    """Return a page of keys, newest first."""
    with database.read() as session:
        page = ApiKeys(session).newest(limit, cursor)
        return KeyList(items=[Key.from_row(row) for row in page], next_cursor=page.next_cursor)


def revoke_key(database: Database, keyring: Keyring, key_id: str) -> Key:
    """Return the revoked key, which is rejected from now on."""
    with database.write() as session:
        keys = ApiKeys(session)
        revoked = Key.from_row(keys.revoke(key_id))
        if not keyring.has_bootstrap:
            keys.require_admin()
    keyring.reload()
    _log.info("key revoked", revoked=key_id)
    return revoked
