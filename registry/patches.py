"""Patches: what was asked, which job does it, and the report."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.orm import defer

from contract.datasets import DatasetKind
from contract.jobs import JobKind, JobStatus, Priority
from contract.names import MAX_NAME
from contract.patch_request import PatchOptions, PatchRequest
from contract.patch_summary import PatchSummary
from contract.report import PatchReport
from registry.datasets import Datasets, require_ready
from registry.errors import RequestRefusedError
from registry.filters import ANY, ListFilters, uses_dataset
from registry.jobs import Jobs
from registry.paging import Page, read_page
from registry.references import names
from registry.repository import Repository
from registry.tables import AliasHistoryRow, BaseModelRow, DatasetRow, JobRow, PatchRow, VersionRow
from registry.versions import HEAD_PROFILE, TermSpec, Versions

_INSTANT = ", instant"


class Patches(Repository):
    """Patches within one transaction."""

    def get(self, patch_id: str) -> PatchRow:
        """Return the patch, or raise `NotFoundError`."""
        return self._get(PatchRow, patch_id, "patch")

    def names_of(self, patch_ids: Collection[str]) -> dict[str, str]:
        """Return the names of patches by id, read at once; of a deleted one there is none."""
        query = select(PatchRow.id, PatchRow.name).where(PatchRow.id.in_(patch_ids))
        return {row.id: row.name for row in self._session.execute(query)}

    def rename(self, patch_id: str, name: str) -> PatchRow:
        """Return the patch under another name; its versions keep theirs. Errors as for `get`."""
        row = self._get(PatchRow, patch_id, "patch", locked=True)
        row.name = name
        return row

    def newest(
        self,
        limit: int = 100,
        cursor: str | None = None,
        *,
        statuses: Collection[JobStatus] = (),
        reference: str | None = None,
        dataset: str | None = None,
        filters: ListFilters = ANY,
    ) -> Page[PatchRow]:
        """Return a page of patches, newest first. Reports are loaded on access only.

        Args:
            dataset: Id of a data set that they use; None: any.
        """
        query = select(PatchRow).options(defer(PatchRow.report))
        if statuses:
            of_status = select(JobRow.id).where(JobRow.status.in_([str(status) for status in statuses]))
            query = query.where(PatchRow.job_id.in_(of_status))
        if reference is not None:
            query = query.where(names(reference, PatchRow.id, PatchRow.name, "pt_"))
        if dataset is not None:
            query = query.where(uses_dataset(dataset))
        query = filters.apply(query, PatchRow)
        return read_page(self._session, query, (PatchRow.created_at, PatchRow.id), limit, cursor)

    def undecided(self, limit: int) -> Sequence[PatchRow]:
        """Return the newest patches whose version no alias has ever named, and that is not in the trash."""
        served = select(AliasHistoryRow.to_version_id).where(AliasHistoryRow.to_version_id.is_not(None))
        kept = select(VersionRow.id).where(VersionRow.deleted_at.is_(None))
        query = select(PatchRow).where(PatchRow.version_id.in_(kept), PatchRow.version_id.not_in(served))
        query = query.options(defer(PatchRow.report)).order_by(PatchRow.created_at.desc(), PatchRow.id.desc())
        return self._session.scalars(query.limit(limit)).all()

    def newest_finished(self, base_fingerprint: str, limit: int) -> Sequence[PatchRow]:
        """Return the newest patches of a base that have a report, newest first."""
        of_base = (PatchRow.base_fingerprint == base_fingerprint) & PatchRow.version_id.is_not(None)
        query = select(PatchRow).where(of_base).order_by(PatchRow.created_at.desc(), PatchRow.id.desc()).limit(limit)
        return self._session.scalars(query).all()

    def submit(self, request: PatchRequest, default_base: str, owner: str | None = None) -> PatchRow:
        """Return a new patch with its queued job, which, or whose child jobs, still have to be dispatched.

        With method `auto` an instant patch with a job of its own is submitted before it, so that it is done first.
        """
        base = self._base_of(request, default_base)
        self._require_datasets(request)
        if request.extends is not None:
            continued, _ = self.require_head_term(request.extends, base.fingerprint)
            _require_kept(request, continued)
        first = self.submit(_instantly(request), default_base, owner) if request.method == "auto" else None
        patch_id = f"pt_{secrets.token_hex(12)}"
        jobs, priority = Jobs(self._session, self._now), Priority[request.priority.upper()]
        job = jobs.create(JobKind.PATCH, patch_id, owner, priority=priority, webhook_url=request.webhook_url)
        if request.method == "parallel":  # its fine-tuning runs need not know of each other
            for task in request.tasks:
                jobs.create(JobKind.FINETUNE, patch_id, owner, priority=priority, parent_id=job.id, part=task)
        row = PatchRow(
            id=patch_id,
            name=request.name,
            request=request.model_dump(mode="json", include=set(PatchOptions.model_fields)),
            base_fingerprint=base.fingerprint,
            job_id=job.id,
            instant_patch_id=None if first is None else first.id,
            owner=owner,
            created_at=self._now(),
        )
        self._session.add(row)
        self._session.flush()
        return row

    def require_datasets(self, patch_id: str) -> None:
        """Refuse to try a patch again whose data sets have been deleted."""
        request = PatchOptions.of_stored(self.get(patch_id).request)
        pool = request.anchors.dataset if request.anchors else None
        for identifier in (*request.tasks, *request.supported, *request.transfer, *([pool] if pool else ())):
            Datasets(self._session, self._now).hold(identifier)

    def require_head_term(self, patch_id: str, base_fingerprint: str | None = None) -> tuple[PatchRow, str]:
        """Return a finished patch of a head term alone, and the hash of that term.

        Raises:
            NotFoundError: There is no such patch.
            RequestRefusedError: It has no head term yet, changes weights, too, or has another base.
        """
        row = self.get(patch_id)
        terms = (row.report or {}).get("terms", ())
        is_head_alone = [each["profile"] for each in terms] == [HEAD_PROFILE]
        if not is_head_alone or base_fingerprint not in (
            None,
            row.base_fingerprint,
        ):
            raise RequestRefusedError(
                "not_extendable",
                f"Patch {patch_id} is not a finished patch of a head term alone on this base.",
                "Name a finished patch of method instant and of the same base; method auto starts one, too.",
            )
        return row, str(terms[-1]["task_vector_sha256"])

    def weights_of(self, version_id: int) -> tuple[VersionRow, Sequence[TermSpec]]:
        """Return a version on whose weights a head term can be put, and its terms.

        Raises:
            NotFoundError: There is no such version, or it is in the trash.
            RequestRefusedError: It has a head term.
        """
        versions = Versions(self._session)
        row, terms = versions.get_not_trashed(version_id), versions.terms(version_id)
        if any(term.is_head for term in terms):
            raise RequestRefusedError(
                "has_head_term",
                f"Version {version_id} has a head term already.",
                "Extend its instant patch with more data sets: POST /v1/patches/{id}/extend.",
            )
        return row, terms

    def _base_of(self, request: PatchRequest, default: str) -> BaseModelRow:
        """Return the base of a request: the named one, that of its version, or the default."""
        versions = Versions(self._session, self._now)
        if request.version is None:
            return versions.base_by_ref(request.base or default)
        row, _ = self.weights_of(request.version)
        base = versions.base(row.base_fingerprint)
        if request.base is not None and versions.base_by_ref(request.base).fingerprint != base.fingerprint:
            raise RequestRefusedError(
                "other_base",
                f"Version {request.version} has the base {base.ref!r}, not {request.base!r}.",
                "Leave base out, or name the base of the version.",
            )
        return base

    def _require_datasets(self, request: PatchRequest) -> None:
        datasets = Datasets(self._session, self._now)
        for identifier in request.tasks:
            _require_task(datasets.hold(identifier), ("train", "validation", "test"), "a patching task")
        supported = [datasets.hold(identifier) for identifier in request.supported]
        for row in supported:
            _require_task(row, ("validation", "test"), "a supported task")
        for identifier in request.transfer:
            _require_task(datasets.hold(identifier), ("test",), "a data set in transfer")
        if request.anchors is None:
            return
        if request.anchors.dataset is not None:
            _require_splits(datasets.hold(request.anchors.dataset), ("train",), "an anchor pool")
        if request.anchors.supported and not any((row.shards or {}).get("train") for row in supported):
            raise RequestRefusedError(
                "no_anchor_images",
                "No supported task has a train split for anchors.",
                "Use another data set as anchors.dataset, or upload a supported task with train images.",
            )

    def complete(self, patch_id: str, *, version_id: int, report: PatchReport) -> None:
        """Attach the finished patch's version, and the report, which then names it."""
        row = self.get(patch_id)
        row.version_id, row.report = version_id, report.model_copy(update={"version_id": version_id}).to_json()
        row.summary = PatchSummary.of(report).model_dump()


