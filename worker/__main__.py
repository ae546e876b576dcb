"""`python -m worker`: a worker process that takes one job at a time."""

from __future__ import annotations

import sys

import structlog

from registry.errors import ConfigurationError, RegistryError
from registry.leftovers import sweep
from registry.private_files import make_files_private
from registry.startup import open_database, prepare_database
from worker.logs import set_up_logging
from worker.settings import WorkerSettings


def main() -> int:
    """Migrate the database, then consume doorbell messages until told to stop; return the exit status.

    That is 2 if a setting is wrong, and 1 if the database does not answer.
    """
    make_files_private()
    try:
        settings = WorkerSettings.load()
        settings.make_directories()
        set_up_logging(settings.log_level)
        _prepare_database(settings)
    except RegistryError as error:
        sys.stderr.write(f"paintbox worker: {error}\n")
        return 2 if isinstance(error, ConfigurationError) else 1
    from worker.celery_app import celery_app, consume

    consume(celery_app, settings.log_level)
    return 0


def _prepare_database(settings: WorkerSettings) -> None:
    database = open_database(settings.resolved_database_url)
    try:
        prepare_database(database, settings, say=structlog.get_logger().warning)
        sweep(settings, database)
    finally:
        database.close()  # pool processes open their own


if __name__ == "__main__":
    sys.exit(main())
