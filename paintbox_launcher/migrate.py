"""`paintbox migrate`: brings the database up to date before new processes start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from paintbox_launcher.supervision import CONFIGURATION_STATUS
from registry.database import newest_revision
from registry.errors import ConfigurationError, RegistryError
from registry.private_files import make_files_private
from registry.settings import StorageSettings
from registry.startup import open_database, prepare_database


def migrate(
    data_dir: Annotated[
        Path | None,
        typer.Option(envvar="PAINTBOX_DATA_DIR", help="Data directory. Default: `paintbox` in the user's data folder."),
    ] = None,
) -> None:
    """Bring the database's schema up to date, and exit; each process also does so when it starts."""
    make_files_private()
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    try:
        settings = StorageSettings.load(**({} if data_dir is None else {"data_dir": data_dir.absolute()}))
        settings.make_directories()
        database = open_database(settings.resolved_database_url)
        try:
            prepare_database(database, settings, say=console.print)
        finally:
            database.close()
    except RegistryError as error:
        Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True).print(f"Error: {error}")
        raise typer.Exit(CONFIGURATION_STATUS if isinstance(error, ConfigurationError) else 1) from error
    console.print(f"The database has revision {newest_revision()}.")
