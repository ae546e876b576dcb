"""Rewrites problem documents on their way out, for clients that expect errors in another form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from app.http.problems import PROBLEM_MEDIA_TYPE

Write = Callable[[dict[str, Any]], tuple[dict[str, str], bytes]]
"""From a problem document to the headers to set and the body to send instead."""


class ProblemRewriter:
    """A `send` that holds a problem document until it is complete, and sends it in another form."""

    def __init__(self, send: Send, write: Write) -> None:
        self._send = send
        self._write = write
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        """Send a message, or hold it."""
        if message["type"] == "http.response.start":
            if MutableHeaders(scope=message).get("content-type") == PROBLEM_MEDIA_TYPE:
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_rewritten(self._start)
            return
        await self._send(message)

    async def _send_rewritten(self, start: Message) -> None:
        changed, content = self._write(json.loads(self._body))
        headers = MutableHeaders(scope=start)
        headers.update({**changed, "Content-Length": str(len(content))})
        await self._send(start)
        await self._send({"type": "http.response.body", "body": content})
