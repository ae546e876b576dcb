"""Resumable uploads: one file each, to which parts are appended until it has its announced length.

The file is the only state: its name holds the id, the announced length and a hash of the owner's name, and its size is
the offset. So a restart, a lost connection or a second API process on the same folder make no difference.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

from starlette.concurrency import run_in_threadpool

from app.datasets.uploads.turns import Turn
from app.http.dependencies import provided
from app.http.errors import UploadRefusedError
from registry.disk import Disks
from registry.errors import NotFoundError, RegistryError

EXPIRES_SECONDS = 24 * 3600.0
"""Idle uploads are removed after this time."""

SILENT_SECONDS = 20.0
"""A request without data is ended after this time; received bytes are kept."""

_OWNERS = 10  # the limit for all owners is this multiple of the limit for one
_WRITE_BYTES = 1 << 20
_TAKEOVER_SECONDS = 5.0
_POLL_SECONDS = 0.05
_STALLED_SECONDS = 1.0  # a request with data within this time is not ended by a query of the offset


@dataclass(frozen=True)
class Upload:
    """An upload and its progress.

    Attributes:
        id: A secret of 128 bits: whoever knows it may continue the upload.
        path: Its file.
        num_bytes: Its announced length.
        offset: Number of bytes that arrived.
        expires_at: When it is removed if nothing arrives, in seconds since the epoch.
        owner_tag: Identifies its owner's uploads; empty: nobody's.
    """

    id: str
    path: Path
    num_bytes: int
    offset: int
    expires_at: float
    owner_tag: str


class Uploads:
    """The uploads in a folder, which several API processes may share.

    Args:
        folder: Created when missing.
        disks: Must have room for all announced bytes.
        max_bytes: Maximum size of an upload.
        max_per_owner: Maximum number of unfinished uploads of an owner.
        silent_seconds: How long a sender may pause within a request.
        is_alone: Whether no other API process has uploads in a folder of its own.
    """

    def __init__(
        self,
        folder: Path,
        disks: Disks,
        *,
        max_bytes: int,
        max_per_owner: int,
        silent_seconds: float = SILENT_SECONDS,
        is_alone: Callable[[], bool] = lambda: True,
    ) -> None:
        self._folder = folder
        self._disks = disks
        self._max_bytes = max_bytes
        self._max_per_owner = max_per_owner
        self._silent_seconds = silent_seconds
        self._is_alone = is_alone
        self._turns: dict[str, Turn] = {}
        self._num_senders: Counter[str] = Counter()  # including requests that are opening or closing the file
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def create(self, num_bytes: int, owner: str | None = None) -> Upload:
        """Return a new, empty upload; expired ones are removed first.

        Raises:
            UploadRefusedError: It is too large, or there are too many.
        """
        if num_bytes > self._max_bytes:
            raise UploadRefusedError(
                "upload_too_large",
                f"The declared length is {num_bytes} bytes; the limit is {self._max_bytes}.",
                "Split it.",
            )
        self.remove_expired()
        others = list(self._all())
        self._refuse_too_many(others, _tag(owner))
        self._disks.require(num_bytes + sum(max(0, each.num_bytes - each.offset) for each in others))
        identifier = secrets.token_hex(16)
        path = self._folder / ".".join(filter(None, (identifier, str(num_bytes), _tag(owner))))
        path.touch(exist_ok=False, mode=0o600)
        return self.get(identifier)

    def get(self, identifier: str) -> Upload:
        """Return the upload.

        Raises:
            NotFoundError: It does not exist.
            UploadRefusedError: It does not exist here, but another API process may have it.
        """
        with suppress(StopIteration, FileNotFoundError):
            return _read(next(self._folder.glob(f"{identifier}.*")))
        raise self._missing(identifier)

    def get_complete(self, identifier: str) -> Upload:
        """Return the upload, or raise `UploadRefusedError` if some of it is missing; other errors as for `get`."""
        upload = self.get(identifier)
        if upload.offset < upload.num_bytes:
            raise UploadRefusedError(
                "upload_incomplete",
                f"The upload is incomplete: {upload.offset} of {upload.num_bytes} bytes.",
                f"Send the rest with PATCH /v1/uploads/{identifier}.",
            )
        return upload

    async def find_offset(self, identifier: str) -> Upload:
        """Return the upload; a request that is appending to it, but whose sender has paused, is ended first."""
        turn = self._turns.get(identifier)
        if turn is not None and turn.silence_seconds > _STALLED_SECONDS:
            upload = await run_in_threadpool(self.get, identifier)
            with suppress(UploadRefusedError), self._counted(identifier):
                file = await self._open(upload)
                await run_in_threadpool(file.close)
        return await run_in_threadpool(self.get, identifier)

    async def append(self, identifier: str, offset: int, parts: AsyncIterator[bytes]) -> Upload:
        """Return the upload with the bytes appended; those that arrive before a connection breaks are kept.

        A request of this process that still appends to the upload is ended: its sender has reconnected with this one.

        Raises:
            UploadRefusedError: The offset differs, another process is appending, more arrived than was announced, the
                sender paused for too long, or a newer request has taken over.
        """
        upload = await run_in_threadpool(self.get, identifier)
        with self._counted(identifier):
            await self._append(upload, offset, parts)
        return await run_in_threadpool(self.get, identifier)

    @contextmanager
    def _counted(self, identifier: str) -> Iterator[None]:
        """Count a request that opens the upload: if it is the only one, whoever holds the file is another process."""
        self._num_senders[identifier] += 1
        try:
            yield
        finally:
            self._num_senders[identifier] -= 1
            self._num_senders += Counter()  # removes zero counts

    async def _append(self, upload: Upload, offset: int, parts: AsyncIterator[bytes]) -> None:
        file = await self._open(upload)
        turn = self._turns[upload.id] = Turn(self._silent_seconds)
        try:
            at = await run_in_threadpool(file.seek, 0, os.SEEK_END)
            if at != offset:
                raise UploadRefusedError(
                    "offset_mismatch", f"The upload is at byte {at}, not {offset}.", "Resume at that byte."
                )
            await _write(file, turn, parts, at, upload.num_bytes)
        finally:
            if self._turns.get(upload.id) is turn:
                del self._turns[upload.id]
            await run_in_threadpool(file.close)

    def remove(self, identifier: str) -> None:
        """Remove an upload; errors as for `get`."""
        self.get(identifier).path.unlink(missing_ok=True)

    def remove_expired(self) -> None:
        """Remove the uploads to which nothing was added for a day."""
        before = time.time() - EXPIRES_SECONDS
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process removed it
                if path.stat().st_mtime < before:
                    path.unlink()

    def announced_bytes(self, owner: str) -> int:
        """Return how many bytes an owner's uploads have, or will have."""
        return sum(each.num_bytes for each in self._all() if each.owner_tag == _tag(owner))

    def _all(self) -> Iterator[Upload]:
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError, ValueError):  # ValueError: not an upload
                yield _read(path)

    def _refuse_too_many(self, others: list[Upload], tag: str) -> None:
        limit = self._max_per_owner
        num_own = sum(each.owner_tag == tag for each in others) if tag else 0
        if num_own >= limit or len(others) >= _OWNERS * limit:
            raise UploadRefusedError(
                "too_many_uploads",
                f"There are {num_own or len(others)} unfinished uploads, which is the maximum.",
                "Finish or delete some: DELETE /v1/uploads/{id}. Idle uploads expire after a day.",
            )

    async def _open(self, upload: Upload) -> BinaryIO:
        """Return the file, locked, having ended the request of this process that has it."""
        deadline = time.monotonic() + _TAKEOVER_SECONDS
        while True:
            try:
                return await run_in_threadpool(_open_alone, upload)
            except UploadRefusedError:
                if self._num_senders[upload.id] == 1 or time.monotonic() > deadline:
                    raise  # another process has the file
                if (turn := self._turns.get(upload.id)) is not None:  # else that request is opening or closing the file
                    turn.end()
            await asyncio.sleep(_POLL_SECONDS)

    def _missing(self, identifier: str) -> RegistryError | UploadRefusedError:
        if self._is_alone():
            return _gone(identifier)
        return UploadRefusedError(
            "upload_elsewhere",
            f"This API process does not have upload {identifier!r}; another process may have it.",
            "Send all requests of an upload to one process, or set PAINTBOX_UPLOAD_DIR to a shared folder.",
        )


