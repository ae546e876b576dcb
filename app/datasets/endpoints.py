"""Routes of data sets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Path, Query, Request, Response, UploadFile
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
from app.http.dependencies import DatabaseDep
from app.http.idempotency import REPLAYED, IdempotencyKey
from app.http.invalid import invalid
from app.http.paging import Cursor, Filters, Limit, Reference
from app.http.problems import problem_responses
from app.labels.stored import StoredLabelsDep
from contract.access import Scope
from contract.bodies import FilePath, Id, Renaming, UploadId, WebhookUrl
from contract.datasets import DatasetKind, DatasetState
from contract.names import Name
from registry.errors import RequestRefusedError
from registry.intake.choices import Choices
from registry.owners import Owned

Force = Annotated[
    bool,
    Query(description="Delete it even if finished patches and evaluations refer to it; they can then not be retried"),
]

_SPLIT_OF = (
    "JSON object that maps the name of a folder or file to `train`, `validation`, `test` or `ignore`; only these names "
    "define splits. `{}`: no splits"
)
DatasetId = Annotated[Id, Path(description="Id of the data set, such as `ds_…`")]
router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
_OF_READING = ("manifest", "layout", "root", "class_level", "split_of", "path_column", "label_column")
FIELDS = frozenset({"name", "archive", "upload", "templates", "classnames", "kind", "webhook_url", *_OF_READING})
"""Fields of the upload form; only `templates` may be repeated."""


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
    intake: service.DatasetIntakeDep,
    caller: CallerDep,
    response: Response,
    name: Annotated[Name, Form(description="Display name; not unique")],
    archive: Annotated[UploadFile | None, File(description="The file; alternatively use `upload`")] = None,
    upload: Annotated[UploadId | None, Form(description="Id of a complete upload of `/v1/uploads`")] = None,
    templates: Annotated[
        list[str] | None, Form(description="Prompt templates with `{}`, repeated or as a JSON list")
    ] = None,
    classnames: Annotated[str | None, Form(description="JSON object that maps classes to display names")] = None,
    manifest: Annotated[FilePath | None, Form(description="Path of the CSV manifest in the archive")] = None,
    kind: Annotated[
        DatasetKind,
        Form(description="`pool`: images without labels, in any folders, for use as `anchors.dataset`"),
    ] = DatasetKind.LABELLED,
    layout: Annotated[LayoutName | None, Form(description="Default: detected")] = None,
    root: Annotated[FilePath | None, Form(description="Folder of the archive to read; others are ignored")] = None,
    class_level: Annotated[
        ClassLevel | None, Form(description="Level of the class folder, counted from 1 below the root")
    ] = None,
    split_of: Annotated[str | None, Form(description=_SPLIT_OF, max_length=100_000)] = None,
    path_column: Annotated[ColumnName | None, Form(description="Table column with image paths")] = None,
    label_column: Annotated[ColumnName | None, Form(description="Table column with class labels")] = None,
    webhook_url: Annotated[WebhookUrl | None, Form(description="URL to call when the job ends, as for a patch")] = None,
    idempotency_key: IdempotencyKey = None,
) -> Dataset:
    """Upload images as a zip, tar, tar.gz or tar.zst archive, or as a Parquet file.

    An archive contains class folders (`CLASS/image`, or `SPLIT/CLASS/image` with `train`, `val` and `test`), images
    with a `metadata.csv`, `.jsonl` or `.parquet` (`file_name`, `label`), images with a CSV manifest (`filepath`,
    `title` or `label`), Parquet files (`image`, `label`) or WebDataset shards, such as an export of CLIP_benchmark.
    The file type is detected from the content, not from the name.

    An archive that can be read in more than one way is rejected with `ambiguous_layout` and the alternatives; choose
    one with `layout`, `root`, `class_level`, `split_of`, `path_column` and `label_column`. `reading` of the data set
    describes how it was read.

    Returns 202 with the data set in state `ingesting` and its job, or 200 if the same bytes were already uploaded with
    the same options. If the request is repeated with the same `Idempotency-Key`, returns 200 with the data set of the
    first request, even if that request consumed the `upload`.
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
    found = intake.submit(archive.file, asked) if archive is not None else intake.submit_upload(str(upload), asked)
    return present(response, found)


def present(response: Response, found: service.Submitted) -> Dataset:
    """Return the data set of a request that may have created it, with the status and headers that tell so."""
    response.status_code = 202 if found.is_new else 200
    if found.is_repeated:
        response.headers.update(REPLAYED)
    response.headers["Location"] = f"/v1/datasets/{found.dataset.id}"
    return found.dataset


@router.get("", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def list_datasets(
    database: DatabaseDep,
    filters: Filters,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: Annotated[
        Annotated[list[DatasetState], Field(fail_fast=True)] | None,
        Query(max_length=3, description="Filter; repeatable"),
    ] = None,
    reference: Reference = None,
) -> DatasetList:
    """List data sets, newest first."""
    return service.list_datasets(database, limit, cursor, state or (), reference, filters)


@router.get("/{dataset_id}", responses=problem_responses(404), dependencies=[needs(Scope.READ)])
def get_dataset(database: DatabaseDep, dataset_id: DatasetId) -> Dataset:
    """Return a data set: its state, classes, images per split and class, and rejected files."""
    return service.get_dataset(database, dataset_id)


@router.post(
    "/{dataset_id}/derive",
    status_code=201,
    responses={200: {"model": Dataset}, **problem_responses(404, 409)},
    dependencies=[needs(Scope.WRITE, stores=Stores.COUNTED)],
)
def derive_dataset(
    database: DatabaseDep, caller: CallerDep, response: Response, dataset_id: DatasetId, body: Derivation
) -> Dataset:
    """Create a data set from the images of another one, with other display names or templates, without a copy.

    Both data sets are immutable. Returns 201, or 200 if the same data set was derived before.
    """
    dataset, created = service.derive(database, dataset_id, body, caller.owner)
    response.status_code = 201 if created else 200
    response.headers["Location"] = f"/v1/datasets/{dataset.id}"
    return dataset


@router.patch("/{dataset_id}", responses=problem_responses(404), dependencies=[needs(Scope.WRITE, own=Owned.DATASET)])
def rename_dataset(database: DatabaseDep, dataset_id: DatasetId, body: Renaming) -> Dataset:
    """Change the name of a data set. Everything else is immutable, and its id stays."""
    return service.rename_dataset(database, dataset_id, body.name)


@router.delete(
    "/{dataset_id}",
    status_code=204,
    responses=problem_responses(404, 409),
    dependencies=[needs(Scope.WRITE, own=Owned.DATASET)],
)
def delete_dataset(database: DatabaseDep, labels: StoredLabelsDep, dataset_id: DatasetId, force: Force = False) -> None:
    """Delete a data set immediately and permanently. The same upload creates it again.

    Rejected while an unfinished job needs it, and with `dataset_in_use` while patches or evaluations refer to it;
    `force` overrides the latter. Versions are kept. Unreferenced blobs are deleted by the next `POST /v1/gc`, or by the
    service within an hour.
    """
    service.delete_dataset(database, labels, dataset_id, force=force)
