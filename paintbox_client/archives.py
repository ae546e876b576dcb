"""Zip archives that come out the same, byte for byte, each time: the same pictures are then the same data set."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from paintbox_client.errors import InputError

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the earliest that the format knows


def write_archive(target: Path | IO[bytes], members: Iterable[tuple[str, Path | bytes]]) -> int:
    """Write a zip archive and return how many files it holds.

    Nothing of the day, the user or the machine goes into it, and pictures, being compressed already, are only stored.

    Args:
        target: Where to write it.
        members: Name within the archive, and the file or its bytes.

    Returns:
        The number of files.
    """
    num_files = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            archive.writestr(_entry(name), content.read_bytes() if isinstance(content, Path) else content)
            num_files += 1
    return num_files


def walk_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name within an archive and the path of each file below `folder`, sorted; hidden ones are left out."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix(), path


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIMESTAMP)
    entry.create_system = 3  # on every system alike
    entry.external_attr = 0o100644 << 16
    return entry


@contextmanager
def open_archive(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the name and the bytes of an archive; a folder is written as one first.

    Args:
        path: Of an archive or Parquet file, or of a folder.

    Yields:
        tuple[str, IO[bytes]]: Its name, and the open file.

    Raises:
        InputError: The folder holds no files.
    """
    if path.is_dir():
        with tempfile.TemporaryFile() as stream:
            if write_archive(stream, walk_folder(path)) == 0:
                raise InputError(f"{path} holds no files.", "Name a folder of labelled images.")
            stream.seek(0)
            yield f"{path.resolve().name}.zip", stream
    else:
        with path.open("rb") as file:
            yield path.name, file


def read_image(index: int, image: bytes | Path) -> tuple[str, bytes]:
    """Return a name and the bytes of an image, which may be a file or its bytes."""
    return (image.name, image.read_bytes()) if isinstance(image, Path) else (f"image-{index}", image)
