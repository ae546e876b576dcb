"""Sending a large file in parts, so that a broken connection costs one part and not the whole file (tus 1.0.0)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import IO

from paintbox_client.errors import ApiError, ServiceUnreachableError
from paintbox_client.transport import Transport

PART_BYTES = 16 << 20
_TUS = {"Tus-Resumable": "1.0.0"}
_OFFSET_MISMATCH, _BUSY = "offset_mismatch", "upload_busy"


def send_in_parts(
    transport: Transport,
    stream: IO[bytes],
    part_bytes: int = PART_BYTES,
    patience_seconds: float = 60.0,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Return the id of a complete upload of the stream.

    Args:
        transport: Reaches the service.
        stream: Seekable; sent from its beginning.
        part_bytes: Bytes in one request.
        patience_seconds: How long the service may be out of reach before this gives up.
        sleep: Waits; tests pass their own.

    Returns:
        For the field `upload` of `POST /v1/datasets`.

    Raises:
        ApiError: The service refuses.
        ServiceUnreachableError: It stays out of reach.
    """
    length = stream.seek(0, os.SEEK_END)
    begun = transport.exchange("POST", "/v1/uploads", headers=_TUS | {"Upload-Length": str(length)})
    path = begun["location"]
    offset, deadline = 0, time.monotonic() + patience_seconds
    while offset < length:
        stream.seek(offset)
        headers = _TUS | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        try:
            answer = transport.exchange("PATCH", path, headers=headers, content=stream.read(part_bytes))
            offset, deadline = int(answer["upload-offset"]), time.monotonic() + patience_seconds
        except (ApiError, ServiceUnreachableError) as error:
            offset = _find_offset(transport, path, error, deadline, sleep)
    return path.rsplit("/", 1)[-1]


def _find_offset(
    transport: Transport, path: str, error: Exception, deadline: float, sleep: Callable[[float], None]
) -> int:
    """Return where the service is after a part got lost, or raise what went wrong once patience is over."""
    while True:
        if isinstance(error, ApiError) and error.code not in (_OFFSET_MISMATCH, _BUSY):
            raise error
        if time.monotonic() > deadline:
            raise error
        sleep(0.5)
        try:
            return int(transport.exchange("HEAD", path, headers=_TUS)["upload-offset"])
        except ServiceUnreachableError as again:
            error = again
