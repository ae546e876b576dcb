"""What happens around every request: its id and log line, who may ask, how much may be sent.

Plain ASGI, outermost first: `RequestContext`, `AccessControl`, `BodyLimit`.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import AccessRefusedError
from app.problems import internal_problem, known_problem, problem_response
from app.settings import AppSettings

REQUEST_ID_HEADER = "X-Request-Id"
UPLOAD_PATH = "/v1/datasets"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_CLIENT_GONE = 499  # for the log only: nobody is left to be answered
_log = structlog.get_logger(__name__)


class RequestContext:
    """Gives each request an id, answers what nobody caught with 500, and logs one line a request.

    Args:
        app: What to call.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, whatever happens inside."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID_HEADER] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        start = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_marked)
            except ClientDisconnect:
                status = _CLIENT_GONE
            except Exception:  # the edge: whatever nobody caught
                _log.exception("request failed")
                if status:
                    raise  # too late for an answer: the server cuts the connection
                await internal_problem(request_id)(scope, receive, send_marked)
            finally:
                _log_request(scope, status, time.perf_counter() - start)


class AccessControl:
    """Refuses requests of those who may not ask.

    With a key, every `/v1` request must carry it. Without one, the service listens on loopback, and web pages are
    kept out: a foreign `Host` means DNS rebinding, a foreign `Origin` a page of somebody else.

    Args:
        app: What to call.
        settings: Hold the key.
    """

    def __init__(self, app: ASGIApp, settings: AppSettings) -> None:
        self._app = app
        self._key = settings.api_key.get_secret_value().encode() if settings.api_key else None
        self._names = _LOCAL_NAMES | {settings.host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except AccessRefusedError as error:
                response = known_problem(scope["state"]["request_id"], error)
                return await response(scope, receive, send)
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._key is None:
            self._check_local(headers)
        elif scope["path"].startswith("/v1") and not self._knows_key(headers):
            raise AccessRefusedError(
                "unauthorised", "The API key is missing or wrong.", "Send the header `Authorization: Bearer KEY`."
            )

    def _knows_key(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        assert self._key is not None
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self._key)

    def _check_local(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if _hostname(host) not in self._names:
            raise AccessRefusedError(
                "host_refused", f"Host {host[:100]!r} is not this machine.", "Ask for http://127.0.0.1, or set a key."
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            raise AccessRefusedError(
                "origin_refused", f"Pages of {origin[:100]!r} may not use this service.", "Set a key to allow others."
            )


class BodyLimit:
    """Refuses bodies that are too large: by their stated length before, by counting while they stream.

    Args:
        app: What to call.
        settings: Hold the limits.
    """

    def __init__(self, app: ASGIApp, settings: AppSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body counted, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        is_upload = scope["method"] == "POST" and scope["path"].rstrip("/") == UPLOAD_PATH
        limit = self._settings.max_upload_bytes + (1 << 20) if is_upload else self._settings.max_request_bytes
        stated = Headers(scope=scope).get("content-length", "")
        if stated.isdecimal() and int(stated) > limit:
            response = problem_response(
                scope["state"]["request_id"],
                413,
                code="body_too_large",
                detail=_too_large(limit),
                advice="Send less in one request.",
                headers={"Connection": "close"},
            )
            return await response(scope, receive, send)
        num_bytes = 0

        async def receive_counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > limit:
                raise HTTPException(413, _too_large(limit), {"Connection": "close"})
            return message

        await self._app(scope, receive_counted, send)


def _too_large(limit: int) -> str:
    return f"The body is larger than {limit} bytes."


def _request_id(headers: Headers) -> str:
    given = headers.get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    _log.info(
        "request",
        method=scope["method"],
        route=getattr(scope.get("route"), "path", "unmatched"),
        status=status,
        duration_ms=round(1000 * seconds, 3),
    )
