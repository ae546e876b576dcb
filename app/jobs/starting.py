"""Requests that queue a job and may be repeated with the same `Idempotency-Key`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple, Protocol

from sqlalchemy.exc import IntegrityError

from app.http.dependencies import SettingsDep, built
from app.jobs.quota import check_quota
from app.jobs.unit_of_work import UnitOfWork, UnitsOfWorkDep
from app.jobs.webhooks.targets import check_target


class JobRequest(Protocol):
    """A validated body that asks for a job."""

    @property
    def webhook_url(self) -> str | None:
        """URL for the message about the finished job."""

    def model_dump_json(self) -> str:
        """Return the body as JSON."""


class Submitted(NamedTuple):
    """What a request created: the id of its subject, such as a patch, and those of the jobs, in their order."""

    subject_id: str
    job_ids: tuple[str, ...]


class Started(NamedTuple):
    """The subject of a request, and whether the request created it; False: an earlier one with its key did."""

    subject_id: str
    is_new: bool


@dataclass(frozen=True)
class JobStarter:
    """Starts jobs on request."""

    units: UnitsOfWorkDep
    settings: SettingsDep

    def start(
        self, request: JobRequest, key: str | None, owner: str | None, submit: Callable[[UnitOfWork], Submitted]
    ) -> Started:
        """Return what a request has started, once for each key of an owner.

        Args:
            request: The request.
            key: The client's `Idempotency-Key`.
            owner: By the name on the API key.
            submit: Creates the subject and its jobs; not called for a repeated request.

        Raises:
            RequestRefusedError: The key belongs to another request, or the webhook's target is not allowed.
            JobQuotaError: The owner has too many unfinished jobs.
        """
        if request.webhook_url is not None:
            check_target(request.webhook_url, self.settings.webhook_hosts)
        digest = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
        try:
            return self._try_to_start(digest, key, owner, submit)
        except IntegrityError:
            if key is None:
                raise
            # The same request was sent twice concurrently; the other one has been committed.
            return self._try_to_start(digest, key, owner, submit)

    def _try_to_start(
        self, digest: str, key: str | None, owner: str | None, submit: Callable[[UnitOfWork], Submitted]
    ) -> Started:
        with self.units.begin() as unit:
            known = unit.keys.find(owner, key, digest) if key else None
            if known is not None:
                return Started(known, is_new=False)
            check_quota(unit.session, owner, self.settings.max_unfinished_jobs)
            subject_id, job_ids = submit(unit)
            if key:
                unit.keys.keep(owner, key, digest, subject_id)
            unit.dispatch([each for job_id in job_ids for each in unit.jobs.to_dispatch(job_id)])
        return Started(subject_id, is_new=True)


JobStarterDep = Annotated[JobStarter, built(JobStarter)]
