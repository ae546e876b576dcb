"""Who sends a request: by its API key, or by the session of a browser."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from app.access.browser_sessions import CSRF_HEADER, Sessions, require_csrf, session_token
from app.access.callers import Caller
from app.access.keyring import Keyring
from app.http.errors import AccessRefusedError

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Identity:
    """The sender of a request.

    Attributes:
        caller: Who it is.
        session: Token of the browser's session; None: an API key was sent, or none is required.
    """

    caller: Caller
    session: str | None = None


async def identify(headers: Headers, keyring: Keyring, sessions: Sessions) -> Identity:
    """Return the sender of a request: by the header `Authorization` if there is one, else by the cookie.

    Raises:
        AccessRefusedError: Neither is valid.
    """
    authorization = _only_authorization(headers)
    token = None
    if not authorization and not keyring.is_open:
        token = session_token(headers.get("cookie", ""), headers.get("host", ""))
    if token is None:
        return Identity(keyring.identify(authorization))
    caller = sessions.find_cached(token)
    if caller is None:
        caller = await run_in_threadpool(sessions.find, token)
    return Identity(caller, token)


def check_forgery(identity: Identity, method: str, headers: Headers) -> None:
    """Raise `AccessRefusedError` if a request of a session changes something and lacks the session's CSRF token."""
    if identity.session is not None and method not in _SAFE:
        require_csrf(identity.session, headers.get(CSRF_HEADER, ""))


def _only_authorization(headers: Headers) -> str:
    """Return the header `Authorization`, or an empty string; repeated headers are rejected, as proxies may disagree."""
    given = headers.getlist("authorization")
    if len(given) > 1:
        raise AccessRefusedError("unauthorised", "The request has several Authorization headers.", "Send one.")
    return given[0] if given else ""
