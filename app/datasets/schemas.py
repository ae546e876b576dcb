"""What a data set looks like on the wire, and how an upload's options are written."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from app.access.owner import Owner
from app.jobs.schemas import JobBrief, JobError
from app.paging import Listed
from registry.contract import DatasetState
from registry.datasets import DatasetOptions
from registry.names import Name
from registry.tables import DatasetRow, JobRow

Template = Annotated[str, StringConstraints(min_length=2, max_length=500, pattern=r"\{c?\}")]
Templates = Annotated[tuple[Template, ...], Field(max_length=200)]
_templates = TypeAdapter(Templates)
_display_names = TypeAdapter(dict[str, Name])


class Split(BaseModel):
    """What a split holds."""

    num_images: int
    per_class: dict[str, int]


class RejectedFile(BaseModel):
    """A file of the archive that was left out; beyond the first 100, one entry for each kind of reason."""

    file: str
    reason: str
    count: int = Field(default=1, description="How many files this stands for; `file` is the first of them")


class DuplicateFile(BaseModel):
    """One of the places where a picture is."""

    split: str
    file: str


class Duplicate(BaseModel):
    """A picture that is in more than one split."""

    num_files: int
    files: list[DuplicateFile] = Field(description="One of each split first; not all of them")


class Duplicates(BaseModel):
    """Pictures that are there more than once, by their decoded pixels. Nothing was removed."""

    across_splits: int = Field(description="Pictures in more than one split: leakage, which makes scores too good")
    by_splits: dict[str, int] = Field(description="The same by the splits, such as `train, test`")
    within_splits: int = Field(description="Files beyond the first of a picture in the same split")
    with_different_labels: int = Field(description="Pictures that are there under more than one class")
    examples: list[Duplicate]


class Dataset(BaseModel):
    """A labelled set of images: `ingesting`, then `ready` and immutable, or `failed`."""

    id: str
    name: str
    state: DatasetState
    classnames: list[str]
    templates: list[str] = Field(description="Empty: the base model's own")
    splits: dict[str, Split]
    rejected: list[RejectedFile]
    layout: str | None = Field(description="How the upload was arranged, such as `imagefolder`; null: not known yet")
    duplicates: Duplicates | None = Field(description="Null: not known yet, or ingested by an older release")
    derived_from: str | None = Field(description="The data set whose images these are")
    content_sha256: str | None
    job_id: str
    job: JobBrief
    error: JobError | None
    owner: Owner
    created_at: datetime

    @classmethod
    def of(cls, row: DatasetRow, job: JobRow) -> Dataset:
        """Return the resource of a row and its ingest job."""
        return cls(
            id=row.id,
            name=row.name,
            state=DatasetState(row.state),
            classnames=row.classnames or [],
            templates=row.options["templates"] if row.templates is None else row.templates,
            splits=_splits(row.shards or {}, row.counts or {}),
            rejected=row.rejected or [],
            layout=row.layout,
            duplicates=None if row.duplicates is None else Duplicates.model_validate(row.duplicates),
            derived_from=row.derived_from,
            content_sha256=row.content_sha256,
            job_id=row.job_id,
            job=JobBrief.of(job),
            error=JobError.of(job),
            owner=row.owner,
            created_at=row.created_at,
        )


class Derivation(BaseModel):
    """Body of `POST /v1/datasets/{id}/derive`: the same images under other words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    classnames: dict[str, Name] = Field(
        default={}, max_length=30_000, description="From the present name of a class to the new one; others stay"
    )
    templates: Templates | None = Field(
        default=None, description="Prompts with `{}`; left out: those of the source; empty: the base model's own"
    )


class DatasetList(Listed):
    """Data sets, newest first."""

    items: list[Dataset]


def parse_options(templates: list[str] | None, classnames: str | None, manifest: str | None = None) -> DatasetOptions:
    """Return the options of an upload's form fields.

    Args:
        templates: The field's values: templates, or one JSON list of templates.
        classnames: JSON object from class to display name.
        manifest: Path of the CSV manifest.

    Returns:
        The options in one canonical order, as they are part of the data set's identity.

    Raises:
        RequestValidationError: A field cannot be read.
    """
    given = [value for value in templates or [] if value]
    chosen = _read("templates", _templates, parse_list(given))
    names = _read("classnames", _display_names, _from_json("classnames", classnames) if classnames else {})
    return DatasetOptions(tuple(sorted(names.items())), chosen, manifest or None)


def parse_list(values: list[str]) -> list[Any]:
    """Return the values of a repeatable form field, which may also be one JSON list."""
    if len(values) != 1 or not values[0].lstrip().startswith("["):
        return values
    try:
        parsed = json.loads(values[0])
    except ValueError:  # a text that happens to start with a bracket
        return values
    return parsed if isinstance(parsed, list) else values


def _read(field: str, adapter: TypeAdapter[Any], value: Any) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise RequestValidationError(
            [{**item, "loc": ("body", field, *item["loc"])} for item in error.errors(include_url=False)]
        ) from error


def _from_json(field: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        item = {"type": "json_invalid", "loc": ("body", field), "msg": f"Not JSON: {error}", "input": text[:100]}
        raise RequestValidationError([item]) from error


def _splits(shards: dict[str, Any], counts: dict[str, Any]) -> dict[str, Split]:
    return {
        split: Split(num_images=shard["num_images"], per_class=counts.get(split, {})) for split, shard in shards.items()
    }
