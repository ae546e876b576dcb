"""Routes of data sets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Query, Request, Response, UploadFile
from pydantic import Field

from app.access.callers import CallerDep
from app.access.policies import Stores, needs
from app.datasets import service
from app.datasets.schemas import (
    ClassLevel,
    ColumnName,
    Dataset,
    DatasetList,
    Derivation,
    LayoutName,
    clean_path,
    parse_options,
    parse_split_of,
)
from app.http.idempotency import REPLAYED, IdempotencyKey
from app.http.invalid import invalid
from app.http.paging import Cursor, Limit, Reference
from app.http.problems import problem_responses
from app.http.services import ServicesDep
from contract.access import Scope
from contract.bodies import FilePath, Id, UploadId, WebhookUrl
from contract.datasets import DatasetKind, DatasetState
from contract.names import Name
from registry.errors import RequestRefusedError
from registry.intake.choices import Choices
from registry.owners import Owned

Force = Annotated[bool, Query(description="Also if patches that have ended name it; they cannot be retried then")]

_SPLIT_OF = (
    "JSON object from the name of a folder or file to `train`, `validation`, `test` or `ignore`. It is all that names "
    "splits then; `{}`: there are none"
)
router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
_OF_READING = ("manifest", "layout", "root", "class_level", "split_of", "path_column", "label_column")
FIELDS = frozenset({"name", "archive", "upload", "templates", "classnames", "kind", "webhook_url", *_OF_READING})
"""Of the form that uploads a data set; only `templates` may be there more than once."""


async def _refuse_unknown_fields(request: Request) -> None:
    """Refuse fields that the route would not read."""
    seen: set[str] = set()
    for name, _ in (await request.form()).multi_items():
        if name not in FIELDS:
            raise invalid(f"is not a field of this form: the fields are {', '.join(sorted(FIELDS))}", "body", name)
        if name in seen and name != "templates":
            raise invalid("is given more than once", "body", name)
        seen.add(name)


@router.post(
    "",
    status_code=202,
    responses={200: {"model": Dataset}, **problem_responses(400, 404, 409, 413, 429)},
    dependencies=[needs(Scope.WRITE, stores=Stores.COUNTED), Depends(_refuse_unknown_fields)],
)
def upload_dataset(
    services: ServicesDep,
    caller: CallerDep,
    response: Response,
    name: Annotated[Name, Form(description="For people; need not be unique")],
    archive: Annotated[UploadFile | None, File(description="The file; or give `upload`")] = None,
    upload: Annotated[UploadId | None, Form(description="Id of a complete upload of `/v1/uploads`")] = None,
    templates: Annotated[list[str] | None, Form(description="Prompts with `{}`, repeated or as a JSON list")] = None,
    classnames: Annotated[str | None, Form(description="JSON object from class to display name")] = None,
    manifest: Annotated[FilePath | None, Form(description="Path of the CSV manifest in the archive")] = None,
    kind: Annotated[
        DatasetKind,
        Form(description="`pool`: images without labels, in whatever folders, to name as `anchors.dataset`"),
    ] = DatasetKind.LABELLED,
    layout: Annotated[LayoutName | None, Form(description="Left out: recognised")] = None,
    root: Annotated[FilePath | None, Form(description="Folder of the archive to read; others are left out")] = None,
    class_level: Annotated[ClassLevel | None, Form(description="Folder below the root that names the class")] = None,
    split_of: Annotated[str | None, Form(description=_SPLIT_OF, max_length=100_000)] = None,
    path_column: Annotated[ColumnName | None, Form(description="Column of a table that names the images")] = None,
    label_column: Annotated[ColumnName | None, Form(description="Column of a table that names the classes")] = None,
    webhook_url: Annotated[WebhookUrl | None, Form(description="Told when the job has ended, as for a patch")] = None,
    idempotency_key: IdempotencyKey = None,
) -> Dataset:
    """Upload images: a zip, tar, tar.gz or tar.zst archive, or a Parquet file of labelled ones.

    An archive holds class folders (`CLASS/image`, or `SPLIT/CLASS/image` with `train`, `val` and `test`), images with a
    `metadata.csv`, `.jsonl` or `.parquet` (`file_name`, `label`), images with a CSV manifest (`filepath`, `title` or
    `label`), Parquet files (`image`, `label`) or WebDataset shards, such as a folder that CLIP_benchmark exports. The
    file's kind is told by its bytes, not by its name.

    An archive that can be read in more than one way is refused with `ambiguous_layout` and those ways; `layout`,
    `root`, `class_level`, `split_of`, `path_column` and `label_column` choose one. `reading` of the data set says how
    it was read.

    Answers 202 with the data set in state `ingesting` and its job, or 200 if the same bytes with the same options are
    there already. Sent again with the same `Idempotency-Key`, it answers 200 with the data set that the first request
    made, also if that one has used up the `upload`.
    """
    choices = Choices(
        layout=layout,
        root=clean_path(root or "") or None,
        class_level=class_level,
        split_of=parse_split_of(split_of),
        path_column=path_column or None,
        label_column=label_column or None,
        manifest=manifest or None,
    )
    options = parse_options(templates, classnames, choices, kind)
    asked = service.Submission(name, options, caller.owner, webhook_url, idempotency_key)
    if (archive is None) == (upload is None):
        raise RequestRefusedError("no_upload", "Exactly one file is required.", "Send either `archive` or `upload`.")
    if archive is not None:
        found = service.submit(services, archive.file, asked)
    else:
        found = service.submit_upload(services, str(upload), asked)
    dataset = found.dataset
    response.status_code = 202 if found.is_new else 200
    if found.is_repeated:
        response.headers.update(REPLAYED)
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return dataset


@router.get("", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def list_datasets(
    services: ServicesDep,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: Annotated[
        Annotated[list[DatasetState], Field(fail_fast=True)] | None,
        Query(max_length=3, description="Only these; repeat it"),
    ] = None,
    reference: Reference = None,
) -> DatasetList:
    """Data sets, newest first."""
    return service.list_datasets(services, limit, cursor, state or (), reference)


@router.get("/{dataset_id}", responses=problem_responses(404), dependencies=[needs(Scope.READ)])
def get_dataset(services: ServicesDep, dataset_id: Id) -> Dataset:
    """One data set: its state, classes, images per split and class, and the files that were left out."""
    return service.get_dataset(services, dataset_id)


@router.post(
    "/{dataset_id}/derive",
    status_code=201,
    responses={200: {"model": Dataset}, **problem_responses(404, 409)},
    dependencies=[needs(Scope.WRITE, stores=Stores.COUNTED)],
)
def derive_dataset(
    services: ServicesDep, caller: CallerDep, response: Response, dataset_id: Id, body: Derivation
) -> Dataset:
    """Make a data set of another's images with other display names or templates. Nothing is uploaded or copied.

    Both stay as they are from then on. Answers 201, or 200 if the same was derived before.
    """
    dataset, created = service.derive(services, dataset_id, body, caller.owner)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return dataset


@router.delete(
    "/{dataset_id}",
    status_code=204,
    responses=problem_responses(404, 409),
    dependencies=[needs(Scope.WRITE, own=Owned.DATASET)],
)
def delete_dataset(services: ServicesDep, dataset_id: Id, force: Force = False) -> None:
    """Delete a data set, at once and for good. The same upload makes it anew.

    Refused while a job that has not ended needs it, and with `dataset_in_use` while patches name it; `force` overrules
    the second. Versions stay. The next `POST /v1/gc`, or the service within the hour, frees the bytes that nothing else
    needs.
    """
    service.delete_dataset(services, dataset_id, force=force)
