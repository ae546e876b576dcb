"""Opens the services behind a server that listens already, so that probes are answered while bases are loaded."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager

import structlog
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.dependencies import provide
from app.http.errors import StartingError
from app.http.problems import known_problem

_log = structlog.get_logger(__name__)
OpenServices = Callable[[], AbstractContextManager[object]]


class StartGate:
    """Responds with 503 to everything but liveness probes until the services are open.

    Args:
        app: The application.
        live: Responses to the liveness probes by path.
    """

    def __init__(self, app: ASGIApp, live: Mapping[str, BaseModel]) -> None:
        self._app = app
        self._live = {path: answer.model_dump() for path, answer in live.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or respond to it."""
        if scope["type"] != "http" or scope["app"].state.services is not None:
            return await self._app(scope, receive, send)
        if scope["path"] in self._live:
            return await JSONResponse(self._live[scope["path"]])(scope, receive, send)
        await known_problem(scope["state"]["request_id"], StartingError())(scope, receive, send)


@asynccontextmanager
async def opened_behind(app: FastAPI, open_services: OpenServices) -> AsyncIterator[None]:
    """Open the services in a thread while the server listens; `app.state.refusal` tells why that failed.

    A thread that has not ended when the server stops is abandoned: the process ends with it.

    Yields:
        None: Immediately.
    """
    stack = ExitStack()

    def open_them() -> None:
        try:
            provide(app, stack.enter_context(open_services()))
        except Exception as error:  # reported to `__main__`, which stops the server
            app.state.refusal = error

    thread = threading.Thread(target=open_them, name="paintbox-opening", daemon=True)
    thread.start()
    try:
        yield
    finally:
        if thread.is_alive():
            _log.info("stopped while starting")
        else:
            stack.close()
