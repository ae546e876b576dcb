"""`paintbox up`: everything on one machine. Starts Valkey, a worker and the API, keeps them running, stops them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from filelock import FileLock, Timeout
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from app.embedded_valkey import free_port
from app.installation import Installation, StartError, is_free
from app.settings import AppSettings
from app.supervision import CONFIGURATION_STATUS, signal_at_parents_death
from registry.database import Database
from registry.errors import ConfigurationError


def up(
    data_dir: Annotated[Path | None, typer.Option(help="Where state lives. [env var: PAINTBOX_DATA_DIR]")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [env var: PAINTBOX_HOST]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="TCP port; 0 takes a free one. [env var: PAINTBOX_PORT]")
    ] = None,
    stop_with_parent: Annotated[bool, typer.Option("--stop-with-parent", hidden=True)] = False,
) -> None:
    """Run the service on this machine until Ctrl-C: API, worker and an embedded Valkey."""
    if stop_with_parent:
        signal_at_parents_death(signal.SIGTERM)
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        run(_load_settings(data_dir, host, port), Console(highlight=False, markup=False, soft_wrap=True))
    except ConfigurationError as error:
        errors.print(f"Error: {error}")
        raise typer.Exit(CONFIGURATION_STATUS) from error
    except StartError as error:
        errors.print(f"Error: {error}")
        raise typer.Exit(1) from error


def run(settings: AppSettings, console: Console) -> None:
    """Run an installation until SIGINT or SIGTERM.

    Args:
        settings: Where it lives and listens; `port` is not 0.
        console: Told in single lines what happens.

    Raises:
        ConfigurationError: A setting cannot be used, or another `paintbox up` runs on the data directory.
        StartError: A process ends again and again before the service is ready.
    """
    stop = StopSignals()
    with _exclusive(settings):
        if not is_free(settings.host, settings.port):
            raise ConfigurationError(
                f"PAINTBOX_PORT: something listens on {settings.host} port {settings.port} already.",
                "Stop it, or choose another port with --port; --port 0 takes a free one.",
            )
        _migrate(settings)
        Installation(settings, console, stop).run()


class StopSignals:
    """Remembers SIGINT, SIGTERM and SIGHUP: the first asks to stop, a second one to hurry."""

    def __init__(self) -> None:
        self._num_received = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._remember)

    def requested(self) -> bool:
        """Return whether to stop."""
        return self._num_received > 0

    def in_a_hurry(self) -> bool:
        """Return whether to stop without waiting for anybody."""
        return self._num_received > 1

    def _remember(self, _number: int, _frame: object) -> None:
        self._num_received += 1


def _load_settings(data_dir: Path | None, host: str | None, port: int | None) -> AppSettings:
    given = {"data_dir": data_dir, "host": host, "port": port}
    chosen: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    settings = AppSettings.load(**chosen)
    chosen["data_dir"] = settings.data_dir.expanduser().absolute()
    if settings.port == 0:
        chosen["port"] = free_port(settings.host)
    settings = AppSettings.load(**chosen)
    try:
        settings.make_directories()
    except OSError as error:
        raise ConfigurationError(f"PAINTBOX_DATA_DIR: {error}.", "Name a folder that can be written.") from error
    return settings


@contextmanager
def _exclusive(settings: AppSettings) -> Iterator[None]:
    """Hold the data directory's lock, which the system lets go of however this process ends."""
    lock = FileLock(settings.data_dir / "up.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(
            f"PAINTBOX_DATA_DIR: another `paintbox up` runs on {settings.data_dir}.",
            "Use that one, stop it, or choose another folder with --data-dir.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _migrate(settings: AppSettings) -> None:
    database = Database(settings.resolved_database_url)
    try:
        database.migrate()
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise ConfigurationError(
            f"PAINTBOX_DATABASE_URL: the database cannot be used: {cause}.", "Correct it and start again."
        ) from error
    finally:
        database.close()


if __name__ == "__main__":
    typer.run(up)
