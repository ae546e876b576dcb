"""Web pages of other origins that may use the service (CORS, as the Fetch Standard has it)."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_EXPOSED = (
    *("Location", "Retry-After", "X-Request-Id", "Idempotent-Replayed", "WWW-Authenticate", "Content-Disposition"),
    *("ETag", "Paintbox-Version", "Paintbox-Precision"),
    *("Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Expires", "Inference-Header-Content-Length"),
)
"""Response headers that scripts may read."""


def allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    """Answer preflight requests, which carry no key, and add CORS headers to all responses, including errors.

    Call it after all other middleware was added. `*` allows any origin.
    """
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=("*",),
        allow_private_network=True,  # allows public pages to reach a service on loopback
        expose_headers=_EXPOSED,
    )
