"""Idle workers poll the database, so that a broker that delivers nothing blocks no job.

A message can be lost, or be stuck in a dead connection. The job is in the database in any case, so a thread polls it,
and gives the worker a request as if the broker had delivered one.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import structlog
from celery import bootsteps
from celery.utils import uuid
from celery.worker import state
from celery.worker.request import Request
from kombu.message import Message

from contract.jobs import TASK_NAME
from registry.database import Database
from registry.jobs import Jobs
from worker.faults import DATABASE_AWAY
from worker.pool import SupervisorPool
from worker.settings import WorkerSettings
from worker.stopping import is_draining, is_stopping

_log = structlog.get_logger()


class Poller:
    """Polls the database for waiting jobs while the worker has a free slot."""

    def __init__(self, worker: Any, settings: WorkerSettings) -> None:
        self._worker = worker
        self._settings = settings
        self._database = Database(settings.resolved_database_url)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="paintbox-poller", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling, without waiting for a query in progress."""
        self._end.set()

    def look(self) -> bool:
        """Hand the worker a request if it has a place and a job waits; return whether it did."""
        if is_stopping() or is_draining() or len(state.reserved_requests) >= self._worker.pool.num_processes:
            return False
        try:
            with self._database.read() as session:
                waits = Jobs(session).has_free(self._settings.worker_kinds)
        except DATABASE_AWAY as error:
            _log.warning("database unavailable", error=type(getattr(error, "orig", None) or error).__name__)
            return False
        if waits:
            _log.info("found a queued job that the broker did not announce")
            self._request()
        return waits

    def _request(self) -> None:
        app = self._worker.app
        if app.tasks[TASK_NAME].__trace__ is None:  # it is made with the first connection, and there was none yet
            self._worker.consumer.update_strategies()
        told = app.amqp.as_task_v2(uuid(), TASK_NAME, args=[""])
        message = Message(  # type: ignore[no-untyped-call]
            body=json.dumps(told.body),
            headers=told.headers,
            properties=told.properties,
            content_type="application/json",
            content_encoding="utf-8",
        )
        request = Request(
            message,
            app=app,
            hostname=self._worker.hostname,
            task=app.tasks[TASK_NAME],
            body=told.body,
            headers=told.headers,
            decoded=True,
            on_ack=_nothing,
            on_reject=_nothing,
        )
        state.task_reserved(request)  # so that the worker knows that it is busy
        request.execute_using_pool(self._worker.pool)

    def _run(self) -> None:
        while not self._end.wait(self._settings.poll_seconds):
            self.look()


class PollerStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts and stops the poller with the worker."""

    requires = ("celery.worker.components:Pool",)

    def create(self, worker: Any) -> Poller | None:
        """Return the poller, which runs while the pool does; None for a pool that works in the main thread."""
        return Poller(worker, WorkerSettings.load()) if isinstance(worker.pool, SupervisorPool) else None


def _nothing(*_: object, **__: object) -> None:
    """Acknowledge nothing: the broker does not know this request."""
