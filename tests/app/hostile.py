"""Archives that somebody might send to do harm, and some that are only wrong."""

import stat
import zipfile
from pathlib import Path

from tests.builders import digit_pngs

_GOOD = {"zero/0.png": digit_pngs(0)[0], "one/0.png": digit_pngs(1)[0]}


def write_named(path: Path, name: str) -> Path:
    """An archive with one member of this name beside good ones."""
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in _GOOD.items():
            archive.writestr(member, data)
        archive.writestr(name, b"hostile")
    return path


def write_symlink(path: Path) -> Path:
    """An archive whose third member is a symbolic link to a file of the system."""
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in _GOOD.items():
            archive.writestr(member, data)
        link = zipfile.ZipInfo("one/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    return path


def write_declared_bomb(path: Path) -> Path:
    """A small archive whose directory says that it unpacks to 5 GB."""
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in _GOOD.items():
            archive.writestr(member, data)
        for info in archive.filelist:  # what the directory will say
            info.file_size = 2_500_000_000
    return path


def write_overlapping_bomb(path: Path) -> Path:
    """An archive in which many members share the same packed bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zero/0.png", digit_pngs(0)[0] * 50)
        for index in range(1, 20):
            archive.writestr(f"zero/{index}.png", b"")
        first = archive.filelist[0]
        for info in archive.filelist[1:]:
            info.header_offset, info.compress_size = first.header_offset, first.compress_size
            info.file_size, info.CRC = first.file_size, first.CRC
    return path


def write_empty_class(path: Path) -> Path:
    """An archive with a class folder that holds nothing."""
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in _GOOD.items():
            archive.writestr(member, data)
        archive.mkdir("two")
    return path
