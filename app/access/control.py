"""Refuses requests of those who may not ask, before their bodies are read."""

from __future__ import annotations

from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.callers import Caller, key_of
from app.access.limits import RateLimits
from app.access.policies import Policies, is_protected
from app.errors import AccessRefusedError, RateLimitedError
from app.problems import known_problem
from app.services import Services
from app.settings import AppSettings

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class AccessControl:
    """Finds out who makes a request, counts it, and refuses it if its key does not allow it.

    Once there is a key, every request for a protected path must carry one. While there is none, the service listens on
    loopback, and web pages are kept out: a foreign `Host` means DNS rebinding, a foreign `Origin` a page of somebody
    else.

    Args:
        app: What to call.
        settings: Hold the address that the service listens on.
        policies: What each route needs.
    """

    def __init__(self, app: ASGIApp, settings: AppSettings, policies: Policies) -> None:
        self._app = app
        self._names = _LOCAL_NAMES | {settings.host}
        self._policies = policies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        state = scope["state"]
        services: Services = scope["app"].state.services
        headers = Headers(scope=scope)
        try:
            if services.keyring.is_open:
                self._check_local(headers)
            if is_protected(scope["path"]):
                state["caller"] = services.keyring.identify(headers.get("authorization", ""))
                await self._admit(state["caller"], scope, services.rate_limits)
        except (AccessRefusedError, RateLimitedError) as error:
            return await known_problem(state["request_id"], error)(scope, receive, send)
        with structlog.contextvars.bound_contextvars(**key_of(scope)):
            await self._app(scope, receive, send)

    async def _admit(self, caller: Caller, scope: Scope, limits: RateLimits) -> None:
        if caller.key_id is not None:
            await limits.count(caller.key_id)
        guard = self._policies.find(scope["method"], scope["path"])
        if guard is not None:  # else the router answers that there is no such route
            caller.require(guard.scope)

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


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
