"""The path prefix under which a proxy publishes the service, in links and requests."""

from __future__ import annotations

from contextvars import ContextVar

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_prefix: ContextVar[str] = ContextVar("prefix", default="")


def link_to(path: str) -> str:
    """Return a path of this service as clients see it."""
    return _prefix.get() + path


class RootPath:
    """Accepts requests with and without the prefix, such as `/paint`, and adds it to links and `Location` headers.

    Inside, no path has a prefix, so that protection and routing use the same path.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on without its prefix."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_prefixed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("location", "").startswith("/"):
                    headers["location"] = self._prefix + headers["location"]
            await send(message)

        token = _prefix.set(self._prefix)
        try:
            await self._app(self._without_prefix(scope), receive, send_prefixed)
        finally:
            _prefix.reset(token)

    def _without_prefix(self, scope: Scope) -> Scope:
        if not f"{scope['path']}/".startswith(f"{self._prefix}/"):
            return scope
        raw = scope.get("raw_path") or b""
        is_raw = raw.startswith(self._prefix.encode())
        size = len(self._prefix)
        return {**scope, "path": scope["path"][size:] or "/", "raw_path": raw[size:] or b"/" if is_raw else raw}
