"""Waiting for a job."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from paintbox_client.display import show_progress
from paintbox_client.errors import InputError, JobFailedError, JobTimeoutError
from paintbox_client.records import Record
from paintbox_client.transport import Transport

if TYPE_CHECKING:
    from paintbox_client.resources.jobs import JobDetail

ENDED = ("succeeded", "failed", "cancelled")


class Waitable(Record):
    """A job that can be waited for."""

    def wait(
        self,
        progress: bool = False,
        timeout: float | None = None,
        on_update: Callable[[JobDetail], object] = lambda job: None,
    ) -> JobDetail:
        """Return the job once it has succeeded.

        Args:
            progress: Show on standard error how far it is.
            timeout: Seconds after which to give up; None: never.
            on_update: Called with the job after each poll.

        Raises:
            InputError: This object did not come from a `Client`.
            JobFailedError: The job failed or was cancelled.
            JobTimeoutError: It still runs after the timeout.
        """
        source: Transport | None = self._source
        if source is None:
            raise InputError("This job did not come from a client.", "Call wait_for_job(id) of a client.")
        if not progress:
            return wait_for_job(source, self["id"], on_update, timeout=timeout)
        with show_progress(self["id"]) as show:
            return wait_for_job(source, self["id"], lambda job: (show(job), on_update(job)), timeout=timeout)


def wait_for_job(
    transport: Transport,
    job_id: str,
    on_update: Callable[[JobDetail], object] | None = None,
    poll_seconds: float = 0.5,
    timeout: float | None = None,
) -> JobDetail:
    """Return the job once it has succeeded; arguments and errors as for `Client.wait_for_job`."""
    from paintbox_client.resources.jobs import JobDetail  # which is a `Waitable`

    started = time.monotonic()
    outage = transport.outage(is_wait=True, limit_seconds=timeout)
    while True:
        answer = transport.persist(lambda: transport.send_once("GET", f"/v1/jobs/{job_id}"), outage)
        job = JobDetail(answer, transport)
        if on_update is not None:
            on_update(job)
        if job["status"] == "succeeded":
            return job
        if job["status"] in ENDED:
            raise JobFailedError(job)
        if timeout is not None and time.monotonic() - started > timeout:
            raise JobTimeoutError(job, timeout)
        time.sleep(poll_seconds)
