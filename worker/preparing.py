"""Preparation of a worker, whichever command starts it: folders and the database."""

from __future__ import annotations

import sys
from typing import Any

import structlog
from celery.signals import worker_init

from contract.jobs import QUEUE_NAME
from pipeline.telemetry import open_tracing
from registry.errors import ConfigurationError, RegistryError
from registry.leftovers import sweep
from registry.private_files import make_files_private
from registry.startup import open_database, prepare_database
from worker.settings import WorkerSettings

_log = structlog.get_logger()


def prepare(settings: WorkerSettings) -> None:
    """Create the folders, prepare the database, and remove old job logs and what killed processes left."""
    make_files_private()
    open_tracing(settings, "paintbox-worker").close()  # only to find out whether it can be opened
    settings.make_directories()
    database = open_database(settings.resolved_database_url)
    try:
        prepare_database(database, settings, say=_log.warning)
        sweep(settings, database)
    finally:
        database.close()


def exit_status(error: RegistryError) -> int:
    """Return the exit status of a worker that cannot start: 2 means that a retry is useless."""
    return 2 if isinstance(error, ConfigurationError) else 1


@worker_init.connect  # type: ignore[untyped-decorator]
def _prepare_worker(sender: Any, **_: object) -> None:
    """Prepare a worker that Celery's own command starts, without its banner in the log."""
    sender.quiet = True
    try:
        if QUEUE_NAME not in sender.app.amqp.queues.consume_from:
            raise ConfigurationError(
                f"-Q: jobs are sent to the queue {QUEUE_NAME} only.",
                "Omit -Q; set PAINTBOX_WORKER_KINDS to choose the kinds of jobs.",
            )
        prepare(WorkerSettings.load())
    except RegistryError as error:
        sys.stderr.write(f"paintbox worker: {error}\n")
        raise SystemExit(exit_status(error)) from error
