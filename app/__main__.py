"""`python -m app`: the API process."""

from __future__ import annotations

import sys

import uvicorn

from app.logs import set_up_logging
from app.settings import AppSettings
from registry.errors import ConfigurationError


def main() -> int:
    """Serve until told to stop; return the exit status, 2 if a setting is wrong."""
    try:
        settings = AppSettings.load()
        settings.make_directories()
        _check_bases(settings.bases)
    except ConfigurationError as error:
        sys.stderr.write(f"paintbox api: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"paintbox api: PAINTBOX_DATA_DIR: {error}. Name a folder that can be written.\n")
        return 2
    set_up_logging(settings.log_level)
    from app.main import create_app

    uvicorn.run(
        create_app(settings),
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
    return 0


def _check_bases(refs: tuple[str, ...]) -> None:
    """Look at what would otherwise only fail later, with a stack trace."""
    from paint_core.errors import ModelRefError
    from paint_core.models import ModelRef  # takes seconds, so that every other wrong setting is told before

    try:
        for ref in refs:
            ModelRef.parse(ref)
    except ModelRefError as error:
        raise ConfigurationError(f"PAINTBOX_BASES: {error}.", "Correct it and start again.") from error


if __name__ == "__main__":
    sys.exit(main())
