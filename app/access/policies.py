"""What a route requires, declared beside it: `dependencies=[needs(Scope.WRITE, own=Owned.JOB)]`.

The declaration is part of the OpenAPI document, as the roles of a security requirement and `x-paintbox-owned`. It is
enforced twice: by `app.access.control`, before a body is read, and here, once the route has been chosen. An application
with a protected route that declares nothing does not start.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from re import Pattern

from fastapi import FastAPI, Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.params import Depends as DependsMarker
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.security.base import SecurityBase
from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from app.access.callers import Caller, caller_of
from app.access.inputs import Inputs
from app.http.dependencies import instance_of
from app.http.errors import AccessRefusedError
from app.http.invalid import refusal_of
from contract.access import Scope
from contract.bodies import Id, VersionId
from registry.database import Database
from registry.owners import Owned, Owners

_PROTECTED = ("/v1", "/v2", "/hf")
_OPEN = "/v2/health/"
"""Health probes carry no key, as for `/livez` and `/readyz`."""

SCHEME_NAME = "key"
_ID: TypeAdapter[str] = TypeAdapter(Id)
_VERSION_ID: TypeAdapter[int] = TypeAdapter(VersionId)


class Stores(StrEnum):
    """What a route stores."""

    NOTHING = "nothing"
    """Nothing, or so little that it is allowed even if the disk is nearly full."""
    UNCOUNTED = "uncounted"
    """Bytes for which the disk must have room, but which do not count towards the quota, or were counted before."""
    COUNTED = "counted"
    """Bytes that count towards the owner's quota."""


def is_protected(path: str) -> bool:
    """Return whether requests for a path must carry a key once one exists."""
    return path.startswith(_PROTECTED) and not path.startswith(_OPEN)


class Guard(SecurityBase):
    """The requirements of a route.

    Args:
        scope: Scope that the caller's key needs; None: any key will do.
        own: Path parameter whose resource the caller must own, unless they are an admin; None: none.
        stores: What the route stores; `app.storage.guard` checks that there is room for it.
    """

    def __init__(self, scope: Scope | None, own: Owned | None, stores: Stores = Stores.NOTHING) -> None:
        self.model = HTTPBearer()
        self.scheme_name = SCHEME_NAME
        self.scope = scope
        self.own = own
        self.stores = stores

    async def __call__(self, request: Request) -> None:
        """Reject callers who may not use the route; the request's path has been parsed."""
        caller = caller_of(request)
        if self.scope is not None:
            caller.require(self.scope)
        if self.own is not None and not caller.is_admin:
            identifier = _read_id(self.own, request.path_params[f"{self.own}_id"])
            await run_in_threadpool(_require_own, instance_of(request.app, Database), caller, self.own, identifier)


def needs(scope: Scope | None, own: Owned | None = None, stores: Stores = Stores.NOTHING) -> DependsMarker:
    """Return the dependency that declares a route's requirements; the arguments are those of `Guard`."""
    marker = Security(Guard(scope, own, stores), scopes=[] if scope is None else [scope.value])
    assert isinstance(marker, DependsMarker)
    return marker


@dataclass(frozen=True)
class Policy:
    """The requirements of one route."""

    path: str
    pattern: Pattern[str]
    methods: frozenset[str]
    guard: Guard
    inputs: Inputs


class Policies(tuple[Policy, ...]):
    """The requirements of each route of an application; unprotected routes have none."""

    @classmethod
    def of(cls, app: FastAPI) -> Policies:
        """Return the policies of an application to which all routes were added."""
        return cls(_policy_of(each) for each in iter_route_contexts(app.routes) if is_protected(each.path or ""))

    def find(self, method: str, path: str) -> Policy | None:
        """Return the policy of the route of a request; None if there is no such route."""
        return self._literal.get((method, path)) or self._search(method, path)

    @cached_property
    def _literal(self) -> dict[tuple[str, str], Policy | None]:
        """The policies of paths in which nothing varies: most requests name one of these."""
        literal = [each for each in self if "{" not in each.path]
        return {(method, each.path): self._search(method, each.path) for each in literal for method in each.methods}

    def _search(self, method: str, path: str) -> Policy | None:
        matching = (each for each in self if method in each.methods and each.pattern.match(path))
        return next(matching, None)


def _policy_of(route: RouteContext) -> Policy:
    given = getattr(route, "dependencies", None) or ()
    guards = [each.dependency for each in given if isinstance(each.dependency, Guard)]
    assert len(guards) == 1, f"{route.path} declares {len(guards)} policies: give it dependencies=[needs(…)]"
    return Policy(
        route.path_format or "", route.path_regex, frozenset(route.methods or ()), guards[0], Inputs.of(route)
    )


def _read_id(kind: Owned, text: str) -> int | str:
    """Return the id as the route will parse it: both use the same validators."""
    reader = _VERSION_ID if kind is Owned.VERSION else _ID
    try:
        return reader.validate_python(text)
    except ValidationError as error:
        raise refusal_of(error, "path", f"{kind}_id") from error


def _require_own(database: Database, caller: Caller, kind: Owned, identifier: int | str) -> None:
    with database.read() as session:
        foreign = Owners(session).is_owned_by_another(kind, identifier, caller.owner)
    if foreign:
        raise AccessRefusedError(
            "not_owner",
            f"{kind.replace('_', ' ').capitalize()} {identifier!r} does not belong to {caller.owner!r}.",
            "Only its owner or an admin may do this.",
        )
