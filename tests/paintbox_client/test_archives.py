"""A folder becomes the same archive every time, whatever its files are called and however it is linked together."""

import os
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from paintbox_client.archives import Folder, open_archive, plain_name, title_of, write_archive
from paintbox_client.errors import InputError
from registry.archives import check_name


def _fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def _sent(folder: Path) -> tuple[list[str], list[str]]:
    """Names in the archive of a folder, and what its owner is told."""
    notes: list[str] = []
    with open_archive(folder, notes.append) as (_, stream), zipfile.ZipFile(stream) as archive:
        return archive.namelist(), notes


def test_linked_folders_and_files_are_sent_as_if_they_lay_there(tmp_path: Path) -> None:
    _fill(tmp_path, "elsewhere/dog/1.png", "all/cat/1.png", "all/cat/.hidden", "all/.git/x.png")
    (tmp_path / "all/dog").symlink_to(tmp_path / "elsewhere/dog")
    (tmp_path / "all/cat/2.png").symlink_to(tmp_path / "elsewhere/dog/1.png")
    assert _sent(tmp_path / "all") == (["cat/1.png", "cat/2.png", "dog/1.png"], [])


def test_links_in_a_circle_and_to_nothing_are_told_and_not_followed(tmp_path: Path) -> None:
    _fill(tmp_path, "all/cat/1.png")
    (tmp_path / "all/cat/up").symlink_to(tmp_path / "all")
    (tmp_path / "all/gone.png").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "all/pipe")
    names, notes = _sent(tmp_path / "all")
    assert names == ["cat/1.png"]
    assert sorted(notes) == [
        "1 file(s) not sent: a broken link, such as 'gone.png'.",
        "1 file(s) not sent: a link to a parent folder, such as 'cat/up'.",
        "1 file(s) not sent: not a regular file, such as 'pipe'.",
    ]


def test_names_that_are_no_utf_8_or_that_the_service_would_refuse_are_spelled_out(tmp_path: Path) -> None:
    _fill(tmp_path, "100% cotton/1.png", "a\\b/1.png", "C:/1.png", "line\nend/1.png", "caf%E9/1.png")
    os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/1.png")).write_bytes(b"")
    names, notes = _sent(tmp_path)
    assert set(names) == {
        *("100% cotton/1.png", "a%5Cb/1.png", "C%3A/1.png", "line%0Aend/1.png", "caf%E9/1.png", "caf%E9/1~.png"),
    }
    for name in names:
        check_name(name)
    assert len(notes) == 1
    assert notes[0].startswith("4 file(s) sent under another name")


def test_a_large_file_is_copied_in_parts(tmp_path: Path) -> None:
    _fill(tmp_path, "in/large.parquet")
    os.truncate(tmp_path / "in/large.parquet", 64 << 20)
    tracemalloc.start()
    try:
        write_archive(tmp_path / "x.zip", Folder(tmp_path / "in").members())
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.getinfo("large.parquet").file_size == 64 << 20


def test_a_file_gives_the_same_archive_as_its_bytes(tmp_path: Path) -> None:
    _fill(tmp_path, "in/a.png", "in/b.png")
    write_archive(tmp_path / "files.zip", Folder(tmp_path / "in").members())
    write_archive(tmp_path / "bytes.zip", [("a.png", b"in/a.png"), ("b.png", b"in/b.png")])
    assert (tmp_path / "files.zip").read_bytes() == (tmp_path / "bytes.zip").read_bytes()


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no files"), open_archive(tmp_path, print):
        pass


def test_a_data_set_is_called_as_its_folder_or_as_its_file_without_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "my photos.v2"
    folder.mkdir()
    assert title_of(folder) == "my photos.v2"
    assert [title_of(tmp_path / name) for name in ("a.b.tar.gz", "c.ZIP", "d.parquet", "e", ".zip")] == [
        *("a.b", "c", "d", "e", ".zip"),
    ]
    assert plain_name("plain") == "plain"
