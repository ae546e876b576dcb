"""API schemas of feedback."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.access.owner import Owner
from app.http.links import link_to
from app.http.paging import Listed
from app.http.resources import Resource
from app.inference.image_requests import Base64Image, VersionName
from contract.bodies import Body, Id, Reason
from contract.datasets import Split
from contract.feedback import FeedbackSource, FeedbackState
from contract.labels import MAX_LABEL
from contract.names import Name, check_text
from registry.feedback import Erased
from registry.tables import FeedbackRow

_MAX_ROW = 2**31 - 1
_SUBJECT = ("images", "dataset", "sample")


def _check_answer(text: str) -> str:
    check_text(text, MAX_LABEL)
    return text


Answered = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_LABEL), AfterValidator(_check_answer)
]
"""A label that a version answered."""


class FeedbackBody(BaseModel):
    """JSON body of `POST /v1/feedback`: an image, or a reference to a stored one, and what is right."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: tuple[Base64Image, ...] = Field(
        default=(), fail_fast=True, max_length=1, description="The image as base64; leave it out with a reference"
    )
    dataset: Id | None = Field(default=None, description="In place of an image: id of a data set; with split and row")
    split: Split | None = Field(default=None, description="Split of the image in the data set")
    row: int | None = Field(default=None, ge=0, le=_MAX_ROW, description="Row of the image in the split, from 0")
    sample: Id | None = Field(default=None, description="In place of an image: id of other feedback with the image")
    version: VersionName | None = Field(
        default=None, description="Id or alias of the version that answered. Default: `active`"
    )
    predicted: Answered | None = Field(default=None, description="The label that it answered")
    label: Name | None = Field(
        default=None, description="The right label. Default: wrong, but the right one is unknown"
    )
    note: Reason | None = Field(default=None, description="Remark, on one line")

    @model_validator(mode="after")
    def _names_one_image(self) -> Self:
        given = [name for name in _SUBJECT if getattr(self, name)]
        if len(given) != 1:
            raise ValueError("exactly one of images, dataset and sample is required")
        if (self.dataset is None) != (self.split is None) or (self.dataset is None) != (self.row is None):
            raise ValueError("dataset, split and row must be given together")
        return self


class FeedbackChange(Body):
    """Body of `PATCH /v1/feedback/{id}`; members that are left out stay as they are."""

    label: Name | None = Field(default=None, description="The right label; null: unknown")
    state: FeedbackState | None = Field(default=None, description="`open`, `accepted` or `dismissed`")
    note: Reason | None = Field(default=None, description="Remark, on one line; null: none")

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if self.state is FeedbackState.USED:
            raise ValueError("state used is set by the service when a data set has been made: send accepted")
        if "state" in self.model_fields_set and self.state is None:
            raise ValueError("state cannot be null: leave it out to keep it")
        return self


class FeedbackOrigin(BaseModel):
    """The stored image that feedback is about."""

    dataset: str = Field(description="Id of the data set")
    split: str = Field(description="Split of the image")
    row: int = Field(description="Row of the image in the split, from 0")


class FeedbackResource(Resource):
    """An image that was answered wrongly, or that was kept to be labelled."""

    id: str = Field(description="Id of the feedback, such as `fb_…`")
    source: FeedbackSource = Field(
        description="`sent` by somebody; `sampled`: kept because its best labels were close; `shadow`: kept because "
        "the version in shadow answered another label"
    )
    state: FeedbackState = Field(
        description="`open`, `accepted`, `dismissed`, or `used`: a data set was made with its image"
    )
    version_id: int | None = Field(description="Id of the version that answered; null: unknown")
    predicted: str | None = Field(description="The label that it answered; null: unknown")
    label: str | None = Field(description="The right label; null: unknown")
    note: str | None = Field(description="Remark; null: none")
    margin: float | None = Field(
        description="Of a kept image: score of the best label minus that of the second best; null: not kept"
    )
    origin: FeedbackOrigin | None = Field(description="The image of a data set that it is about; null: it was sent")
    dataset_id: str | None = Field(description="Id of the data set that was made with it; null: none")
    thumbnail: str = Field(description="Path of its thumbnail; add `?size=` for another size")
    num_bytes: int = Field(description="Size of the image file in bytes")
    owner: Owner
    created_at: datetime = Field(description="When it was stored")
    updated_at: datetime = Field(description="When it was last changed")
    expires_at: datetime | None = Field(description="When the service deletes it; null: never")

    @classmethod
    def of(cls, row: FeedbackRow) -> Self:
        """Return the resource of a row."""
        origin: Any = row.origin
        return cls.from_row(row, origin=origin, thumbnail=link_to(f"/v1/feedback/{row.id}/image"))


class FeedbackList(Listed):
    """List feedback, newest first."""

    items: list[FeedbackResource] = Field(description="The feedback")


class FeedbackErased(BaseModel):
    """Result of a deletion. The image files are gone when the response arrives."""

    deleted: int = Field(description="Number of corrections that were deleted")
    files_deleted: int = Field(
        description="Number of image files that were deleted; files that other corrections refer to are kept"
    )
    datasets: list[str] = Field(
        description="Ids of data sets that were made with this feedback and contain copies of its images; delete them, "
        "too, to erase the images"
    )
    has_more: bool = Field(description="Whether more feedback matches the filter: repeat the request")

    @classmethod
    def of(cls, erased: Erased, *, has_more: bool = False) -> Self:
        """Return the resource of a deletion."""
        return cls(
            deleted=erased.num_rows,
            files_deleted=erased.num_files,
            datasets=sorted(erased.dataset_ids),
            has_more=has_more,
        )
