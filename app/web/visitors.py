"""Who looks at a page: as for `/v1`, by key or session; whoever is not logged in is sent to the login page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request
from starlette.responses import RedirectResponse, Response

from app.access.browser_sessions import Sessions, csrf_token
from app.access.callers import Caller
from app.access.identity import identify
from app.access.keyring import Keyring
from app.access.limits import RateLimits
from app.http.dependencies import instance_of
from app.http.errors import AccessRefusedError
from contract.access import Scope

LOGIN = "/ui/login"


class LoginRequiredError(Exception):
    """The visitor has to log in first; `target` is the page that they asked for."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.target = target


@dataclass(frozen=True)
class Visitor:
    """The person who looks at a page.

    Attributes:
        caller: As for requests of the API.
        session: Token of the browser's session; None: no key is required.
    """

    caller: Caller
    session: str | None

    @property
    def csrf(self) -> str:
        """What scripts send with requests that change something; empty: nothing is needed."""
        return "" if self.session is None else csrf_token(self.session)

    def may(self, scope: str) -> bool:
        """Return whether the visitor has a scope, which decides what buttons a page shows."""
        return self.caller.is_admin or Scope(scope) in self.caller.scopes


async def get_visitor(request: Request) -> Visitor:
    """Return the visitor of a page.

    Raises:
        LoginRequiredError: The browser has no valid session.
        RateLimitedError: The visitor's key has been used too often.
    """
    app = request.app
    try:
        identity = await identify(request.headers, instance_of(app, Keyring), instance_of(app, Sessions))
    except AccessRefusedError as error:
        query = f"?{request.url.query}" if request.url.query else ""
        raise LoginRequiredError(request.scope["path"] + query) from error
    if identity.caller.key_id is not None:
        await instance_of(app, RateLimits).count(identity.caller.key_id)
    request.state.caller = identity.caller
    return Visitor(identity.caller, identity.session)


async def get_reader(request: Request) -> Visitor:
    """Return the visitor of a page that shows what the scope `read` allows; errors as for `get_visitor`."""
    visitor = await get_visitor(request)
    visitor.caller.require(Scope.READ)
    return visitor


async def get_admin(request: Request) -> Visitor:
    """Return the visitor of a page for admins; errors as for `get_visitor`."""
    visitor = await get_visitor(request)
    visitor.caller.require(Scope.ADMIN)
    return visitor


def add_login_redirect(app: FastAPI) -> None:
    """Send visitors without a session to the login page, and afterwards to the page that they asked for."""

    async def redirect(_: Request, error: Exception) -> Response:
        assert isinstance(error, LoginRequiredError)
        return RedirectResponse(f"{LOGIN}?next={quote(error.target, safe='/')}", status_code=303)

    app.add_exception_handler(LoginRequiredError, redirect)


VisitorDep = Annotated[Visitor, Depends(get_visitor)]
ReaderDep = Annotated[Visitor, Depends(get_reader)]
AdminDep = Annotated[Visitor, Depends(get_admin)]
