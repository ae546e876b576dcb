"""Copies of files, hashed while they are copied."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 1 << 20


class HashingReader:
    """Reads a file and hashes what was read.

    Args:
        file: Open for reading.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`."""
        chunk = self._file.read(size)
        self._digest.update(chunk)
        return chunk

    @property
    def sha256(self) -> str:
        """Hash of everything that was read, 64 hexadecimal digits."""
        return self._digest.hexdigest()


def copy_and_hash(source: BinaryIO, target: Path) -> str:
    """Write the rest of a file to another one and return the SHA-256 of what was written."""
    reader = HashingReader(source)
    with target.open("wb") as copy:
        while chunk := reader.read(_CHUNK_BYTES):
            copy.write(chunk)
    return reader.sha256


def hash_file(path: Path) -> str:
    """Return a file's SHA-256, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
