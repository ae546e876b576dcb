"""The page `/`: a short introduction for people who open the address in a browser."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.metadata import version

from fastapi import FastAPI, HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.http.links import link_to

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#222}"
    "code{background:#f3f3f3;padding:.1em .3em;border-radius:3px}dt{font-weight:600;margin-top:.6rem}dd{margin:0}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}
_LINKS = (
    ("/docs", "API documentation, interactive"),
    ("/openapi.json", "OpenAPI document"),
    ("/readyz", "readiness of this process"),
    ("/v1/system", "versions, device, active version, disk (requires an API key if keys exist)"),
    ("/metrics", "metrics for Prometheus"),
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Paintbox</title>
<style>{style}</style>
</head>
<body>
<h1>Paintbox {version}</h1>
<p>Patches open-vocabulary image classifiers and serves them.</p>
<dl>
{links}
</dl>
<p>On the command line: <code>paintbox upload FOLDER</code>, <code>paintbox patch --task NAME</code>,
<code>paintbox report</code>, <code>paintbox activate VERSION</code>, <code>paintbox classify IMAGE --label TEXT --label
TEXT</code>.</p>
</body>
</html>
"""


def add_landing_page(app: FastAPI) -> None:
    """Add the page. Clients that do not accept HTML get the same response as at any path without a route."""

    async def show_page(request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            raise HTTPException(404)
        links = (f'<dt><a href="{escape(link_to(path))}">{path}</a></dt><dd>{text}</dd>' for path, text in _LINKS)
        page = _PAGE.format(style=_STYLE, version=escape(version("paintbox")), links="\n".join(links))
        return Response(page, headers=_HEADERS, media_type="text/html")

    app.add_route("/", show_page, include_in_schema=False)
