"""What can go wrong between a client and a service.

ClientError
├── ApiError                 the service answered, and refused
├── InputError               what was given cannot be sent
├── ServiceUnreachableError  nothing answered
├── JobFailedError           a job that was waited for failed or was cancelled
└── JobTimeoutError          a job that was waited for still runs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """Base of all errors of the client. `detail` says what is wrong, `next` what to do about it."""

    def __init__(self, detail: str, next: str = "") -> None:
        super().__init__(f"{detail} {next}".strip())
        self.detail = detail
        self.next = next


class ApiError(ClientError):
    """The service answered, and refused.

    Args:
        status: HTTP status, 400 to 599.
        code: Stable and machine-readable.
        detail: What is wrong with the request.
        next: What to do next.
        fields: The parts of the request that cannot be used, as `location: message`.
    """

    def __init__(self, status: int, code: str, detail: str, next: str = "", fields: Sequence[str] = ()) -> None:
        super().__init__("\n  ".join((detail, *fields)), next)
        self.status = status
        self.code = code


class InputError(ClientError):
    """What was given cannot be sent; nothing was asked of the service."""


class ServiceUnreachableError(ClientError):
    """Nothing answered at this address, or the answer broke off."""

    def __init__(self, url: str, cause: str = "") -> None:
        reason = f" ({cause})" if cause else ""
        super().__init__(
            f"No Paintbox service answers at {url}{reason}.",
            "Start one with `paintbox up`, or name another with --url or PAINTBOX_URL.",
        )
        self.url = url


class JobFailedError(ClientError):
    """A job that was waited for failed or was cancelled; `job` is its last state."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        error = job.get("error") or {}
        self.job = dict(job)
        self.code = str(error.get("code") or job["status"])
        cause = str(error.get("detail") or f"It was {job['status']}.")
        super().__init__(
            f"Job {job['id']} {job['status']} ({self.code}): {cause}",
            f"`paintbox job {job['id']} --events` tells what happened before.",
        )


class JobTimeoutError(ClientError):
    """A job that was waited for still runs; `job` is its last state."""

    def __init__(self, job: Mapping[str, Any], timeout_seconds: float) -> None:
        super().__init__(
            f"Job {job['id']} is still {job['status']} after {timeout_seconds:g} s.",
            f"It goes on; look at it with `paintbox job {job['id']}`.",
        )
        self.job = dict(job)
