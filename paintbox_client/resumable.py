"""Sending a large file in parts, so that a broken connection costs one part and not the whole file (tus 1.0.0)."""

from __future__ import annotations

import os
from typing import IO

from paintbox_client.errors import ApiError, ServiceUnreachableError
from paintbox_client.transport import Transport

PART_BYTES = 16 << 20
_TUS = {"Tus-Resumable": "1.0.0"}
_UNKNOWN = -1


def send_in_parts(transport: Transport, stream: IO[bytes], part_bytes: int = PART_BYTES) -> str:
    """Return the id of a complete upload of a seekable stream, for the field `upload` of `POST /v1/datasets`."""
    length = stream.seek(0, os.SEEK_END)
    upload_id = _begin(transport, length)
    outage = transport.outage(is_wait=True)
    furthest, offset = 0, 0
    while furthest < length:
        try:
            if offset == _UNKNOWN:
                offset = _ask(transport, upload_id)
            else:
                offset = _send_part(transport, upload_id, stream, offset, part_bytes)
        except (ApiError, ServiceUnreachableError) as error:
            outage.wait(error)
            offset = _UNKNOWN
        if offset > furthest:
            furthest = offset
            outage.is_over()
    return upload_id


def _begin(transport: Transport, length: int) -> str:
    """Return the id of a new upload; if the response is lost, the upload expires."""
    headers = _TUS | {"Upload-Length": str(length)}
    outage = transport.outage(is_wait=False)
    begun = transport.persist(lambda: transport.exchange("POST", "/v1/uploads", headers=headers), outage)
    return begun["location"].rsplit("/", 1)[-1]


def _send_part(transport: Transport, upload_id: str, stream: IO[bytes], offset: int, part_bytes: int) -> int:
    """Return where the upload is after another part."""
    stream.seek(offset)
    headers = _TUS | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    answer = transport.exchange("PATCH", _path(upload_id), headers=headers, content=stream.read(part_bytes))
    return int(answer["upload-offset"])


def _ask(transport: Transport, upload_id: str) -> int:
    """Return where the upload is."""
    return int(transport.exchange("HEAD", _path(upload_id), headers=_TUS)["upload-offset"])


def _path(upload_id: str) -> str:
    return f"/v1/uploads/{upload_id}"
