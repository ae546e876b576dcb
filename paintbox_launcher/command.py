"""`paintbox up`: starts Valkey, a worker and the API on one machine, keeps them running, and stops them."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from filelock import FileLock, Timeout
from rich.console import Console

from app.settings import AppSettings
from paintbox_launcher.embedded_valkey import free_port
from paintbox_launcher.installation import Installation, StartError, is_free
from paintbox_launcher.supervision import CONFIGURATION_STATUS, signal_at_parents_death
from registry.errors import BlobStoreUnreachableError, ConfigurationError, DatabaseUnavailableError
from registry.keys import are_keys_required
from registry.leftovers import sweep
from registry.private_files import make_files_private
from registry.startup import open_database, prepare_database

_OPEN = (
    "Warning: no API key is set, so every user of this machine can use and administer this service. To require keys, "
    "run: paintbox keys create --name ops --scope admin"
)


def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(envvar="PAINTBOX_DATA_DIR", help="Data directory. Default: `paintbox` in the user's data folder."),
    ] = None,
    host: Annotated[
        str | None, typer.Option(envvar="PAINTBOX_HOST", help="Address to listen on. Default: 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(envvar="PAINTBOX_PORT", min=0, max=65_535, help="TCP port; 0 selects a free one. Default: 8321."),
    ] = None,
    stop_with_parent: Annotated[bool, typer.Option("--stop-with-parent", hidden=True)] = False,
) -> None:
    """Run the service on this machine until Ctrl-C: API, worker and an embedded Valkey."""
    if stop_with_parent:
        signal_at_parents_death(signal.SIGTERM)
    make_files_private()
    print_what_can_be_printed()
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        run(_load_settings(data_dir, host, port), Console(highlight=False, markup=False, soft_wrap=True))
    except (ConfigurationError, DatabaseUnavailableError, BlobStoreUnreachableError) as error:
        errors.print(f"Error: {error}")
        raise typer.Exit(CONFIGURATION_STATUS) from error
    except StartError as error:
        errors.print(f"Error: {error}")
        raise typer.Exit(1) from error


def run(settings: AppSettings, console: Console) -> None:
    """Run an installation until SIGINT or SIGTERM; the settings' port is not 0.

    Raises:
        ConfigurationError: A setting cannot be used, or another `paintbox up` runs on the data directory.
    """
    stop = StopSignals()
    with _exclusive(settings):
        if not is_free(settings.host, settings.port):
            raise ConfigurationError(
                f"PAINTBOX_PORT: port {settings.port} on {settings.host} is already in use.",
                "Stop the other process, or choose another port with --port; --port 0 selects a free one.",
            )
        _prepare(settings, console)
        sweep(settings)
        Installation(settings, console, stop).run()


class StopSignals:
    """Records SIGINT, SIGTERM and SIGHUP: the first asks to stop, a second one to hurry.

    SIGHUP is left alone if whoever started this process ignores it, as `nohup` does.
    """

    def __init__(self) -> None:
        self._num_received = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._remember)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._remember)

    def requested(self) -> bool:
        """Return whether to stop."""
        return self._num_received > 0

    def in_a_hurry(self) -> bool:
        """Return whether to stop without waiting for anybody."""
        return self._num_received > 1

    def _remember(self, _number: int, _frame: object) -> None:
        self._num_received += 1


def print_what_can_be_printed() -> None:
    """Print a question mark for each character that the terminal's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _load_settings(data_dir: Path | None, host: str | None, port: int | None) -> AppSettings:
    given = {"data_dir": data_dir, "host": host, "port": port}
    chosen: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    settings = AppSettings.load(**chosen)
    chosen["data_dir"] = settings.data_dir.absolute()
    if settings.port == 0:
        chosen["port"] = free_port(settings.host)
    settings = AppSettings.load(**chosen)
    settings.make_directories()
    return settings


@contextmanager
def _exclusive(settings: AppSettings) -> Iterator[None]:
    """Hold the data directory's lock, which the system releases however this process ends."""
    lock = FileLock(settings.data_dir / "up.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(
            f"PAINTBOX_DATA_DIR: another `paintbox up` is using {settings.data_dir}.",
            "Use that service, stop it, or choose another folder with --data-dir.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _prepare(settings: AppSettings, console: Console) -> None:
    database = open_database(settings.resolved_database_url)
    try:
        prepare_database(database, settings, say=console.print)
        if settings.api_key is None and not are_keys_required(database, settings.keys_file):
            console.print(_OPEN)
    finally:
        database.close()


if __name__ == "__main__":
    typer.run(up)
