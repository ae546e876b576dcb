"""A snapshot in one uncompressed tar file, with the manifest as its last member."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from registry.backups.hashing import HashingReader
from registry.backups.manifest import Manifest, read_manifest
from registry.blobs import sync
from registry.errors import ConfigurationError

_MANIFEST, _DATABASE = "manifest.json", "database"


class TarFile:
    """Writes one snapshot into a new file, which appears under its name when it is whole.

    Args:
        path: Its name; an existing file is replaced then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.partial")
        self.new_path = path.with_name(f"{path.name}.database")
        self._tar: tarfile.TarFile | None = None

    @contextmanager
    def locked(self) -> Iterator[TarFile]:
        """Hold the unfinished file while the context lasts.

        Yields:
            TarFile: itself.

        Raises:
            ConfigurationError: The folder does not exist.
        """
        if not self._path.parent.is_dir():
            raise ConfigurationError(f"There is no folder {self._path.parent}.", "Create it, or name another file.")
        self.new_path.unlink(missing_ok=True)
        handle = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(handle, "w+b") as file, tarfile.open(fileobj=file, mode="w") as self._tar:
                yield self
        finally:
            self._tar = None
            for path in (self._partial, self.new_path):
                path.unlink(missing_ok=True)

    def has(self, _sha256: str, _num_bytes: int) -> bool:
        """Return False: a new file holds nothing."""
        return False

    def is_intact(self, sha256: str) -> bool:
        """Never called, because `has` is always False."""
        raise AssertionError(sha256)

    def add_blob(self, sha256: str, source: Path) -> bool:
        """Add a blob, and return whether its bytes have its hash; otherwise no manifest may name it."""
        return self._add(_blob_name(sha256), source) == sha256

    def finish(self, manifest: Manifest) -> None:
        """Add the database and the manifest, and give the file its name."""
        self._add(_DATABASE, self.new_path)
        text = manifest.model_dump_json(indent=1).encode()
        info = tarfile.TarInfo(_MANIFEST)
        info.size, info.mode = len(text), 0o600
        assert self._tar is not None
        self._tar.addfile(info, io.BytesIO(text))
        self._tar.close()
        sync(self._partial)
        self._partial.replace(self._path)
        sync(self._path.parent)

    def prune(self, _num_kept: int) -> list[str]:
        """Return nothing: a file holds one snapshot."""
        return []

    def _add(self, name: str, source: Path) -> str:
        assert self._tar is not None
        with source.open("rb") as file:
            info = tarfile.TarInfo(name)
            info.size, info.mode = os.fstat(file.fileno()).st_size, 0o600
            reader = HashingReader(file)
            self._tar.addfile(info, cast("BinaryIO", reader))
            return reader.sha256


class TarSnapshot:
    """The snapshot in a tar file, to read it. Members are read by name; nothing is extracted."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._tar: tarfile.TarFile | None = None
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path) -> TarSnapshot:
        """Return the snapshot.

        Raises:
            ConfigurationError: The file is not a whole backup.
        """
        try:
            with tarfile.open(path, "r:") as tar:
                member = tar.extractfile(_MANIFEST)
                text = member.read() if member is not None else b""
        except (tarfile.TarError, KeyError, OSError, EOFError) as error:
            raise ConfigurationError(
                f"{path} is not a whole backup: {error}.", "Name a backup folder or file that `paintbox backup` wrote."
            ) from error
        return cls(path, read_manifest(text, f"The manifest in {path}"))

    @contextmanager
    def open_database(self) -> Iterator[BinaryIO]:
        """Yield the copy of the database, open for reading."""
        with self._open(_DATABASE) as file:
            yield file

    @contextmanager
    def open_blob(self, sha256: str) -> Iterator[BinaryIO]:
        """Yield a blob, open for reading."""
        with self._open(_blob_name(sha256)) as file:
            yield file

    @contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        if self._tar is None:  # its members are listed once
            self._tar = tarfile.open(self._path, "r:")  # noqa: SIM115 (closed by `close`)
        try:
            member = self._tar.extractfile(name)
        except KeyError as error:
            raise FileNotFoundError(name) from error
        if member is None:
            raise FileNotFoundError(name)
        with member:
            yield cast("BinaryIO", member)

    def close(self) -> None:
        """Close the file; it is opened again when something is read."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None


def _blob_name(sha256: str) -> str:
    return f"blobs/{sha256}"
