"""Rejects unauthorised requests before their bodies are read."""

from __future__ import annotations

import re

import structlog
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.browser_sessions import Sessions
from app.access.callers import logged_of
from app.access.identity import check_forgery, identify
from app.access.keyring import Keyring
from app.access.limits import RateLimits
from app.access.policies import Policies, is_protected
from app.http.dependencies import instance_of
from app.http.errors import AccessRefusedError, RateLimitedError
from app.http.problems import invalid_problem, known_problem
from app.settings import AppSettings
from registry.faults import classify_fault

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?", re.ASCII)
_FOREIGN = frozenset({"cross-site", "same-site"})
"""Values of `Sec-Fetch-Site` for requests from pages of another origin."""


class AccessControl:
    """Identifies the caller of a request, counts the request, and rejects it if the caller's key does not allow it.

    It also rejects what the route would not read: unknown query parameters, and bodies where none is expected.

    Once a key exists, every request for a protected path must carry one. While none exists, the service listens on
    loopback only, and web pages are rejected: a foreign `Host` indicates DNS rebinding, a foreign `Origin` another
    site's page.
    """

    def __init__(self, app: ASGIApp, settings: AppSettings, policies: Policies) -> None:
        self._app = app
        self._names = _LOCAL_NAMES | {f"[{settings.host}]" if ":" in settings.host else settings.host.lower()}
        self._origins = frozenset(settings.allowed_origins) - {"*"}  # not for any page while no key is required
        self._policies = policies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        state = scope["state"]
        try:
            receive = await self._admit(scope, receive)
        except (AccessRefusedError, RateLimitedError) as error:
            return await known_problem(state["request_id"], error)(scope, receive, send)
        except RequestValidationError as error:
            return await invalid_problem(state["request_id"], error)(scope, receive, send)
        except SQLAlchemyError as error:  # while a session was read
            fault = classify_fault(error)
            if fault is None:
                raise
            return await known_problem(state["request_id"], fault)(scope, receive, send)
        logged = state.get("logged")
        if not logged:
            return await self._app(scope, receive, send)
        with structlog.contextvars.bound_contextvars(**logged):
            await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive) -> Receive:
        """Return the channel to read the body from, once the caller is known and may send the request."""
        app, state, headers = scope["app"], scope["state"], Headers(scope=scope)
        keyring = instance_of(app, Keyring)
        if keyring.is_open:
            self._check_local(headers, scope["path"])
        if not is_protected(scope["path"]):
            return receive
        identity = await identify(headers, keyring, instance_of(app, Sessions))
        caller = identity.caller
        state["caller"], state["session"], state["logged"] = caller, identity.session, logged_of(caller)
        if caller.key_id is not None:
            await instance_of(app, RateLimits).count(caller.key_id)
        state["policy"] = policy = self._policies.find(scope["method"], scope["path"])
        if policy is None:  # the router responds with 404
            return receive
        if policy.guard.scope is not None:
            caller.require(policy.guard.scope)
        check_forgery(identity, scope["method"], headers)
        if scope["query_string"]:
            policy.inputs.check_query(scope["query_string"])
        return await policy.inputs.check_body(headers, receive)

    def _check_local(self, headers: Headers, path: str) -> None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        read = _HOST.fullmatch(host)
        if read is None or read[1] not in self._names:
            raise AccessRefusedError(
                "host_refused",
                f"Host {', '.join(hosts)[:100]!r} is not the local machine.",
                "Use http://127.0.0.1, or create an API key.",
            )
        foreign = [repr(each[:100]) for each in origins if not self._may_ask(each.lower(), host)]
        if not origins and headers.get("sec-fetch-site") in _FOREIGN and is_protected(path):
            foreign = ["other sites"]
        if foreign:
            raise AccessRefusedError(
                "origin_refused",
                f"Origin {foreign[0]} is not allowed.",
                "Add it to PAINTBOX_ALLOWED_ORIGINS.",
            )

    def _may_ask(self, origin: str, host: str) -> bool:
        return origin in self._origins or origin in (f"http://{host}", f"https://{host}")
