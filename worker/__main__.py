"""`python -m worker`: a worker process that runs one job at a time."""

from __future__ import annotations

import sys

from registry.errors import RegistryError
from worker.logs import set_up_logging
from worker.preparing import exit_status, prepare
from worker.settings import WorkerSettings


def main() -> int:
    """Prepare the worker, then consume dispatch messages until told to stop; return the exit status.

    2: a setting is wrong; 1: the database is unavailable.
    """
    try:
        settings = WorkerSettings.load()
        set_up_logging(settings.log_level)
        prepare(settings)
    except RegistryError as error:
        sys.stderr.write(f"paintbox worker: {error}\n")
        return exit_status(error)
    from worker.celery_app import celery_app, consume

    consume(celery_app, settings.log_level, settings.worker_name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
