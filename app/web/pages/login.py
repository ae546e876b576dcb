"""Logging in with an API key, and out."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from app.access.browser_sessions import SessionsDep, require_csrf
from app.access.keyring import KeyringDep
from app.access.session.endpoints import delete_cookie, set_cookie
from app.http.errors import AccessRefusedError
from app.web.site import render
from app.web.visitors import LOGIN, VisitorDep

router = APIRouter(prefix="/ui", include_in_schema=False)

_HOME = "/ui/"
_PAGE = re.compile(r"/ui/[A-Za-z0-9/_.~?&=%-]*")
_FOREIGN = frozenset({"cross-site", "same-site"})
Target = Annotated[str, Query(alias="next", max_length=2000)]


@router.get("/login")
def show_login(keyring: KeyringDep, target: Target = _HOME) -> Response:
    """Show the login form; without keys, nobody has to log in."""
    if keyring.is_open:
        return RedirectResponse(_safe(target), status_code=303)
    return render("login.html", None, target=_safe(target), problem="")


@router.post("/login")
def log_in(
    request: Request,
    keyring: KeyringDep,
    sessions: SessionsDep,
    key: Annotated[str, Form(max_length=500)] = "",
    target: Annotated[str, Form(alias="next", max_length=2000)] = _HOME,
) -> Response:
    """Open a session for a key, and return to the page that was asked for."""
    if request.headers.get("sec-fetch-site") in _FOREIGN:
        raise AccessRefusedError(
            "origin_refused", "Another site sent the login form.", "Open the login page, and retry."
        )
    try:
        caller = keyring.identify(f"Bearer {key.strip()}")
    except AccessRefusedError as error:
        return render("login.html", None, 401, target=_safe(target), problem=f"{error.detail} {error.advice}")
    response = RedirectResponse(_safe(target), status_code=303)
    if caller.key_id is not None:
        set_cookie(request, response, sessions.open(caller.key_id))
    return response


@router.post("/logout")
def log_out(
    request: Request, visitor: VisitorDep, sessions: SessionsDep, csrf: Annotated[str, Form(max_length=100)] = ""
) -> Response:
    """Close the session."""
    response = RedirectResponse(LOGIN, status_code=303)
    if visitor.session is not None:
        require_csrf(visitor.session, csrf)
        sessions.close(visitor.session)
        delete_cookie(request, response)
    return response


def _safe(target: str) -> str:
    """Return the page to go to after the login: only one of ours."""
    return target if _PAGE.fullmatch(target) and "//" not in target else _HOME
