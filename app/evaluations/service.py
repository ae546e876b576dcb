"""Asking for evaluations, and reading their results."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.evaluations.schemas import EvaluationBrief, EvaluationList, EvaluationResource, EvaluationStarted
from app.http.dependencies import SettingsDep, built
from app.jobs.quota import check_quota
from app.jobs.schemas import Job
from app.jobs.unit_of_work import UnitsOfWorkDep
from app.jobs.webhooks.targets import check_target
from app.labels.checks import check_given, check_size
from contract.evaluations import EvaluationRequest
from contract.jobs import JobStatus
from registry.database import Database
from registry.evaluations import Evaluations
from registry.jobs import Jobs
from registry.removal import Removal
from registry.tables import EvaluationRow

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class EvaluationIntake:
    """Accepts requests to evaluate."""

    units: UnitsOfWorkDep
    settings: SettingsDep

    def start(
        self, request: EvaluationRequest, key: str | None = None, owner: str | None = None
    ) -> tuple[EvaluationStarted, bool]:
        """Return the evaluation with its job, and whether it is new; what cannot succeed is rejected at once.

        Args:
            request: The request.
            key: The client's `Idempotency-Key`; the same request with the same key returns the same evaluation.
            owner: By the name on the key.

        Raises:
            NotFoundError: A version, an alias or the data set is unknown.
            RequestRefusedError: It cannot be started, or the key belongs to another request.
            JobQuotaError: The owner has too many unfinished jobs.
        """
        if request.labels is not None:
            check_given(request.labels)
            check_size(len(request.labels), len(request.templates or ("",)), self.settings)
        if request.webhook_url is not None:
            check_target(request.webhook_url, self.settings.webhook_hosts)
        try:
            return self._try_to_start(request, key, owner)
        except IntegrityError:
            if key is None:
                raise
            # The same request was sent twice concurrently; the other one has been committed.
            return self._try_to_start(request, key, owner)

    def _try_to_start(
        self, request: EvaluationRequest, key: str | None, owner: str | None
    ) -> tuple[EvaluationStarted, bool]:
        digest = hashlib.sha256(request.model_dump_json().encode()).hexdigest()
        with self.units.begin() as unit:
            known = unit.keys.find(owner, key, digest) if key else None
            if known is not None:
                return _started(unit.session, unit.evaluations.get(known)), False
            check_quota(unit.session, owner, self.settings.max_unfinished_jobs)
            row = unit.evaluations.submit(request, owner)
            if key:
                unit.keys.keep(owner, key, digest, row.id)
            unit.dispatch(unit.jobs.to_dispatch(row.job_id))
            started = _started(unit.session, row)
        _log.info("evaluation queued", evaluation=started.evaluation.id, job_id=started.job.id)
        return started, True


EvaluationIntakeDep = Annotated[EvaluationIntake, built(EvaluationIntake)]


def list_evaluations(
    database: Database,
    limit: int,
    cursor: str | None,
    dataset: str | None = None,
    statuses: Collection[JobStatus] = (),
    reference: str | None = None,
) -> EvaluationList:
    """Return a page of evaluations, newest first."""
    with database.read() as session:
        page = Evaluations(session).newest(limit, cursor, dataset=dataset, statuses=statuses, reference=reference)
        jobs = Jobs(session).by_ids([row.job_id for row in page])
        items = [EvaluationBrief.of(row, jobs[row.job_id]) for row in page]
        return EvaluationList(items=items, next_cursor=page.next_cursor)


def get_evaluation(database: Database, identifier: str) -> EvaluationResource:
    """Return the evaluation."""
    with database.read() as session:
        return _resource(session, Evaluations(session).get(identifier))


def delete_evaluation(database: Database, identifier: str) -> None:
    """Delete the evaluation."""
    with database.write() as session:
        Removal(session).delete_evaluation(identifier)
    _log.info("evaluation deleted", evaluation=identifier)


def _started(session: Session, row: EvaluationRow) -> EvaluationStarted:
    return EvaluationStarted(evaluation=_resource(session, row), job=Job.of(Jobs(session).get(row.job_id)))


def _resource(session: Session, row: EvaluationRow) -> EvaluationResource:
    return EvaluationResource.of(row, Jobs(session).get(row.job_id))
