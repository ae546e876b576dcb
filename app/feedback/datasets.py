"""Data sets of corrections: which feedback is used, the job that makes them, and the patch to ask for next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple

import structlog
from pydantic import BaseModel, Field, model_validator

from app.datasets.schemas import Dataset, DisplayNames
from app.feedback.schemas import Answered
from app.feedback.suggestion import suggest_patch
from app.http.dependencies import BlobsDep, SettingsDep, built
from app.jobs.quota import check_quota
from app.jobs.unit_of_work import UnitsOfWorkDep
from app.jobs.webhooks.targets import check_target
from contract.bodies import Body, Id, VersionNumber, WebhookUrl
from contract.feedback import FeedbackSource, FeedbackState
from contract.labels import Templates
from contract.names import Name
from contract.patch_request import PatchOptions
from registry.corrections import MAX_CORRECTIONS, Manifest, compile_manifest
from registry.datasets import DatasetOptions
from registry.errors import NotFoundError, RequestRefusedError
from registry.feedback import Feedback, FeedbackFilter
from registry.intake.classnames import name_classes
from registry.tables import FeedbackRow

_USABLE = (FeedbackState.OPEN, FeedbackState.ACCEPTED)
_log = structlog.get_logger(__name__)


class CorrectionFilter(Body):
    """Which feedback becomes a data set; all conditions must hold. Only feedback with a label is used."""

    state: tuple[FeedbackState, ...] = Field(
        default=_USABLE, min_length=1, max_length=2, description="States: `open`, `accepted` or both"
    )
    label: Name | None = Field(default=None, description="This right label")
    predicted: Answered | None = Field(default=None, description="This answer")
    version: VersionNumber | None = Field(default=None, description="Answered by this version")
    source: FeedbackSource | None = Field(default=None, description="From this source")
    owner: Name | None = Field(default=None, description="Sent with the key of this name")

    @model_validator(mode="after")
    def _is_usable(self) -> CorrectionFilter:
        if not set(self.state) <= set(_USABLE):
            raise ValueError("state must be open or accepted: other feedback is not used")
        return self

    def conditions(self) -> FeedbackFilter:
        """Return the filter."""
        return FeedbackFilter(
            self.state,
            label=self.label,
            is_labelled=True,
            predicted=self.predicted,
            version_id=self.version,
            source=self.source,
            owner=self.owner,
        )


class CorrectionsRequest(Body):
    """Body of `POST /v1/datasets/from-feedback`."""

    name: Name = Field(description="Display name of the data set; not unique")
    ids: tuple[Id, ...] | None = Field(
        default=None,
        fail_fast=True,
        min_length=1,
        max_length=MAX_CORRECTIONS,
        description="Ids of the feedback to use, all with a label. Default: all that `filter` lets pass",
    )
    filter: CorrectionFilter | None = Field(
        default=None, description="Which feedback to use. Default: all open and accepted feedback with a label"
    )
    templates: Templates = Field(default=(), description="Prompt templates with `{}`. Default: the base model's own")
    classnames: DisplayNames = Field(default={}, description="From class to the name that prompts use")
    webhook_url: WebhookUrl | None = Field(default=None, description="URL that is called when the job has ended")

    @model_validator(mode="after")
    def _chooses_once(self) -> CorrectionsRequest:
        if self.ids is not None and self.filter is not None:
            raise ValueError("ids and filter are mutually exclusive")
        return self


class CorrectionsDataset(BaseModel):
    """A data set that is being made from feedback, and the patch to ask for when it is ready."""

    dataset: Dataset = Field(description="The data set, `ingesting`, with its job")
    num_images: dict[str, int] = Field(
        description="Images by split, before those are left out that show the same as a test image of a data set"
    )
    patch: PatchOptions = Field(
        description="Request of a patch on it, for `POST /v1/patches`: the supported tasks, and the tasks to train on "
        "again, are those of the patch of the version in `active`"
    )


class MadeDataset(NamedTuple):
    """A data set of corrections, and whether a job was queued for it."""

    resource: CorrectionsDataset
    is_new: bool


@dataclass(frozen=True)
class CorrectionsIntake:
    """Makes data sets from feedback."""

    units: UnitsOfWorkDep
    blobs: BlobsDep
    settings: SettingsDep

    def submit(self, request: CorrectionsRequest, owner: str | None) -> MadeDataset:
        """Return the data set of the chosen feedback; the same feedback and options return the same data set.

        Raises:
            NotFoundError: Named feedback does not exist.
            RequestRefusedError: There is no usable feedback, or too much, or no patch could be made from it.
            JobQuotaError: The owner has too many unfinished jobs.
        """
        if request.webhook_url is not None:
            check_target(request.webhook_url, self.settings.webhook_hosts)
        with self.units.database.read() as session:
            manifest = compile_manifest(_choose(Feedback(session), request))
        names = tuple(sorted(request.classnames.items()))
        name_classes(manifest.classes, {}, dict(names), "feedback")
        options = DatasetOptions(names, request.templates, is_feedback=True)
        return self._start(request, manifest, options, owner)

    def _start(
        self, request: CorrectionsRequest, manifest: Manifest, options: DatasetOptions, owner: str | None
    ) -> MadeDataset:
        data = manifest.to_bytes()
        sha256 = self.blobs.put_bytes(data)
        with self.units.begin() as unit:
            check_quota(unit.session, owner, self.settings.max_unfinished_jobs)
            row, is_new = unit.datasets.submit(
                request.name, sha256, options, owner, request.webhook_url, archive_bytes=len(data)
            )
            if is_new:
                # Another ingest of the same feedback may delete the manifest before it sees that this one needs it.
                unit.after_commit(partial(self.blobs.put_bytes, data))
                unit.dispatch([row.job_id])
            resource = CorrectionsDataset(
                dataset=Dataset.of(row, unit.jobs.get(row.job_id)),
                num_images=dict(Counter(each.split for each in manifest.corrections)),
                patch=suggest_patch(unit.session, row),
            )
        if is_new:
            _log.info("corrections queued", dataset=row.id, job_id=row.job_id, images=len(manifest.corrections))
        return MadeDataset(resource, is_new)


CorrectionsIntakeDep = Annotated[CorrectionsIntake, built(CorrectionsIntake)]


def _choose(feedback: Feedback, request: CorrectionsRequest) -> Sequence[FeedbackRow]:
    if request.ids is None:
        wanted = (request.filter or CorrectionFilter()).conditions()
        ids: Sequence[str] = feedback.ids(wanted, MAX_CORRECTIONS + 1)
    else:
        ids = list(dict.fromkeys(request.ids))
    if len(ids) > MAX_CORRECTIONS:
        raise RequestRefusedError(
            "too_many_corrections",
            f"More than {MAX_CORRECTIONS:,} corrections match.",
            "Choose fewer with `filter` or `ids`.",
        )
    rows = feedback.rows(ids)
    missing = set(ids) - {row.id for row in rows}
    if missing:
        raise NotFoundError("feedback", min(missing))
    unusable = [row for row in rows if row.label is None or row.state not in _USABLE]
    if unusable:
        raise RequestRefusedError(
            "unusable_feedback",
            f"Feedback {unusable[0].id} is {unusable[0].state} and its right label is {unusable[0].label!r}.",
            "Name only open or accepted feedback with a label; there are "
            f"{len(unusable):,} others among the {len(rows):,}.",
        )
    if not rows:
        raise RequestRefusedError(
            "no_feedback",
            "No open or accepted feedback with a label matches.",
            "Send corrections with their right labels: POST /v1/feedback.",
        )
    return rows
