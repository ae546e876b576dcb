"""Deleting data sets, patches and evaluations, unless something needs them; then their blobs can be collected."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, Text, cast, delete, exists, select, update

from contract.jobs import JobStatus
from registry.datasets import Datasets
from registry.errors import ConflictError, DatasetInUseError, PatchInUseError, name_some
from registry.filters import uses_dataset
from registry.repository import Repository
from registry.tables import (
    DatasetRow,
    EvaluationRow,
    IdempotencyKeyRow,
    JobAttemptRow,
    JobEventRow,
    JobRow,
    MeasurementRow,
    PatchRow,
    VersionRow,
    WebhookDeliveryRow,
)
from registry.unused_blobs import UnusedBlobs, blobs_of_dataset, blobs_of_patch


class Removal(Repository):
    """Deletions within one transaction."""

    def delete_dataset(self, identifier: str, *, force: bool = False) -> None:
        """Delete a data set. Uploading the same archive creates it again.

        Args:
            force: Whether to delete it although patches or evaluations that have ended refer to it.

        Raises:
            NotFoundError: There is no such data set.
            DatasetInUseError: Patches or evaluations refer to it, and `force` is not set.
        """
        jobs = self._locked_jobs(identifier)  # before the data set: ending a job locks in this order
        row = self._get(DatasetRow, identifier, "dataset", locked=True)
        self._require_ended(f"Data set {identifier}", jobs)
        patches = self._patches_with(identifier)  # making or retrying one holds the data set
        self._require_ended(f"Data set {identifier}", self._jobs_of_patches(patches))
        self._require_ended(f"Data set {identifier}", self._jobs_of_evaluations(identifier))
        self._require_ended(f"Data set {identifier}", self._jobs_of_collections(identifier))
        evaluations = self._evaluations_on(identifier)
        if (patches or evaluations) and not force:
            raise DatasetInUseError(identifier, [each.id for each in patches], evaluations)
        UnusedBlobs(self._session, self._now).add(blobs_of_dataset(row))
        self._session.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.subject_id == identifier))
        self._session.delete(row)
        self._session.flush()
        self._delete_jobs([job for job in jobs if not self._is_named(job)])

    def delete_patch(self, patch_id: str) -> None:
        """Delete a patch with its report and its jobs.

        Raises:
            NotFoundError: There is no such patch.
            PatchInUseError: It has versions, perhaps in the trash.
        """
        jobs = self._locked_jobs(patch_id)  # before the patch, as above
        row = self._get(PatchRow, patch_id, "patch", locked=True)
        self._require_ended(f"Patch {patch_id}", jobs)
        versions = select(VersionRow.id).where(VersionRow.patch_id == patch_id).order_by(VersionRow.id)
        version_ids = self._session.scalars(versions).all()
        if version_ids:
            raise PatchInUseError(patch_id, version_ids)
        UnusedBlobs(self._session, self._now).add(blobs_of_patch(row, jobs))
        self._delete_measurements(select(MeasurementRow).where(MeasurementRow.patch_id == patch_id))
        self._session.execute(delete(IdempotencyKeyRow).where(IdempotencyKeyRow.subject_id == patch_id))
        followers = update(PatchRow).where(PatchRow.instant_patch_id == patch_id)
        self._session.execute(followers.values(instant_patch_id=None))
        self._session.delete(row)
        self._session.flush()
        self._delete_jobs(jobs)

    def delete_evaluation(self, identifier: str) -> None:
        """Delete an evaluation with its job, and the measurements that no patch made and no other evaluation names.

        Raises:
            NotFoundError: There is no such evaluation.
        """
        jobs = self._locked_jobs(identifier)  # before the evaluation, as above
        row = self._get(EvaluationRow, identifier, "evaluation", locked=True)
        self._require_ended(f"Evaluation {identifier}", jobs)
        measured = [each["measurement_id"] for each in (row.report or {}).get("versions", ())]
        self._session.delete(row)
        self._session.flush()
        self._delete_jobs(jobs)
        of_evaluations = MeasurementRow.id.in_(measured) & MeasurementRow.patch_id.is_(None)
        self._delete_measurements(select(MeasurementRow).where(of_evaluations))

    def _delete_measurements(self, query: Select[MeasurementRow]) -> None:
        """Delete those of these measurements that no evaluation's report names."""
        for row in self._session.scalars(query).all():
            named = cast(EvaluationRow.report, Text).contains(f'"{row.id}"', autoescape=True)
            if not self._session.scalar(select(exists().where(named))):
                UnusedBlobs(self._session, self._now).add([row.predictions_sha256])
                self._session.delete(row)

    def _locked_jobs(self, subject_id: str) -> Sequence[JobRow]:
        """Return all jobs about something, locked, each after its parent."""
        query = select(JobRow).where(JobRow.subject_id == subject_id)
        query = query.order_by(JobRow.parent_id.is_not(None), JobRow.id).with_for_update()
        return self._session.scalars(query, execution_options={"populate_existing": True}).all()

    def _jobs_of_patches(self, patches: Sequence[PatchRow]) -> Sequence[JobRow]:
        query = select(JobRow).where(JobRow.id.in_([each.job_id for each in patches])).order_by(JobRow.id)
        return self._session.scalars(query, execution_options={"populate_existing": True}).all()

    def _jobs_of_evaluations(self, dataset_id: str) -> Sequence[JobRow]:
        evaluations = select(EvaluationRow.job_id).where(EvaluationRow.dataset_id == dataset_id)
        query = select(JobRow).where(JobRow.id.in_(evaluations)).order_by(JobRow.id)
        return self._session.scalars(query, execution_options={"populate_existing": True}).all()

    def _jobs_of_collections(self, dataset_id: str) -> Sequence[JobRow]:
        collecting = [each.job_id for each in Datasets(self._session).collecting_from(dataset_id)]
        query = select(JobRow).where(JobRow.id.in_(collecting)).order_by(JobRow.id)
        return self._session.scalars(query, execution_options={"populate_existing": True}).all()

    def _evaluations_on(self, dataset_id: str) -> Sequence[str]:
        """Return the ids of the evaluations on a data set, oldest first."""
        query = select(EvaluationRow.id).where(EvaluationRow.dataset_id == dataset_id)
        return self._session.scalars(query.order_by(EvaluationRow.created_at, EvaluationRow.id)).all()

    def _require_ended(self, what: str, jobs: Sequence[JobRow]) -> None:
        running = [job.id for job in jobs if not JobStatus(job.status).ended and job.parent_id is None]
        if running:
            raise ConflictError(
                f"{what} is used by these unfinished jobs: {name_some(running)}.",
                "Wait until they end, or cancel them: POST /v1/jobs/{id}/cancel.",
            )

    def _patches_with(self, identifier: str) -> list[PatchRow]:
        """Return the patches whose request names a data set, oldest first."""
        query = select(PatchRow).where(uses_dataset(identifier))
        return list(self._session.scalars(query.order_by(PatchRow.created_at, PatchRow.id)))

    def _is_named(self, job: JobRow) -> bool:
        """Return whether another data set, derived from the deleted one, still refers to the job."""
        return bool(self._session.scalar(select(exists().where(DatasetRow.job_id == job.id))))

    def _delete_jobs(self, jobs: Sequence[JobRow]) -> None:
        for job in jobs:
            for column in (JobAttemptRow.job_id, JobEventRow.job_id, WebhookDeliveryRow.job_id):
                self._session.execute(delete(column.class_).where(column == job.id))
            self._session.delete(job)
        self._session.flush()
