"""Responses to peers that never sent a complete request: invalid bytes, oversized heads, timeouts."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.http.problems import problem_response


@dataclass(frozen=True)
class Refusal:
    """A response after which the connection is closed; `code` is also the reason in the metrics."""

    status: int
    code: str
    detail: str
    advice: str


BAD_REQUEST = Refusal(
    400, "bad_request", "This is not a valid HTTP/1.1 request.", "Send plain HTTP/1.1; for TLS, put a proxy in front."
)
TOO_MANY_PIPELINED = Refusal(
    400, "too_many_pipelined", "Too many pipelined requests.", "Read responses before sending more requests."
)
HEAD_TOO_LARGE = Refusal(
    431, "head_too_large", "The request head is too large.", "Send fewer and shorter headers, and a shorter URL."
)
HEAD_TIMEOUT = Refusal(408, "head_timeout", "The request head did not arrive in time.", "Retry without pauses.")
BODY_TIMEOUT = Refusal(408, "body_timeout", "The body arrived too slowly or not at all.", "Retry without pauses.")
TOO_MANY_CONNECTIONS = Refusal(503, "too_many_connections", "Too many connections.", "Retry in a second.")


def render(refusal: Refusal, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of the whole response, with the server's default headers."""
    request_id = secrets.token_hex(16)
    headers = {"X-Request-Id": request_id, "X-Content-Type-Options": "nosniff", "Connection": "close"}
    if refusal.status == TOO_MANY_CONNECTIONS.status:
        headers["Retry-After"] = "1"
    response = problem_response(
        request_id, refusal.status, code=refusal.code, detail=refusal.detail, advice=refusal.advice, headers=headers
    )
    lines = [b"%s: %s\r\n" % header for header in (*default_headers, *response.raw_headers)]
    return b"%s%s\r\n%s" % (STATUS_LINE[refusal.status], b"".join(lines), response.body)
