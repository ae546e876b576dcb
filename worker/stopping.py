"""How a thread that watches over a trainer learns that its worker stops, or takes no other job.

Celery's warm shutdown waits for running tasks and tells them nothing, which for a patch job means hours. There are
three ways to ask for it: a signal, `control shutdown` (Flower's "Shut down"), and a broker that ends the worker. All of
them leave the worker's state changed, so that is what is looked at. `control cancel_consumer` drains a worker: it
finishes the job in work and takes no other one.
"""

from __future__ import annotations

import threading
from typing import Any

from celery.bootsteps import CLOSE, TERMINATE
from celery.signals import worker_init, worker_shutting_down
from celery.worker import state

from registry.contract import QUEUE_NAME

_stopping = threading.Event()
_workers: list[Any] = []


@worker_init.connect  # type: ignore[untyped-decorator]
def _remember_worker(sender: Any, **_: object) -> None:
    _workers.append(sender)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _remember_signal(**_: object) -> None:
    _stopping.set()


def is_stopping() -> bool:
    """Return whether this worker was asked to shut down."""
    asked = any(each is not None and each is not False for each in (state.should_stop, state.should_terminate))
    return _stopping.is_set() or asked or any(each.blueprint.state in (CLOSE, TERMINATE) for each in _workers)


def is_draining() -> bool:
    """Return whether this worker was told to take no more jobs, by cancelling its consumption of the queue."""
    return any(QUEUE_NAME not in each.app.amqp.queues.consume_from for each in _workers)
