"""API schemas of data sets, and the options of an upload."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import from_json

from app.access.owner import Owner
from app.http.invalid import invalid, refusal_of
from app.http.paging import Listed
from app.http.resources import Resource
from app.jobs.schemas import JobBrief, JobError
from contract.bodies import Body, FilePath
from contract.collections import CollectionReport
from contract.datasets import DatasetKind, DatasetState
from contract.labels import Templates
from contract.names import MAX_NAME, Name, NameRefusedError, check_text, clean_name, shorten
from registry.datasets import DatasetOptions
from registry.intake.choices import Choices
from registry.intake.rejects import MAX_FILES, MAX_KINDS
from registry.tables import DatasetRow, JobRow

MAX_REJECTED = MAX_FILES + MAX_KINDS
"""Maximum number of rejected files in a response; older releases stored an entry for every file."""

_MAX_CLASSES, _MAX_FILE = 30_000, 300
_MAX_SPLIT_NAMES = 50


def _stop_at_the_first(names: Any, validate: Callable[[Any], dict[str, str]]) -> dict[str, str]:
    """Validate display names by class; the first that cannot be used ends it, since each is an error of its own."""
    if isinstance(names, dict):
        if len(names) > _MAX_CLASSES:
            raise ValueError(f"has {len(names)} members, at most {_MAX_CLASSES} are allowed")
        for classname, name in names.items():
            if not _is_name(name):
                validate({classname: name})
    return validate(names)


def _is_name(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(clean_name(value))
    except NameRefusedError:
        return False


def _check_classes(names: dict[str, str]) -> dict[str, str]:
    for classname in names:
        try:
            check_text(classname)
        except NameRefusedError as error:
            raise ValueError(f"contains class {shorten(classname, 40)!r}, which {error}") from error
    return names


DisplayNames = Annotated[
    dict[str, Name],
    WrapValidator(_stop_at_the_first),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": _MAX_CLASSES,
            "additionalProperties": {"type": "string", "minLength": 1, "maxLength": MAX_NAME},
        }
    ),
]


def clean_path(path: str) -> str:
    """Return a path in an archive in the one spelling that names are compared in."""
    return unicodedata.normalize("NFC", path).replace("\\", "/").strip("/")


def _check_column(text: str) -> str:
    check_text(text)
    return text


ColumnName = Annotated[str, StringConstraints(max_length=MAX_NAME), AfterValidator(_check_column)]
"""Name or number of a table column."""

ClassLevel = Annotated[int, Field(ge=1, le=20)]
LayoutName = Literal[
    "imagefolder",
    "imagefolder-metadata",
    "csv-manifest",
    "parquet",
    "webdataset",
    "custom-vision",
    "ground-truth",
    "vertex-ai",
    "roboflow",
    "label-studio",
    "fiftyone",
    "coco",
]
_SplitName = Literal["train", "validation", "test", "ignore"]
_templates = TypeAdapter(Templates)
_split_of = TypeAdapter(Annotated[dict[FilePath, _SplitName], Field(max_length=_MAX_SPLIT_NAMES)])
_names_of_upload = TypeAdapter(Annotated[DisplayNames, AfterValidator(_check_classes)])


class Split(BaseModel):
    """The contents of a split."""

    num_images: int = Field(description="Number of images")
    per_class: dict[str, int] = Field(description="Number of images of each class, by name")
    taken_from: str | None = Field(
        default=None, description="The split of the upload that these images were in, if not one of this name"
    )


class SplitBrief(BaseModel):
    """The contents of a split, without its classes."""

    num_images: int = Field(description="Number of images")


class RejectedFile(BaseModel):
    """A file of the archive that was left out; beyond the first 100, one entry for each kind of reason."""

    file: str = Field(description="Path in the upload")
    reason: str = Field(description="Why it was rejected")
    count: int = Field(default=1, description="Number of files that this entry stands for; `file` is the first of them")

    @classmethod
    def of(cls, stored: dict[str, Any]) -> RejectedFile:
        """Return the resource of a stored entry."""
        file, reason = (shorten(stored[name], _MAX_FILE) for name in ("file", "reason"))
        return cls(file=file, reason=reason, count=stored.get("count", 1))


class DuplicateFile(BaseModel):
    """One of the places where a picture is."""

    split: str = Field(description="Split of the image: `train`, `validation` or `test`")
    file: str = Field(description="Path in the upload")


class Duplicate(BaseModel):
    """A picture that is in more than one split."""

    num_files: int = Field(description="Number of files with this picture")
    files: list[DuplicateFile] = Field(description="Some of the files, at least one of each split")


class Duplicates(BaseModel):
    """Pictures that occur more than once, compared by decoded pixels. Nothing was removed."""

    across_splits: int = Field(
        description="Number of pictures in more than one split: leakage, which makes scores too high"
    )
    by_splits: dict[str, int] = Field(description="The same by the splits, such as `train, test`")
    within_splits: int = Field(description="Number of repeated pictures within a split")
    with_different_labels: int = Field(description="Number of pictures with more than one class")
    examples: list[Duplicate] = Field(description="Some of the pictures in more than one split")


class Example(BaseModel):
    """An image with its detected label and split."""

    file: str = Field(description="Path in the upload")
    label: str = Field(description="Class of the image")
    split: str = Field(description="Split of the image: `train`, `validation` or `test`")


class ReadingWarning(BaseModel):
    """A warning about an upload that its owner should check."""

    code: str = Field(description="Stable, such as `one_class`, `unlabelled_folder`, `leakage` or `similar_classes`")
    detail: str = Field(description="Description, and what to do about it")


class Reading(BaseModel):
    """How an upload was read."""

    summary: str = Field(description="Such as `3 splits, 10 classes from folder level 2, 1 wrapper removed`")
    root: str = Field(description="Folder in the upload from which levels are counted; empty: the top")
    wrappers: int = Field(description="Number of enclosing folders that were removed")
    class_level: int | None = Field(description="Level of the class folder below the root; null: none")
    split_of: dict[str, str] = Field(description="Split of each folder that names one; at most 20")
    tables: list[str] = Field(description="Tables with labels; at most 20")
    named_splits: list[str] = Field(
        description="Splits that the upload names; empty: the images were split automatically"
    )
    examples: list[Example] = Field(description="Ten images of different classes, to check their labels")
    warnings: list[ReadingWarning] = Field(description="Warnings, at most 20")


class DatasetBrief(Resource):
    """A data set in a list, without class names and file names; see `GET /v1/datasets/{id}`."""

    id: str = Field(description="Id of the data set, such as `ds_…`")
    name: str = Field(description="Display name; not unique")
    kind: DatasetKind = Field(description="`labelled`, or `pool`: unlabelled images for `anchors.dataset`")
    state: DatasetState = Field(description="State of the data set")
    num_classes: int = Field(description="Number of classes; 0 while it is ingested, and for a pool")
    splits: dict[str, SplitBrief] = Field(description="Contents of each split, by name")
    layout: str | None = Field(description="Layout of the upload, such as `imagefolder`; null: not known yet")
    derived_from: str | None = Field(description="Id of the data set that it was derived from; null: uploaded")
    content_sha256: str | None = Field(description="SHA-256 over its images, classes and splits; null: not known yet")
    job_id: str = Field(description="Id of its ingest job")
    job: JobBrief = Field(description="Its job")
    error: JobError | None = Field(description="Error of the failed job; null: not failed")
    owner: Owner
    created_at: datetime = Field(description="When it was uploaded")

    @classmethod
    def of(cls, row: DatasetRow, job: JobRow) -> Self:
        """Return the resource of a row and its ingest job."""
        return cls.from_row(row, job=JobBrief.from_row(job), error=JobError.of(job), **cls._computed(row))

    @classmethod
    def _computed(cls, row: DatasetRow) -> dict[str, Any]:
        splits = {split: SplitBrief(num_images=each["num_images"]) for split, each in (row.shards or {}).items()}
        return {"num_classes": row.num_classes or 0, "splits": splits}


class Dataset(DatasetBrief):
    """A set of images: `ingesting`, then `ready` and immutable, or `failed`.

    A pool has no classes, and all of its images are in `train`.
    """

    classnames: list[str] = Field(description="Display names of the classes")
    templates: list[str] = Field(description="Prompt templates; empty: the base model's own")
    splits: dict[str, Split] = Field(description="Contents of each split, by name")  # type: ignore[assignment]
    rejected: list[RejectedFile] = Field(description=f"The first {MAX_FILES} files, then more by reason")
    decoder: int = Field(
        description="How pixels are read: 2, as a viewer shows them; 1, of earlier releases, without orientation, "
        "transparency and colour profile"
    )
    num_rejected: int = Field(description="Number of rejected files")
    duplicates: Duplicates | None = Field(
        description="Repeated pictures; null: not known yet, or ingested by an older release"
    )
    reading: Reading | None = Field(
        description="How the upload was read; null: not known yet, or ingested by an older release"
    )
    collected: CollectionReport | None = Field(
        description="Where the images come from, if they were collected from other data sets; null: uploaded"
    )

    @classmethod
    def _computed(cls, row: DatasetRow) -> dict[str, Any]:
        classnames, rejected = row.classnames or [], row.rejected or []
        return {
            "classnames": classnames,
            "num_classes": len(classnames),
            "templates": row.options["templates"] if row.templates is None else row.templates,
            "splits": _splits(row.shards or {}, row.counts or {}, row.taken_from or {}),
            "rejected": [RejectedFile.of(each) for each in rejected[:MAX_REJECTED]],
            "collected": None if row.collected is None else CollectionReport.model_validate(row.collected),
            "num_rejected": sum(each.get("count", 1) for each in rejected),
        }


class Derivation(Body):
    """Body of `POST /v1/datasets/{id}/derive`: the same images under other words."""

    name: Name = Field(description="Name of the new data set: 1 to 200 characters on one line")
    classnames: DisplayNames = Field(
        default={}, description="From the present name of a class to the new one; others stay"
    )
    templates: Templates | None = Field(
        default=None, description="Prompts with `{}`; left out: those of the source; empty: the base model's own"
    )


class DatasetList(Listed):
    """List data sets, newest first."""

    items: list[DatasetBrief] = Field(description="The data sets")


def parse_options(
    templates: list[str] | None,
    classnames: str | None,
    choices: Choices,
    kind: DatasetKind = DatasetKind.LABELLED,
) -> DatasetOptions:
    """Return the options of an upload's form fields, in one canonical order: they are part of the data set's identity.

    Args:
        templates: The field's values: templates, or one JSON list of templates.
        classnames: JSON object from class to display name.
        choices: How to read the upload.
        kind: A `pool` has no templates and no class names.

    Raises:
        RequestValidationError: A field cannot be parsed.
    """
    told = {"templates": templates, "classnames": classnames, **choices.as_json()}
    for field in (name for name, value in told.items() if value and kind is DatasetKind.POOL):
        raise invalid("cannot be combined with kind pool, because its images have no labels", "body", field)
    given = [value for value in templates or [] if value]
    chosen = _read("templates", _templates, parse_list(given))
    names = _read("classnames", _names_of_upload, _from_json("classnames", classnames) if classnames else {})
    return DatasetOptions(tuple(sorted(names.items())), chosen, choices, kind)


def parse_split_of(text: str | None) -> tuple[tuple[str, str], ...] | None:
    """Return the form field `split_of`, a JSON object from file or folder to split, in one canonical order."""
    if not text:
        return None
    found = _read("split_of", _split_of, _from_json("split_of", text))
    return tuple(sorted((clean_path(name), split) for name, split in found.items()))


def parse_list(values: list[str]) -> list[Any]:
    """Return the values of a repeatable form field, which may also be one JSON list."""
    if len(values) != 1 or not values[0].lstrip().startswith("["):
        return values
    try:
        parsed = from_json(values[0], allow_inf_nan=False)
    except ValueError:  # a single template that starts with a bracket
        return values
    return parsed if isinstance(parsed, list) else values


def _read(field: str, adapter: TypeAdapter[Any], value: Any) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise refusal_of(error, "body", field) from error


def _from_json(field: str, text: str) -> Any:
    try:
        return from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise invalid(f"is not valid JSON: {error}", "body", field) from error


def _splits(shards: dict[str, Any], counts: dict[str, Any], taken_from: dict[str, str]) -> dict[str, Split]:
    return {
        split: Split(num_images=shard["num_images"], per_class=counts.get(split, {}), taken_from=taken_from.get(split))
        for split, shard in shards.items()
    }
