"""How a thread that supervises a trainer learns that its worker stops or drains.

Celery's warm shutdown waits for running tasks without telling them, which for a patch job means hours. There are three
ways to request it: a signal, `control shutdown` (Flower's "Shut down"), and a broker that ends the worker. All of them
change the worker's state, which is checked here. `control cancel_consumer` drains a worker: it finishes its job and
takes no other one.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from celery.bootsteps import CLOSE, TERMINATE
from celery.signals import worker_init, worker_shutting_down
from celery.worker import state

from contract.jobs import QUEUE_NAME
from worker.in_work import jobs_in_work

_GIVING_BACK_SECONDS = 13.0  # a trainer may take ten to save its checkpoint
_FAREWELL_SECONDS = 3.0
_stopping = threading.Event()
_workers: list[Any] = []


@worker_init.connect  # type: ignore[untyped-decorator]
def _remember_worker(sender: Any, **_: object) -> None:
    _workers.append(sender)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _remember_signal(**_: object) -> None:
    if not _stopping.is_set():
        _stopping.set()
        threading.Thread(target=_leave_in_time, name="paintbox-leaving", daemon=True).start()


def _leave_in_time() -> None:
    """Exit although Celery still waits for an unreachable broker: the jobs have been given back."""
    deadline = time.monotonic() + _GIVING_BACK_SECONDS
    while jobs_in_work() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(_FAREWELL_SECONDS)
    os._exit(0)


def is_stopping() -> bool:
    """Return whether this worker was asked to shut down."""
    asked = any(each is not None and each is not False for each in (state.should_stop, state.should_terminate))
    return _stopping.is_set() or asked or any(each.blueprint.state in (CLOSE, TERMINATE) for each in _workers)


def is_draining() -> bool:
    """Return whether this worker was told to take no more jobs, by `control cancel_consumer`."""
    return any(QUEUE_NAME not in each.app.amqp.queues.consume_from for each in _workers)
