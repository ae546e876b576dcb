"""`python -m app`: the API process."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import NoReturn

import uvicorn
from fastapi import FastAPI

from app.http.connections.limits import raise_open_files
from app.http.connections.protocol import GuardedProtocol
from app.runtime.logs import LateStream, set_up_logging
from app.runtime.ports import listen_on_own_port
from app.settings import AppSettings
from paint_core.runtime.allocator import keep_freed_memory
from registry.errors import ConfigurationError, RegistryError
from registry.private_files import make_files_private

_DRAIN_LOOK_SECONDS = 0.05


def main() -> int:
    """Serve until told to stop; return the exit status: 2 if a setting is wrong, 1 if the database is unavailable."""
    make_files_private()
    if not sys.stdin or not sys.stdin.isatty():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # sent by programs that rotate logs
    keep_freed_memory()
    raise_open_files()
    log = LateStream(sys.stderr)
    try:
        settings = AppSettings.load()
        settings.make_directories()
        set_up_logging(settings.log_level, log)
        return _serve(settings)
    except RegistryError as error:
        sys.stderr.write(f"paintbox api: {error}\n")
        return 2 if isinstance(error, ConfigurationError) else 1
    finally:
        log.close()


def _serve(settings: AppSettings) -> int:
    gc.disable()  # otherwise every collection walks the imported modules
    import torch

    from app.main import create_app  # loads torch for seconds, so check the settings before

    torch.set_num_threads(1)  # default of new threads, too; see `app.runtime.cores`
    gc.freeze()
    gc.enable()
    app = create_app(settings, listens_first=True)
    shares_port = settings.processes > 1
    own = [listen_on_own_port(settings.host, settings.port, settings.processes)] if shares_port else None
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=partial(GuardedProtocol, app.state.connections),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=10,
    )
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the server handles it, and raises it again after its end
    with suppress(KeyboardInterrupt):
        Server(config, app, settings.drain_seconds, shares_port=shares_port).run(own)
    if app.state.refusal is not None:
        raise app.state.refusal
    return 0


class Server(uvicorn.Server):
    """A server that reports that it is draining before it stops, and then ends its event streams.

    It also stops if the services behind it could not be opened. During `drain_seconds` it still accepts connections and
    tells clients to close theirs, so that no request is sent into a connection that is being closed.

    A port that it shares with other processes is listened on once the services are open: until then the others take all
    connections.
    """

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, drain_seconds: float, *, shares_port: bool = False
    ) -> None:
        super().__init__(config)
        self._app = app
        self._is_open = False
        self._drain_seconds = drain_seconds
        self._shares_port = shares_port
        self._shared: list[asyncio.Server] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the given sockets, or on the configured port; bind the port that is shared."""
        if self._shares_port:
            self._shared = [await self._bind_shared_port()]
        await super().startup(sockets)
        self.servers += self._shared

    async def _bind_shared_port(self) -> asyncio.Server:
        def create_protocol() -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        try:
            return await asyncio.get_running_loop().create_server(
                create_protocol,
                self.config.host,
                self.config.port,
                reuse_port=True,
                backlog=self.config.backlog,
                start_serving=False,
            )
        except OSError as error:
            raise ConfigurationError(
                f"PAINTBOX_PORT: cannot share port {self.config.port} ({error.strerror}).",
                "Stop the program that uses it, or choose another.",
            ) from error

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop: on request, or because the services could not be opened.

        Once they are open, all objects in memory are excluded from garbage collection. Libraries and models are some
        hundred thousand permanent objects; a collection of them takes 400 ms on two cores, during which no request is
        served.
        """
        if not self._is_open and self._app.state.services is not None:
            self._is_open = True
            gc.freeze()
            for server in self._shared:
                await server.start_serving()
        return await super().on_tick(counter) or self._app.state.refusal is not None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, after telling event streams and readiness probes; a second signal stops at once."""
        services = self._app.state.services
        if services is not None:
            services.streams.stop()
            services.engine.is_draining = True
        self._drain_seconds = 0.0 if self.should_exit else self._drain_seconds
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Keep serving for a while, then accept no more connections and finish the requests in progress."""
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        until = time.monotonic() + self._drain_seconds
        while time.monotonic() < until and self._drain_seconds:
            await asyncio.sleep(_DRAIN_LOOK_SECONDS)
        await super().shutdown(sockets)


def leave(status: int) -> NoReturn:
    """End the process immediately, without the seconds that the interpreter's clean-up takes."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
