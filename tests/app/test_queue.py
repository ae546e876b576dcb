"""The doorbell over a real Valkey server: what it sends, and that it never fails."""

import socket
import time

import pytest
import redis

from app.jobs.dispatcher import CeleryDoorbell, Doorbell, MemoryDoorbell
from contract.jobs import QUEUE_NAME, TASK_NAME
from tests.app.conftest import free_port


def test_a_ring_is_one_message_with_the_tasks_name_and_the_jobs_id(broker_url: str) -> None:
    doorbell = CeleryDoorbell(broker_url)
    assert doorbell.depth() == 0
    doorbell.ring("job_1")
    doorbell.ring("job_2")
    assert doorbell.depth() == 2
    with redis.Redis.from_url(broker_url) as probe:
        (newest, oldest) = probe.lrange(QUEUE_NAME, 0, -1)
    assert TASK_NAME.encode() in oldest
    assert b"job_1" in oldest or b"job_2" in newest  # the body is base64; its arguments show in the headers
    doorbell.close()


def test_a_broker_that_is_down_neither_raises_nor_waits() -> None:
    doorbell = CeleryDoorbell(f"redis://127.0.0.1:{free_port()}/0")
    start = time.monotonic()
    doorbell.ring("job_1")
    assert doorbell.depth() is None
    assert time.monotonic() - start < 5
    doorbell.close()


def test_a_broker_that_says_nothing_is_given_up_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        doorbell = CeleryDoorbell(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        start = time.monotonic()
        doorbell.ring("job_1")
        assert doorbell.depth() is None
        assert time.monotonic() - start < 20
        doorbell.close()


@pytest.mark.parametrize("kind", ["memory", "celery"])
def test_every_doorbell_counts_what_nobody_took(kind: str, broker_url: str) -> None:
    doorbell: Doorbell = MemoryDoorbell() if kind == "memory" else CeleryDoorbell(broker_url)
    assert doorbell.depth() == 0
    doorbell.ring("job_1")
    assert doorbell.depth() == 1
    doorbell.close()
