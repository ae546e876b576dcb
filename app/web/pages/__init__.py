"""The pages under `/ui`. They call what the routes of `/v1` call, and show nothing that `/v1` does not offer."""

from __future__ import annotations

from fastapi import FastAPI

from app.http.direct import add_routers
from app.web.assets import PATH, send_asset
from app.web.pages import (
    corrections,
    datasets,
    evaluations,
    help,
    home,
    login,
    patches,
    playground,
    serving,
    system,
    versions,
)
from app.web.visitors import add_login_redirect

_ROUTERS = (
    login.router,
    home.router,
    datasets.router,
    patches.router,
    versions.router,
    evaluations.router,
    corrections.router,
    playground.router,
    serving.router,
    system.router,
    help.router,
)


def add_pages(app: FastAPI) -> None:
    """Add the pages and their static files; none is in the OpenAPI document."""
    app.add_route(f"{PATH}/{{digest}}/{{name}}", send_asset, include_in_schema=False)
    add_routers(app, _ROUTERS)
    add_login_redirect(app)
