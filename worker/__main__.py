"""`python -m worker`: a worker process that takes one job at a time."""

from __future__ import annotations

import sys

from registry.database import Database
from registry.errors import ConfigurationError
from worker.logs import set_up_logging
from worker.settings import WorkerSettings


def main() -> int:
    """Migrate the database, then consume doorbell messages until told to stop; return the exit status."""
    try:
        settings = WorkerSettings.load()
        settings.make_directories()
    except ConfigurationError as error:
        sys.stderr.write(f"paintbox worker: {error}\n")
        return 2
    set_up_logging(settings.log_level)
    database = Database(settings.resolved_database_url)
    database.migrate()
    database.close()  # pool processes open their own
    from worker.celery_app import celery_app, consume

    consume(celery_app, settings.log_level)
    return 0


if __name__ == "__main__":
    sys.exit(main())
