"""Errors as the protocols of others have them: `{"error": "…"}`, where this service has problem documents.

The routes and everything around them raise and answer as everywhere else. What they answer is rewritten on its way
out, so that a wrong key, a body that is too large, a route that is not there and a bug of ours all look alike.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.problems import PROBLEM_MEDIA_TYPE
from app.http.rewriting import ProblemRewriter

_PREFIXES = ("/v2", "/hf")
_MEDIA_TYPE = "application/json"


class PlainError(BaseModel):
    """What every error under `/v2` and `/hf` looks like."""

    error: str = Field(description="Description of the error and how to resolve it")


class PlainErrors:
    """Rewrites the problem documents of the paths below which other protocols are spoken.

    Args:
        app: What to call.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request with what the application answers, errors in other words."""
        if scope["type"] == "http" and has_plain_errors(scope["path"]):
            send = ProblemRewriter(send, _write)
        await self._app(scope, receive, send)


def _write(problem: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    content = PlainError(error=f"{problem['detail']} {problem['next']}").model_dump_json().encode()
    return {"Content-Type": _MEDIA_TYPE}, content


def has_plain_errors(path: str) -> bool:
    """Return whether the errors of a path are those of another protocol."""
    return path.startswith(_PREFIXES)


def rewrite_documented(paths: dict[str, Any]) -> None:
    """Rewrite, in the paths of an OpenAPI document, what is rewritten in answers."""
    plain = {_MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{PlainError.__name__}"}}}
    for path in filter(has_plain_errors, paths):
        for operation in paths[path].values():
            for response in operation["responses"].values():
                if PROBLEM_MEDIA_TYPE in response.get("content", {}):
                    response["content"] = plain
