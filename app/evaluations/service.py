"""Asking for evaluations, and reading their results."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

import structlog
from sqlalchemy.orm import Session

from app.evaluations.schemas import EvaluationBrief, EvaluationList, EvaluationResource, EvaluationStarted
from app.http.dependencies import DatabaseDep, SettingsDep, built
from app.jobs.schemas import Job
from app.jobs.starting import JobStarterDep, Submitted
from app.jobs.unit_of_work import UnitOfWork
from app.labels.checks import check_given, check_size
from contract.evaluations import EvaluationRequest
from contract.jobs import JobStatus
from registry.database import Database
from registry.evaluations import Evaluations
from registry.filters import ANY, ListFilters
from registry.jobs import Jobs
from registry.removal import Removal
from registry.tables import EvaluationRow

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class EvaluationIntake:
    """Accepts requests to evaluate."""

    starter: JobStarterDep
    database: DatabaseDep
    settings: SettingsDep

    def start(
        self, request: EvaluationRequest, key: str | None = None, owner: str | None = None
    ) -> tuple[EvaluationStarted, bool]:
        """Return the evaluation with its job, and whether it is new; what cannot succeed is rejected at once.

        The arguments and further errors are those of `JobStarter.start`.

        Raises:
            NotFoundError: A version, an alias or the data set is unknown.
            RequestRefusedError: It cannot be started.
        """
        if request.labels is not None:
            check_given(request.labels)
            check_size(len(request.labels), len(request.templates or ("",)), self.settings)

        def submit(unit: UnitOfWork) -> Submitted:
            row = unit.evaluations.submit(request, owner)
            return Submitted(row.id, (row.job_id,))

        identifier, is_new = self.starter.start(request, key, owner, submit)
        with self.database.read() as session:
            row = Evaluations(session).get(identifier)
            job = Job.of(Jobs(session).get(row.job_id))
            started = EvaluationStarted(evaluation=_resource(session, row), job=job)
        if is_new:
            _log.info("evaluation queued", evaluation=identifier, job_id=job.id)
        return started, is_new


EvaluationIntakeDep = Annotated[EvaluationIntake, built(EvaluationIntake)]


def list_evaluations(
    database: Database,
    limit: int,
    cursor: str | None,
    dataset: str | None = None,
    statuses: Collection[JobStatus] = (),
    reference: str | None = None,
    filters: ListFilters = ANY,
) -> EvaluationList:
    """Return a page of evaluations, newest first."""
    with database.read() as session:
        page = Evaluations(session).newest(
            limit, cursor, dataset=dataset, statuses=statuses, reference=reference, filters=filters
        )
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


def _resource(session: Session, row: EvaluationRow) -> EvaluationResource:
    return EvaluationResource.of(row, Jobs(session).get(row.job_id))
