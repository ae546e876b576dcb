"""Sessions of browsers: a random token in a cookie that stands for an API key.

Stored are a hash of the token and a proof: an HMAC of the key under the token. Whoever reads the database learns
neither, and a session ends when its key is replaced, as `PAINTBOX_API_KEY` may be.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import timedelta

from sqlalchemy import delete, select

from registry.keys import hash_token
from registry.repository import Repository
from registry.tables import BrowserSessionRow

MAX_PER_KEY = 50
"""Sessions of a key; a further one ends the oldest."""


def prove(token: str, secret: bytes) -> str:
    """Return the proof that a session was opened with a key, of which `secret` is known."""
    return hmac.new(token.encode(), secret, "sha256").hexdigest()


class BrowserSessions(Repository):
    """Sessions of browsers within one transaction."""

    def open(self, key_id: str, secret: bytes, lifetime: timedelta) -> tuple[BrowserSessionRow, str]:
        """Return a new session and its token, which cannot be retrieved later. Expired sessions are deleted.

        Args:
            secret: What the process knows of the key: the same as long as the key is.
        """
        token, now = secrets.token_urlsafe(32), self._now()
        self._session.execute(delete(BrowserSessionRow).where(BrowserSessionRow.expires_at <= now))
        of_key = select(BrowserSessionRow.sha256).where(BrowserSessionRow.key_id == key_id)
        oldest = of_key.order_by(BrowserSessionRow.created_at.desc()).offset(MAX_PER_KEY - 1)
        surplus = self._session.scalars(oldest).all()
        self._session.execute(delete(BrowserSessionRow).where(BrowserSessionRow.sha256.in_(surplus)))
        row = BrowserSessionRow(
            sha256=hash_token(token),
            key_id=key_id,
            proof=prove(token, secret),
            created_at=now,
            expires_at=now + lifetime,
        )
        self._session.add(row)
        self._session.flush()
        return row, token

    def find(self, token: str) -> BrowserSessionRow | None:
        """Return the session of a token, which may have expired."""
        return self._session.get(BrowserSessionRow, hash_token(token))

    def close(self, token: str) -> None:
        """Delete the session of a token, if there is one."""
        self._session.execute(delete(BrowserSessionRow).where(BrowserSessionRow.sha256 == hash_token(token)))
