"""Routes of the browser's session."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.access.browser_sessions import OpenSession, SessionsDep, cookie_name, csrf_token
from app.access.callers import Caller, CallerDep
from app.access.policies import needs
from app.access.session.schemas import Session
from app.http.links import link_to
from app.http.problems import problem_responses

router = APIRouter(prefix="/v1/session", tags=["session"], dependencies=[needs(None)])


@router.post("", status_code=201, responses=problem_responses())
def open_session(sessions: SessionsDep, caller: CallerDep, request: Request, response: Response) -> Session:
    """Open a session for a browser: send the API key once, and the cookie of the response stands for it.

    The cookie is `HttpOnly` and `SameSite=Strict`. Requests that change something also need the header `X-CSRF-Token`.
    The session ends after `PAINTBOX_SESSION_HOURS`, with its key, or with `DELETE /v1/session`. While no key exists, no
    cookie is set, because none is needed.
    """
    response.headers["Cache-Control"] = "no-store"
    if caller.key_id is None:
        return _describe(caller, None)
    opened = sessions.open(caller.key_id)
    set_cookie(request, response, opened)
    return _describe(caller, opened)


@router.get("", responses=problem_responses())
def get_session(sessions: SessionsDep, caller: CallerDep, request: Request, response: Response) -> Session:
    """Return who sends the request: the key's name and scopes, and the session of the browser if there is one."""
    response.headers["Cache-Control"] = "no-store"
    token: str | None = request.state.session
    expires_at = None if token is None else sessions.expires_at(token)
    return _describe(caller, None if token is None or expires_at is None else OpenSession(token, expires_at))


@router.delete("", status_code=204, responses=problem_responses())
def close_session(sessions: SessionsDep, request: Request, response: Response) -> None:
    """End the session of the cookie. Without one, nothing happens."""
    if request.state.session is not None:
        sessions.close(request.state.session)
    delete_cookie(request, response)


def set_cookie(request: Request, response: Response, opened: OpenSession) -> None:
    """Set the cookie of a session, which scripts cannot read and other sites cannot send."""
    response.set_cookie(
        cookie_name(request.headers.get("host", "")),
        opened.token,
        expires=opened.expires_at,
        path=link_to("/"),
        secure=_is_encrypted(request),
        httponly=True,
        samesite="strict",
    )


def delete_cookie(request: Request, response: Response) -> None:
    """Delete the cookie of a session."""
    response.delete_cookie(
        cookie_name(request.headers.get("host", "")),
        path=link_to("/"),
        secure=_is_encrypted(request),
        httponly=True,
        samesite="strict",
    )


def _is_encrypted(request: Request) -> bool:
    """Return whether the browser uses HTTPS, which a proxy may end: browsers name the scheme in `Origin`."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")


def _describe(caller: Caller, opened: OpenSession | None) -> Session:
    return Session(
        key_id=caller.key_id,
        owner=caller.owner,
        scopes=sorted(caller.scopes),
        expires_at=None if opened is None else opened.expires_at,
        csrf_token=None if opened is None else csrf_token(opened.token),
    )
