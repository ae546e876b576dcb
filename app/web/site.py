"""The templates of the pages, and the headers under which no script, style or request of others runs in them."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.links import link_to
from app.http.rewriting import ProblemRewriter
from app.web.assets import asset_url
from app.web.formats import FILTERS, show
from app.web.visitors import Visitor

PREFIX = "/ui"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("app.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=show,
    )
    environment.filters.update(FILTERS)
    environment.globals.update(url=link_to, asset=asset_url, release=version("paintbox"))
    return environment


def render(template: str, visitor: Visitor | None, status_code: int = 200, **values: Any) -> HTMLResponse:
    """Return a page.

    Args:
        template: Its name in the folder `templates`.
        visitor: Who looks at it; None: nobody is logged in.
        status_code: HTTP status.
        **values: What the template shows.
    """
    return HTMLResponse(fill_template(template, visitor=visitor, **values), status_code, HEADERS)


def fill_template(template: str, **values: Any) -> str:
    """Return the text of a template with these values."""
    return _templates().get_template(template).render(**values)


class PageErrors:
    """Shows the errors of pages as pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request with what the application answers, errors as pages."""
        if scope["type"] == "http" and scope["path"].startswith(f"{PREFIX}/"):
            send = ProblemRewriter(send, _write_error)
        await self._app(scope, receive, send)


def _write_error(problem: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    text = fill_template("error.html", visitor=None, problem=problem)
    return {**HEADERS, "Content-Type": "text/html; charset=utf-8"}, text.encode()