def _require_kept(request: PatchRequest, continued: PatchRow) -> None:
    if request.keep == "features" and PatchOptions.of_stored(continued.request).keep == "statistics":
        raise RequestRefusedError(
            "not_extendable",
            f"Patch {continued.id} keeps statistics of its images, not their features.",
            "Continue it with keep statistics.",
        )


def _instantly(request: PatchRequest) -> PatchRequest:
    """Return the instant patch that method `auto` starts with."""
    defaults = {name: PatchOptions.model_fields[name].get_default() for name in ("finetune", "anchors", "store")}
    alpha = request.alpha.model_copy(update={"path": "flat", "max_alpha": None})
    name = f"{request.name[: MAX_NAME - len(_INSTANT)]}{_INSTANT}"
    return request.model_copy(update={**defaults, "method": "instant", "alpha": alpha, "name": name})


def _require_task(row: DatasetRow, splits: tuple[str, ...], role: str) -> None:
    if row.kind == DatasetKind.POOL:
        raise RequestRefusedError(
            "unlabelled_pool",
            f"Data set {row.id} ({row.name!r}) is a pool of unlabelled images and cannot be {role}.",
            "Use it as anchors.dataset, or upload the images with labels.",
        )
    _require_splits(row, splits, role)


def _require_splits(row: DatasetRow, splits: tuple[str, ...], role: str) -> None:
    require_ready(row)
    missing = [split for split in splits if not (row.shards or {}).get(split)]
    if missing:
        raise RequestRefusedError(
            "empty_split",
            f"Data set {row.id} ({row.name!r}) has no images in {', '.join(missing)}, which {role} needs.",
            "Upload it again with these splits, or without named splits, so that they are created automatically.",
        )
