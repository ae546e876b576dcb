"""The address `/`: it leads browsers to the interface."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response


def add_landing_page(app: FastAPI) -> None:
    """Add the redirect. Clients that do not accept HTML get the same response as at any path without a route."""

    async def lead(request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            raise HTTPException(404)
        return RedirectResponse("/ui/", status_code=303, headers={"Vary": "Accept"})

    app.add_route("/", lead, include_in_schema=False)
