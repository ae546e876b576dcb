"""`python -m app`: the API process."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.logs import set_up_logging
from app.settings import AppSettings
from registry.errors import ConfigurationError


def main() -> int:
    """Serve until told to stop; return the exit status, 2 if a setting is wrong."""
    try:
        settings = AppSettings.load()
        _make_directories(settings)
        set_up_logging(settings.log_level)
        return _serve(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"paintbox api: {error}\n")
        return 2
    finally:
        gc.unfreeze()  # libraries complain of what is still there when the interpreter ends


def _serve(settings: AppSettings) -> int:
    gc.disable()  # else the imports are gone through again and again, though they stay as long as the process
    from app.main import create_app  # loads torch for seconds, so every setting that can be is checked before

    gc.freeze()
    gc.enable()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=10,
    )
    try:
        with suppress(KeyboardInterrupt):
            Server(config, app).run()
    except SystemExit:
        if app.state.refusal is not None:
            raise app.state.refusal from None
        raise
    return 0


class Server(uvicorn.Server):
    """A server that ends its event streams when it is told to stop, and so need not wait for their clients."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, having told the streams."""
        services = getattr(self._app.state, "services", None)
        if services is not None:
            services.streams.stop()
        super().handle_exit(sig, frame)


def _make_directories(settings: AppSettings) -> None:
    try:
        settings.make_directories()
    except OSError as error:
        raise ConfigurationError(f"PAINTBOX_DATA_DIR: {error}.", "Name a folder that can be written.") from error


if __name__ == "__main__":
    sys.exit(main())
