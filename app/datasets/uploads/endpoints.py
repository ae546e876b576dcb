"""Routes of resumable uploads: tus 1.0.0 (tus.io/protocols/resumable-upload), creation, termination and expiration."""

from __future__ import annotations

from email.utils import formatdate
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from app.access.callers import CallerDep
from app.access.policies import Stores, needs
from app.datasets.uploads.service import Upload, UploadsDep
from app.http.dependencies import SettingsDep
from app.http.errors import UnsupportedMediaTypeError, UploadRefusedError
from app.http.middleware import TUS_VERSION
from app.http.problems import problem_responses
from app.storage.service import StorageDep
from contract.access import Scope
from contract.bodies import UploadId

_EXTENSIONS = "creation,expiration,termination"
PART_MEDIA_TYPE = "application/offset+octet-stream"

UploadLength = Annotated[int, Header(ge=0, le=2**53, description="Length of the whole upload, in bytes")]
UploadOffset = Annotated[int, Header(ge=0, le=2**53, description="Offset of the body in the upload, in bytes")]
TusVersion = Annotated[str, Header(max_length=100, description=f"Version of the protocol: `{TUS_VERSION}`")]


def _require_tus(request: Request, tus_resumable: TusVersion = "") -> None:
    if tus_resumable != TUS_VERSION and request.method != "OPTIONS":  # used to discover the version
        raise UploadRefusedError(
            "tus_version", f"Tus-Resumable is {tus_resumable!r}.", f"Send Tus-Resumable: {TUS_VERSION}."
        )


router = APIRouter(prefix="/v1/uploads", tags=["uploads"], dependencies=[Depends(_require_tus)])


def _answer(status: int, upload: Upload | None = None, **headers: str) -> Response:
    told = {"Tus-Resumable": TUS_VERSION, "Cache-Control": "no-store"}
    if upload is not None:
        told |= {"Upload-Offset": str(upload.offset), "Upload-Expires": formatdate(upload.expires_at, usegmt=True)}
    return Response(status_code=status, headers=told | headers)


@router.options(
    "",
    status_code=204,
    response_class=Response,
    responses=problem_responses(),
    dependencies=[needs(Scope.WRITE)],
)
def describe_uploads(settings: SettingsDep) -> Response:
    """Return the supported version and extensions of tus, and the maximum size of an upload."""
    told = {
        "Tus-Version": TUS_VERSION,
        "Tus-Extension": _EXTENSIONS,
        "Tus-Max-Size": str(settings.max_upload_bytes),
    }
    return _answer(204, None, **told)


@router.post(
    "",
    status_code=201,
    response_class=Response,
    responses=problem_responses(412, 413),
    dependencies=[needs(Scope.WRITE, stores=Stores.COUNTED)],
)
def begin_upload(uploads: UploadsDep, storage: StorageDep, caller: CallerDep, upload_length: UploadLength) -> Response:
    """Create a resumable upload, which is sent in parts and can be continued after an interruption (tus 1.0.0).

    The header `Location` contains its URL. When it is complete, create a data set from it with `POST /v1/datasets` and
    its id as `upload`. It expires a day after the last part. Its declared length counts towards the storage quota.
    """
    storage.require_quota(caller.owner, upload_length)
    upload = uploads.create(upload_length, caller.owner)
    return _answer(201, upload, Location=f"/v1/uploads/{upload.id}")


@router.head(
    "/{upload_id}",
    response_class=Response,
    responses=problem_responses(404, 409, 412),
    dependencies=[needs(Scope.WRITE)],
)
async def find_offset(uploads: UploadsDep, upload_id: UploadId) -> Response:
    """Return how much of an upload was received: `Upload-Offset` of `Upload-Length` bytes.

    Ends a request that is appending to the upload but whose sender has stalled.
    """
    upload = await uploads.find_offset(upload_id)
    return _answer(200, upload, **{"Upload-Length": str(upload.num_bytes)})


@router.patch(
    "/{upload_id}",
    status_code=204,
    response_class=Response,
    responses=problem_responses(404, 408, 409, 412, 413, 415),
    openapi_extra={"requestBody": {"required": True, "content": {PART_MEDIA_TYPE: {"schema": {"type": "string"}}}}},
    dependencies=[needs(Scope.WRITE, stores=Stores.UNCOUNTED)],
)
async def append_to_upload(
    uploads: UploadsDep, request: Request, upload_id: UploadId, upload_offset: UploadOffset
) -> Response:
    """Append the body to an upload. Bytes received before a lost connection are kept; get their number with HEAD.

    A request takes over from an older one that is still appending to the same upload. A request ends after 20 seconds
    without data.
    """
    media_type = request.headers.get("content-type", "")
    if media_type != PART_MEDIA_TYPE:
        raise UnsupportedMediaTypeError(media_type, (PART_MEDIA_TYPE,))
    upload = await uploads.append(upload_id, upload_offset, request.stream())
    return _answer(204, upload)


@router.delete(
    "/{upload_id}",
    status_code=204,
    response_class=Response,
    responses=problem_responses(404, 409, 412),
    dependencies=[needs(Scope.WRITE)],
)
def remove_upload(uploads: UploadsDep, upload_id: UploadId) -> Response:
    """Delete an unfinished upload."""
    uploads.remove(upload_id)
    return _answer(204)
