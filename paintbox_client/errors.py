"""Errors of the client.

ClientError
├── ApiError                 the service answered, and refused
├── InputError               what was given cannot be sent
├── ServiceUnreachableError  nothing answered
├── JobFailedError           a job that was waited for failed or was cancelled
└── JobTimeoutError          a job that was waited for still runs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

_CODES = {
    "InputError": "wrong_usage",
    "ServiceUnreachableError": "service_unreachable",
    "JobFailedError": "job_failed",
    "JobTimeoutError": "job_timeout",
}
"""Codes of errors of the client itself."""


class ClientError(Exception):
    """Base of all errors of the client. `detail` says what is wrong, `next` how to resolve it."""

    def __init__(self, detail: str, next: str = "") -> None:
        super().__init__(detail, next)
        self.detail = detail
        self.next = next

    def __str__(self) -> str:
        return f"{self.detail} {self.next}".strip()

    def as_json(self) -> dict[str, Any]:
        """Return the error as JSON."""
        return {"code": _CODES.get(type(self).__name__, "error"), "detail": self.detail, "next": self.next}

    def after(self, num_tries: int, seconds: float) -> Self:
        """Return this error, which now says how often something was tried, and for how long."""
        if num_tries > 1:
            self.detail = f"{self.detail} Tried {num_tries} times in {seconds:.0f} s."
        return self


class ApiError(ClientError):
    """The service rejected the request.

    Args:
        status: HTTP status, 400 to 599.
        code: Stable and machine-readable.
        detail: What is wrong with the request.
        next: What to do next.
        fields: The invalid parts of the request, as `location: message`.
        retry_after_seconds: When to retry, if the service says so.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        next: str = "",
        fields: Sequence[str] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__("\n  ".join((detail, *fields)), next)
        self.status = status
        self.code = code
        self.summary = detail
        self.fields = tuple(fields)
        self.retry_after_seconds = retry_after_seconds

    def as_json(self) -> dict[str, Any]:
        """Return the error as JSON."""
        told = {"code": self.code, "detail": self.summary, "next": self.next, "status": self.status}
        return told | ({"errors": list(self.fields)} if self.fields else {})


class InputError(ClientError):
    """Invalid input; no request was sent."""


class ServiceUnreachableError(ClientError):
    """Nothing responded at this address, or not in time, or the response broke off.

    Args:
        url: The address.
        cause: The network's error.
        was_sent: Whether the request may have reached the service.
        timed_out: Whether the service accepted the request and did not respond.
    """

    def __init__(self, url: str, cause: str = "", *, was_sent: bool = False, timed_out: bool = False) -> None:
        reason = f" ({cause})" if cause else ""
        if timed_out:
            detail = f"The service at {url} did not respond in time{reason}."
            advice = "It may be busy: retry later, or increase --timeout or PAINTBOX_TIMEOUT_SECONDS."
        elif was_sent:
            detail = f"The connection to {url} was lost{reason}."
            advice = "Check with `paintbox system` that the service is running, then retry."
        else:
            detail = f"No Paintbox service is reachable at {url}{reason}."
            advice = "Start one with `paintbox up`, or set another URL with --url or PAINTBOX_URL."
        super().__init__(detail, advice)
        self.url = url
        self.was_sent = was_sent
        self.timed_out = timed_out


class JobFailedError(ClientError):
    """A job that was waited for failed or was cancelled; `job` is its last state."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        error = job.get("error") or {}
        self.job = dict(job)
        self.code = str(error.get("code") or job["status"])
        cause = f" ({self.code}): {error['detail']}" if error.get("detail") else "."
        ended = "was cancelled" if job["status"] == "cancelled" else str(job["status"])
        super().__init__(
            f"Job {job['id']} {ended}{cause}",
            f"Show its events with `paintbox job {job['id']} --events`.",
        )


class JobTimeoutError(ClientError):
    """A job that was waited for still runs; `job` is its last state."""

    def __init__(self, job: Mapping[str, Any], timeout_seconds: float) -> None:
        super().__init__(
            f"Job {job['id']} is still {job['status']} after {timeout_seconds:g} s.",
            f"The job continues; show it with `paintbox job {job['id']}`.",
        )
        self.job = dict(job)