def _read(path: Path) -> Upload:
    identifier, num_bytes, *tag = path.name.split(".")
    state = path.stat()
    expires_at = state.st_mtime + EXPIRES_SECONDS
    return Upload(identifier, path, int(num_bytes), state.st_size, expires_at, tag[0] if tag else "")


def _tag(owner: str | None) -> str:
    return "" if owner is None else hashlib.sha256(owner.encode()).hexdigest()[:16]


def _gone(identifier: str) -> NotFoundError:
    return NotFoundError("upload", identifier, "It may have expired or already become a data set: start a new upload.")


def _open_alone(upload: Upload) -> BinaryIO:
    """Return the file, locked until it is closed; a lock of the operating system ends with its process."""
    try:
        file = upload.path.open("r+b", buffering=0)
    except FileNotFoundError:
        raise _gone(upload.id) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UploadRefusedError(
            "upload_busy", "Another request is appending to this upload.", "Wait, then get the offset with HEAD."
        ) from error
    return file


async def _write(file: BinaryIO, turn: Turn, parts: AsyncIterator[bytes], at: int, num_bytes: int) -> None:
    """Append the parts in writes of a suitable size, including those that arrived before an error."""
    waiting = bytearray()
    try:
        while (part := await turn.receive(parts)) is not None:
            waiting += part
            if at + len(waiting) > num_bytes:
                waiting.clear()  # so that the upload does not look complete
                raise UploadRefusedError(
                    "upload_too_large", "The upload exceeds its declared length.", "Start a new upload."
                )
            if len(waiting) >= _WRITE_BYTES:
                data = bytes(waiting)
                waiting.clear()  # even if writing fails: then it was not received
                at = await run_in_threadpool(_append, file, at, data)
    finally:
        await run_in_threadpool(_append, file, at, bytes(waiting))
        await run_in_threadpool(os.fsync, file.fileno())


def _append(file: BinaryIO, at: int, data: bytes) -> int:
    """Write all of the data at a position, or nothing of it, and return where it ends."""
    view = memoryview(data)
    try:
        file.seek(at)
        while view:
            view = view[file.write(view) :]
    except OSError:  # such as a full disk: remove the partial write before the retry
        os.ftruncate(file.fileno(), at)
        raise
    return at + len(data)


UploadsDep = Annotated[Uploads, provided(Uploads)]
