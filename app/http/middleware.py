"""Middleware of every request: id, log line, metrics, and limits on body sizes.

Plain ASGI, outermost first: `app.inference.protocols.plain_errors.PlainErrors`, `RequestContext`,
`app.access.control.AccessControl`, `BodyLimit`, `app.http.held_bodies.HeldBodies`.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.problems import internal_problem, problem_response
from app.settings import AppSettings

REQUEST_ID_HEADER = "X-Request-Id"
UPLOAD_PATH = "/v1/datasets"
PARTS_PATH = "/v1/uploads"
PART_PREFIX = f"{PARTS_PATH}/"
TUS_VERSION = "1.0.0"
IMAGE_PREFIXES = ("/v1/classify", "/v1/embed", "/v1/feedback", "/v2/", "/hf/")
"""Path prefixes of requests that may carry images."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ids = random.Random()  # unique, not secret: avoids a system call per request
_CLIENT_GONE = 499  # for the log only: the client has disconnected
_log = structlog.get_logger(__name__)


class RequestContext:
    """Assigns an id to each request, responds to uncaught errors with 500, logs one line per request and counts it.

    Args:
        app: The next application.
        observe: Called with method, route, status and seconds of each request.
    """

    def __init__(self, app: ASGIApp, observe: Callable[[str, str, int, float], None]) -> None:
        self._app = app
        self._observe = observe
        self._log = structlog.get_logger(__name__).bind()  # once: it takes as long as the rest of a line

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to the request, whatever happens inside."""
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
                if scope["path"].startswith(PARTS_PATH):  # tus requires it in all error responses
                    headers.setdefault("Tus-Resumable", TUS_VERSION)
                    if status == HTTPStatus.PRECONDITION_FAILED:
                        headers["Tus-Version"] = TUS_VERSION
                if status == HTTPStatus.TEMPORARY_REDIRECT:  # to a path with or without a slash at its end
                    headers["Location"] = _without_host(headers["Location"])
            await send(message)

        start = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_marked)
            except ClientDisconnect:
                status = _CLIENT_GONE
            except Exception:  # last resort for uncaught errors
                _log.exception("request failed")
                if status:
                    raise  # too late for a response: the server closes the connection
                await internal_problem(request_id)(scope, receive, send_marked)
            finally:
                self._record(scope, status, time.perf_counter() - start)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._observe(scope["method"], route, status, seconds)
        named = {name: value for name, value in scope.get("path_params", {}).items() if name == "job_id"}
        self._log.info(
            "request",
            method=scope["method"],
            route=route,
            status=status,
            duration_ms=round(1000 * seconds, 3),
            **scope["state"].get("logged", {}),
            **named,
        )


class BodyLimit:
    """Rejects bodies that are too large: by their stated length, or by counting while they stream."""

    def __init__(self, app: ASGIApp, settings: AppSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body counted, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        limit = self._limit_of(scope["method"], scope["path"])
        stated = Headers(scope=scope).get("content-length", "")
        if stated.isdecimal() and int(stated) > limit:
            response = problem_response(
                scope["state"]["request_id"],
                413,
                code="body_too_large",
                detail=_too_large(limit),
                advice="Send less data in one request.",
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

    def _limit_of(self, method: str, path: str) -> int:
        """Return how much a route reads: an archive, images, or only JSON."""
        if (method, path.rstrip("/")) == ("POST", UPLOAD_PATH) or (method == "PATCH" and path.startswith(PART_PREFIX)):
            return self._settings.max_upload_bytes + (1 << 20)
        if path.startswith(IMAGE_PREFIXES):
            return self._settings.max_request_bytes
        return min(self._settings.max_json_bytes, self._settings.max_request_bytes)


def _without_host(url: str) -> str:
    """Return a URL without the host, which the client named and a proxy may have changed."""
    parts = urlsplit(url)
    path = "/" + parts.path.lstrip("/")
    return f"{path}?{parts.query}" if parts.query else path


def _too_large(limit: int) -> str:
    return f"The body is larger than {limit} bytes."


def _request_id(headers: Headers) -> str:
    given = headers.get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else f"{_ids.getrandbits(128):032x}"
