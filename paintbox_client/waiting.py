"""Waiting for a job."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from paintbox_client.errors import JobFailedError, JobTimeoutError
from paintbox_client.records import Record
from paintbox_client.transport import Transport

ENDED = ("succeeded", "failed", "cancelled")
POLL_SECONDS = 0.5

AnyJob = TypeVar("AnyJob", bound=Record)


def wait_for_job(
    transport: Transport,
    job_id: str,
    kind: type[AnyJob],
    on_update: Callable[[AnyJob], object] | None = None,
    poll_seconds: float = POLL_SECONDS,
    timeout: float | None = None,
) -> AnyJob:
    """Return the job as a record of this kind once it has succeeded; the rest is as for `Client.wait_for_job`."""
    started = time.monotonic()
    outage = transport.outage(is_wait=True, limit_seconds=timeout)
    while True:
        answer = transport.persist(lambda: transport.send_once("GET", f"/v1/jobs/{job_id}"), outage)
        job = kind(answer, transport)
        if on_update is not None:
            on_update(job)
        if job["status"] == "succeeded":
            return job
        if job["status"] in ENDED:
            raise JobFailedError(job)
        if timeout is not None and time.monotonic() - started > timeout:
            raise JobTimeoutError(job, timeout)
        time.sleep(poll_seconds)
