"""Data sets that are collected from rows of others: the request, the manifest that a worker reads, the report."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from contract.bodies import Body, Id, VersionNumber, WebhookUrl
from contract.datasets import DatasetKind, Split
from contract.labels import MAX_LABEL, Templates
from contract.names import Name, check_text

MAX_SOURCES, MAX_ROWS = 100, 100_000
MAX_ROW = 2**31 - 1

Assignment = Literal["keep", "by_content"]
Row = Annotated[int, Field(strict=True, ge=0, le=MAX_ROW)]


def _check_class(text: str) -> str:
    check_text(text, MAX_LABEL)
    return text


Class = Annotated[str, Field(min_length=1, max_length=MAX_LABEL), AfterValidator(_check_class)]
_OF_DATASETS = frozenset({"split", "rows"})
_OF_EVALUATIONS = frozenset({"version", "wrong", "predicted", "changed"})


class RowsOf(Body):
    """Images of a data set, or those that predictions of an evaluation choose."""

    dataset: Id | None = Field(default=None, description="Id of a ready data set; or name an `evaluation`")
    evaluation: Id | None = Field(default=None, description="Id of a finished evaluation; its images are those judged")
    split: Split | None = Field(default=None, description="Of a data set: only images of this split")
    rows: Annotated[tuple[Row, ...], Field(fail_fast=True, min_length=1, max_length=MAX_ROWS)] | None = Field(
        default=None, description="Of a data set, with `split`: only these rows. Default: all"
    )
    label: Class | None = Field(default=None, description="Only images of this class")
    version: VersionNumber | None = Field(
        default=None, description="Of an evaluation: which version's answers. Default: the first one"
    )
    wrong: bool | None = Field(default=None, description="Of an evaluation: whether the answer is wrong")
    predicted: Class | None = Field(default=None, description="Of an evaluation: only images with this answer")
    changed: bool | None = Field(
        default=None, description="Of an evaluation: whether the first version's answer is another one"
    )
    as_split: Split | None = Field(default=None, description="Split of these images. Default: as `splits` says")
    as_label: Name | None = Field(default=None, description="Class of these images. Default: the one that they have")

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.dataset is None) == (self.evaluation is None):
            raise ValueError("needs either `dataset` or `evaluation`")
        foreign = _OF_EVALUATIONS if self.evaluation is None else _OF_DATASETS
        given = sorted(name for name in foreign if getattr(self, name) is not None)
        if given:
            of = "an evaluation" if self.evaluation is None else "a data set"
            raise ValueError(f"has `{given[0]}`, which needs {of}")
        if self.rows is not None and self.split is None:
            raise ValueError("has `rows`, which need a `split`")
        return self


class CollectRequest(Body):
    """Body of `POST /v1/datasets/collect`."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    name: Name = Field(description="Display name; not unique")
    sources: Annotated[tuple[RowsOf, ...], Field(fail_fast=True, min_length=1, max_length=MAX_SOURCES)] = Field(
        alias="from", description=f"Which images; at most {MAX_ROWS:,} in all"
    )
    splits: Assignment = Field(
        default="keep",
        description="Split of images without `as_split`. `keep`: as in the source. `by_content`: by a hash of what the "
        "image shows, 80 % train, 10 % validation, 10 % test, so that the same image always gets the same split",
    )
    allow_test_images: bool = Field(
        default=False,
        description="Whether images of a test split of the sources may be in `train` or `validation`. If not, they "
        "stay in `test`, and other images that show the same are left out",
    )
    kind: DatasetKind = Field(
        default=DatasetKind.LABELLED, description="`pool`: all images without labels, for use as `anchors.dataset`"
    )
    templates: Templates | None = Field(
        default=None, description="Prompts with `{}`. Default: those of the first source; empty: the base model's own"
    )
    webhook_url: WebhookUrl | None = Field(
        default=None, description="URL that is sent a message when the job has ended"
    )

    @model_validator(mode="after")
    def _fits_a_pool(self) -> Self:
        if self.kind is DatasetKind.POOL:
            used = [name for name in ("as_split", "as_label") if any(getattr(each, name) for each in self.sources)]
            if used or self.templates:
                raise ValueError(f"`{(*used, 'templates')[0]}` cannot be combined with kind pool")
        return self


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True)


class CollectedSource(_Stored):
    """Images that were collected from one split of a data set."""

    dataset_id: str = Field(description="Id of the data set, which may have been deleted since")
    split: Split = Field(description="Split there")
    num_images: int = Field(description="Number of its images that were requested")
    as_split: Split | None = Field(description="Split that the request named; null: none")
    as_label: str | None = Field(description="Class that the request named; null: none")


class CollectionReport(_Stored):
    """Where the images of a collected data set come from."""

    sources: tuple[CollectedSource, ...] = Field(description="The sources")
    splits: Assignment = Field(description="Split of images without `as_split`: `keep` or `by_content`")
    allow_test_images: bool = Field(
        description="Whether images of a test split of the sources may be in `train` or `validation`"
    )
    num_left_out: int | None = Field(
        default=None,
        description="Number of images that were left out because a test split of a source has the same; null: not "
        "known yet",
    )
    num_test_images_in_training: int | None = Field(
        default=None,
        description="Number of images in `train` or `validation` that a test split of a source has; null: not known "
        "yet",
    )

    def to_json(self) -> dict[str, Any]:
        """Return plain data, from which `model_validate` makes the report again."""
        return self.model_dump(mode="json")


class ManifestSource(BaseModel):
    """Rows of one split of a data set, and where they go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(description="Id of the data set")
    split: Split = Field(description="Split of the rows")
    rows: tuple[int, ...] = Field(description="Rows in the split, ascending, from 0")
    as_split: Split | None = Field(description="Split of the images in the new data set; null: as `splits` says")
    as_label: str | None = Field(description="Class of the images in the new data set; null: the one that they have")


class Manifest(BaseModel):
    """What the ingest job of a collected data set reads in place of an archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[ManifestSource, ...] = Field(description="Which images")
    splits: Assignment = Field(description="Split of images without `as_split`")
    allow_test_images: bool = Field(description="Whether images of a test split of the sources may be trained on")

    def to_bytes(self) -> bytes:
        """Return the manifest as it is stored; the same images and options give the same bytes."""
        return self.model_dump_json().encode()

    def report(self) -> CollectionReport:
        """Return what is known before the images are read."""
        sources = tuple(
            CollectedSource(
                dataset_id=each.dataset,
                split=each.split,
                num_images=len(each.rows),
                as_split=each.as_split,
                as_label=each.as_label,
            )
            for each in self.sources
        )
        return CollectionReport(sources=sources, splits=self.splits, allow_test_images=self.allow_test_images)
