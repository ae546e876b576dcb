"""Evaluations that were requested, the jobs that do them, and their reports."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.orm import defer

from contract.datasets import DatasetKind
from contract.evaluations import EvaluationOptions, EvaluationReport, EvaluationRequest
from contract.jobs import JobKind, JobStatus, Priority
from registry.aliases import Aliases
from registry.datasets import Datasets, require_ready
from registry.errors import RequestRefusedError
from registry.filters import ANY, ListFilters
from registry.jobs import Jobs
from registry.paging import Page, read_page
from registry.references import names
from registry.repository import Repository
from registry.tables import DatasetRow, EvaluationRow, JobRow
from registry.versions import Versions

_MAX_NAMED = 5


class Evaluations(Repository):
    """Evaluations within one transaction."""

    def get(self, identifier: str) -> EvaluationRow:
        """Return the evaluation, or raise `NotFoundError`."""
        return self._get(EvaluationRow, identifier, "evaluation")

    def newest(
        self,
        limit: int = 100,
        cursor: str | None = None,
        *,
        dataset: str | None = None,
        reference: str | None = None,
        statuses: Collection[JobStatus] = (),
        filters: ListFilters = ANY,
    ) -> Page[EvaluationRow]:
        """Return a page of evaluations, newest first. Reports are loaded on access only."""
        query = select(EvaluationRow).options(defer(EvaluationRow.report))
        if dataset is not None:
            query = query.where(EvaluationRow.dataset_id == dataset)
        if statuses:
            of_status = select(JobRow.id).where(JobRow.status.in_([str(status) for status in statuses]))
            query = query.where(EvaluationRow.job_id.in_(of_status))
        if reference is not None:
            query = query.where(names(reference, EvaluationRow.id, EvaluationRow.name, "ev_"))
        query = filters.apply(query, EvaluationRow)
        return read_page(self._session, query, (EvaluationRow.created_at, EvaluationRow.id), limit, cursor)

    def submit(self, request: EvaluationRequest, owner: str | None = None) -> EvaluationRow:
        """Return a new evaluation with its queued job, which still has to be dispatched.

        Raises:
            NotFoundError: A version, an alias or the data set is unknown.
            RequestRefusedError: The versions have different bases, or the data set or the labels do not fit.
        """
        version_ids, base_fingerprint = self._resolve(request.versions)
        dataset = Datasets(self._session, self._now).hold(request.dataset)
        split = _require_split(dataset, request)
        identifier = f"ev_{secrets.token_hex(12)}"
        priority = Priority[request.priority.upper()]
        job = Jobs(self._session, self._now).create(
            JobKind.EVALUATE, identifier, owner, priority=priority, webhook_url=request.webhook_url
        )
        row = EvaluationRow(
            id=identifier,
            name=request.name or f"{dataset.name[:180]}, {split}",
            request=request.model_dump(mode="json", include=set(EvaluationOptions.model_fields)),
            version_ids=version_ids,
            dataset_id=dataset.id,
            split=split,
            base_fingerprint=base_fingerprint,
            job_id=job.id,
            owner=owner,
            created_at=self._now(),
        )
        self._session.add(row)
        self._session.flush()
        return row

    def require_inputs(self, identifier: str) -> None:
        """Refuse to try an evaluation again whose data set or versions have been deleted."""
        row = self.get(identifier)
        Datasets(self._session, self._now).hold(row.dataset_id)
        for version_id in row.version_ids:
            Versions(self._session, self._now).serving_precision(version_id)

    def complete(self, identifier: str, report: EvaluationReport) -> None:
        """Attach the report of a finished evaluation."""
        self.get(identifier).report = report.to_json()

    # -- inside -------------------------------------------------------------------------------------------------

    def _resolve(self, references: Sequence[int | str]) -> tuple[list[int], str]:
        """Return the ids of versions, and the fingerprint of their base."""
        versions, aliases = Versions(self._session, self._now), Aliases(self._session, self._now)
        ids = [each if isinstance(each, int) else aliases.get(each).version_id for each in references]
        rows = [versions.get_not_trashed(each, lock=True) for each in ids]
        bases = {row.base_fingerprint for row in rows}
        if len(bases) > 1:
            other = next(row for row in rows if row.base_fingerprint != rows[0].base_fingerprint)
            raise RequestRefusedError(
                "several_bases",
                f"Versions {rows[0].id} and {other.id} are of different base models.",
                "Evaluate the versions of each base in a request of their own.",
            )
        return list(dict.fromkeys(ids)), rows[0].base_fingerprint


def _require_split(dataset: DatasetRow, request: EvaluationOptions) -> str:
    """Return the split to evaluate on; refuse a data set that has no images in it, or labels that do not fit."""
    require_ready(dataset)
    is_pool = dataset.kind == DatasetKind.POOL
    split = request.split or ("train" if is_pool else "test")
    there = [each for each, shard in (dataset.shards or {}).items() if shard["num_images"]]
    if split not in there:
        raise RequestRefusedError(
            "empty_split",
            f"Data set {dataset.id} ({dataset.name!r}) has no images in {split}.",
            f"It has images in {', '.join(sorted(there))}: name one of them as `split`.",
        )
    if is_pool and request.labels is None:
        raise RequestRefusedError(
            "unlabelled_pool",
            f"Data set {dataset.id} ({dataset.name!r}) is a pool of unlabelled images.",
            "Send the labels to predict as `labels`.",
        )
    if request.labels is not None and not is_pool:
        _require_classes(dataset, request.labels)
    return split


def _require_classes(dataset: DatasetRow, labels: Sequence[str]) -> None:
    missing = sorted(set(dataset.classnames or ()) - set(labels))
    if missing:
        some = ", ".join(map(repr, missing[:_MAX_NAMED]))
        more = f" and {len(missing) - _MAX_NAMED} more" if len(missing) > _MAX_NAMED else ""
        raise RequestRefusedError(
            "missing_labels",
            f"`labels` lack classes of data set {dataset.id} ({dataset.name!r}): {some}{more}.",
            "Add these classes, or leave `labels` out to use the data set's own.",
        )
