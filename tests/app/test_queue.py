"""The dispatcher over a real Valkey server: what it sends, and that it never fails."""

import socket
import time

import pytest
import redis

from app.jobs.dispatcher import CeleryDispatcher, Dispatcher, MemoryDispatcher
from contract.jobs import QUEUE_NAME, TASK_NAME
from tests.app.conftest import free_port


def test_a_ring_is_one_message_with_the_tasks_name_and_the_jobs_id(broker_url: str) -> None:
    dispatcher = CeleryDispatcher(broker_url)
    assert dispatcher.depth() == 0
    dispatcher.dispatch("job_1")
    dispatcher.dispatch("job_2")
    assert dispatcher.depth() == 2
    with redis.Redis.from_url(broker_url) as probe:
        (newest, oldest) = probe.lrange(QUEUE_NAME, 0, -1)
    assert TASK_NAME.encode() in oldest
    assert b"job_1" in oldest or b"job_2" in newest  # the body is base64; its arguments show in the headers
    dispatcher.close()


def test_a_broker_that_is_down_neither_raises_nor_waits() -> None:
    dispatcher = CeleryDispatcher(f"redis://127.0.0.1:{free_port()}/0")
    start = time.monotonic()
    dispatcher.dispatch("job_1")
    assert dispatcher.depth() is None
    assert time.monotonic() - start < 5
    dispatcher.close()


def test_a_broker_that_says_nothing_is_given_up_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dispatcher = CeleryDispatcher(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        start = time.monotonic()
        dispatcher.dispatch("job_1")
        assert dispatcher.depth() is None
        assert time.monotonic() - start < 20
        dispatcher.close()


@pytest.mark.parametrize("kind", ["memory", "celery"])
def test_every_dispatcher_counts_what_nobody_took(kind: str, broker_url: str) -> None:
    dispatcher: Dispatcher = MemoryDispatcher() if kind == "memory" else CeleryDispatcher(broker_url)
    assert dispatcher.depth() == 0
    dispatcher.dispatch("job_1")
    assert dispatcher.depth() == 1
    dispatcher.close()
