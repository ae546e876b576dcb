"""Uploads that arrive in parts: a file each, to which parts are appended until it is as long as it was said to be.

The file is all there is: its name holds the id and the final length, its size is the offset. So a restart, a lost
connection or a second API process on the same folder change nothing, and there is no state that could disagree.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool

from app.errors import UploadRefusedError
from app.settings import AppSettings
from registry.errors import NotFoundError

EXPIRES_SECONDS = 24 * 3600.0
"""An upload to which nothing was added for so long is removed."""
_WRITE_BYTES = 1 << 20


@dataclass(frozen=True)
class Upload:
    """An upload and how far it is.

    Attributes:
        id: A secret of 128 bits: who knows it may go on with the upload.
        path: Its file.
        num_bytes: Its length in the end.
        offset: How many bytes are there.
        expires_at: When it is removed if nothing comes, in seconds since the epoch.
    """

    id: str
    path: Path
    num_bytes: int
    offset: int
    expires_at: float


class Uploads:
    """The uploads of an installation.

    Args:
        settings: Say where they are and how large one may be.
    """

    def __init__(self, settings: AppSettings) -> None:
        self._folder = settings.upload_dir
        self._max_bytes = settings.max_upload_bytes
        self._folder.mkdir(parents=True, exist_ok=True)

    def create(self, num_bytes: int) -> Upload:
        """Return a new upload, having removed those that have expired.

        Args:
            num_bytes: Its length in the end.

        Returns:
            The upload, empty.

        Raises:
            UploadRefusedError: It is to be larger than uploads may be.
        """
        if num_bytes > self._max_bytes:
            raise UploadRefusedError(
                "upload_too_large", f"{num_bytes} bytes are announced; {self._max_bytes} is the limit.", "Split it."
            )
        self._remove_expired()
        identifier = secrets.token_hex(16)
        path = self._folder / f"{identifier}.{num_bytes}"
        path.touch(exist_ok=False)
        return self.get(identifier)

    def get(self, identifier: str) -> Upload:
        """Return the upload, or raise `NotFoundError`."""
        try:
            path = next(self._folder.glob(f"{identifier}.*"))
            state = path.stat()
        except (StopIteration, FileNotFoundError):
            raise _gone(identifier) from None
        return Upload(identifier, path, int(path.suffix[1:]), state.st_size, state.st_mtime + EXPIRES_SECONDS)

    def get_complete(self, identifier: str) -> Upload:
        """Return the upload, or raise `UploadRefusedError` if some of it is missing."""
        upload = self.get(identifier)
        if upload.offset < upload.num_bytes:
            raise UploadRefusedError(
                "upload_incomplete",
                f"{upload.offset} of {upload.num_bytes} bytes are there.",
                f"Send the rest with PATCH /v1/uploads/{identifier}.",
            )
        return upload

    async def append(self, identifier: str, offset: int, parts: AsyncIterator[bytes]) -> Upload:
        """Return the upload with what came appended; what came before a connection broke stays.

        Args:
            identifier: The upload.
            offset: Where the sender believes that it is.
            parts: The bytes.

        Returns:
            The upload.

        Raises:
            NotFoundError: There is none.
            UploadRefusedError: It is somewhere else, somebody else is adding to it, or more came than was announced.
        """
        upload = await run_in_threadpool(self.get, identifier)
        file = await run_in_threadpool(_open_alone, upload)
        try:
            at = await run_in_threadpool(file.seek, 0, os.SEEK_END)
            if at != offset:
                raise UploadRefusedError(
                    "offset_mismatch", f"The upload is at byte {at}, not {offset}.", "Go on from there."
                )
            await _write(file, parts, upload.num_bytes - offset)
        finally:
            await run_in_threadpool(file.close)
        return await run_in_threadpool(self.get, identifier)

    def remove(self, identifier: str) -> None:
        """Remove an upload, or raise `NotFoundError`."""
        self.get(identifier).path.unlink(missing_ok=True)

    def _remove_expired(self) -> None:
        before = time.time() - EXPIRES_SECONDS
        for path in self._folder.iterdir():
            try:
                if path.stat().st_mtime < before:
                    path.unlink()
            except FileNotFoundError:  # somebody else was faster
                continue


def _gone(identifier: str) -> NotFoundError:
    return NotFoundError("upload", identifier, "It may have expired, or become a data set: begin it again.")


def _open_alone(upload: Upload) -> BinaryIO:
    """Return the file, locked until it is closed; a lock of the operating system ends with its process."""
    try:
        file = upload.path.open("r+b")
    except FileNotFoundError:
        raise _gone(upload.id) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UploadRefusedError(
            "upload_busy", "Another request is adding to this upload.", "Wait, then ask where it is with HEAD."
        ) from error
    return file


async def _write(file: BinaryIO, parts: AsyncIterator[bytes], left: int) -> None:
    """Append the parts in writes of a sensible size; also what came before something went wrong."""
    waiting = bytearray()
    try:
        async for part in parts:
            waiting += part
            if len(waiting) > left:
                waiting.clear()  # so that the upload does not look complete
                raise UploadRefusedError(
                    "upload_too_large", "More bytes came than the upload was announced with.", "Begin a new upload."
                )
            if len(waiting) >= _WRITE_BYTES:
                left -= len(waiting)
                await run_in_threadpool(file.write, bytes(waiting))
                waiting.clear()
    finally:
        await run_in_threadpool(_flush, file, bytes(waiting))


def _flush(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
