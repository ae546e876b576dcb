"""Sessions of browsers: a cookie in place of the header `Authorization`, which pages and `EventSource` cannot send."""

from __future__ import annotations

import hmac
import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from starlette.requests import cookie_parser

from app.access.callers import Caller
from app.access.keyring import Keyring
from app.http.dependencies import provided
from app.http.errors import AccessRefusedError
from registry.database import Database, utc_now
from registry.sessions import BrowserSessions, prove

CSRF_HEADER = "X-CSRF-Token"
MAX_CACHED = 1000
_COOKIE = "paintbox_session"
_CACHED_SECONDS = 1.0
"""Maximum age of a cached session: how long other API processes accept one that was closed here."""

_PORT = re.compile(r":([0-9]{1,5})$")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True)
class OpenSession:
    """A session that was just opened.

    Attributes:
        token: Value of the cookie.
        expires_at: When it ends at the latest.
    """

    token: str
    expires_at: datetime


@dataclass(frozen=True)
class _Stored:
    key_id: str
    proof: str
    expires_at: datetime
    read_at: float


class Sessions:
    """Opens, resolves and closes sessions.

    Args:
        database: Holds them, so that all API processes accept each.
        keyring: Holds the keys that they stand for.
        lifetime: How long a session lasts.
    """

    def __init__(self, database: Database, keyring: Keyring, lifetime: timedelta) -> None:
        self._database = database
        self._keyring = keyring
        self._lifetime = lifetime
        self._cached: OrderedDict[str, _Stored] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, key_id: str) -> OpenSession:
        """Return a new session of a key; errors as for `Keyring.find`."""
        _, secret = self._keyring.find(key_id)
        with self._database.write() as session:
            row, token = BrowserSessions(session).open(key_id, secret, self._lifetime)
            return OpenSession(token, row.expires_at)

    def close(self, token: str) -> None:
        """End a session; other processes apply it within a second."""
        with self._database.write() as session:
            BrowserSessions(session).close(token)
        with self._lock:
            self._cached.pop(token, None)

    def find_cached(self, token: str) -> Caller | None:
        """Return the caller of a session that was read a moment ago, without a query; None: `find` has to read it."""
        with self._lock:
            stored = self._cached.get(token)
        if stored is None or time.monotonic() - stored.read_at > _CACHED_SECONDS:
            return None
        return self._caller(token, stored)

    def find(self, token: str) -> Caller:
        """Return the caller of a session.

        Raises:
            AccessRefusedError: There is no such session, it has ended, or its key is no longer valid.
        """
        row = None
        if _TOKEN.fullmatch(token):
            with self._database.read() as session:
                row = BrowserSessions(session).find(token)
        if row is None:
            raise _ended()
        stored = _Stored(row.key_id, row.proof, row.expires_at, time.monotonic())
        with self._lock:
            self._cached[token] = stored
            self._cached.move_to_end(token)
            while len(self._cached) > MAX_CACHED:
                self._cached.popitem(last=False)
        return self._caller(token, stored)

    def expires_at(self, token: str) -> datetime | None:
        """Return when a session ends; None if there is no such session."""
        with self._database.read() as session:
            row = BrowserSessions(session).find(token)
        return None if row is None else row.expires_at

    def _caller(self, token: str, stored: _Stored) -> Caller:
        caller, secret = self._keyring.find(stored.key_id)
        if stored.expires_at <= utc_now() or not hmac.compare_digest(prove(token, secret), stored.proof):
            raise _ended()
        return caller


def _ended() -> AccessRefusedError:
    return AccessRefusedError("session_ended", "The session has ended.", "Log in again, or send an API key.")


def cookie_name(host: str) -> str:
    """Return the name of the cookie; it holds the port, because browsers share cookies among all ports of a host."""
    port = _PORT.search(host)
    return f"{_COOKIE}_{port[1]}" if port else _COOKIE


def session_token(cookies: str, host: str) -> str | None:
    """Return the session's token in a header `Cookie`; None if it holds none."""
    return cookie_parser(cookies).get(cookie_name(host)) if _COOKIE in cookies else None


def csrf_token(token: str) -> str:
    """Return what requests of a session that change something send as `X-CSRF-Token`; other sites cannot know it."""
    return hmac.new(token.encode(), b"csrf", "sha256").hexdigest()


def require_csrf(token: str, given: str) -> None:
    """Raise `AccessRefusedError` unless a request that changes something carries its session's token."""
    if not hmac.compare_digest(csrf_token(token).encode(), given.encode()):
        raise AccessRefusedError(
            "csrf_refused",
            f"The request lacks the header {CSRF_HEADER} of its session.",
            f"Send `csrf_token` of GET /v1/session as {CSRF_HEADER}, or an API key instead of the cookie.",
        )


SessionsDep = Annotated[Sessions, provided(Sessions)]
