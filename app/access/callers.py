"""The sender of a request, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.http.errors import AccessRefusedError
from contract.access import Scope


@dataclass(frozen=True)
class Caller:
    """The sender of a request.

    Attributes:
        key_id: Public id of the key; None: no key is required, and the request comes from this machine.
        owner: Name on the key, which owns what the caller creates; None: nobody.
        scopes: What the key allows.
    """

    key_id: str | None
    owner: str | None
    scopes: frozenset[Scope]

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return Scope.ADMIN in self.scopes

    @property
    def actor(self) -> str:
        """Who this is, for a history that people read."""
        return "api" if self.key_id is None else f"{self.owner} ({self.key_id})"

    def require(self, scope: Scope) -> None:
        """Raise `AccessRefusedError` unless the key has the scope or `admin`."""
        if not self.is_admin and scope not in self.scopes:
            has = ", ".join(scope for scope in Scope if scope in self.scopes)
            raise AccessRefusedError(
                "scope_missing",
                f"The scope {scope} is required; your key has {has}.",
                f"Ask an admin for a key: `paintbox keys create --scope {scope}`.",
            )


LOCAL_CALLER = Caller(None, None, frozenset({Scope.ADMIN}))
"""The caller while no key is required: this machine."""


async def get_caller(request: Request) -> Caller:
    """Return the caller; async, because FastAPI runs plain functions in another thread."""
    return caller_of(request)


def caller_of(request: Request) -> Caller:
    """Return the caller, which `app.access.control` has identified."""
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


def asker_of(request: Request, request_key: str | None) -> str:
    """Return the identity for canary routing: the request key, else the API key, else the client address."""
    return request_key or caller_of(request).key_id or (request.client.host if request.client else "")


def turn_of(request: Request) -> str:
    """Return the identity for fair scheduling: the API key, or the client address; never the request key."""
    return caller_of(request).key_id or (request.client.host if request.client else "")


def logged_of(caller: Caller) -> dict[str, str]:
    """Return what may be logged about the caller: the public id of the key, if there is one."""
    return {"key_id": caller.key_id} if caller.key_id is not None else {}


CallerDep = Annotated[Caller, Depends(get_caller)]
