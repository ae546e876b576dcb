"""Hostile archives: each is refused by its code before it costs anything, or reported member by member."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from registry.archives import ArchiveLimits, inspect_members, read_members
from registry.errors import ArchiveRefusedError
from tests.registry.raw_zip import (
    BZIP2,
    DEFLATED,
    ENCRYPTED,
    LZMA,
    PIXELS,
    UTF8,
    Entry,
    deflate,
    quoted_overlap,
    write,
    zip_bytes,
)

GOOD = Entry("dog/1.jpg")
LIMITS = ArchiveLimits(max_members=100, max_member_bytes=1 << 20, max_total_bytes=8 << 20, ratio_floor_bytes=1 << 16)
UNICODE_PATH = 0x7075


def refusal(path: Path, limits: ArchiveLimits = LIMITS) -> str:
    with pytest.raises(ArchiveRefusedError) as refused:
        inspect_members(path, limits)
    assert refused.value.advice
    assert "\n" not in str(refused.value)
    return refused.value.code


def names_in(path: Path) -> list[str]:
    return [member.filename for member in inspect_members(path, LIMITS).members]


def read(path: Path, names: list[str], limits: ArchiveLimits = LIMITS) -> dict[str, bytes | str]:
    return dict(read_members(path, names, limits))


def zip64(value: int) -> bytes:
    return struct.pack("<HHQ", 1, 8, value)


def extra_name(name: bytes, shown: bytes) -> bytes:
    """Info-ZIP's field that gives a member another name than the one in the directory."""
    body = struct.pack("<BL", 1, zlib.crc32(shown)) + name
    return struct.pack("<HH", UNICODE_PATH, len(body)) + body


HOSTILE_ENTRIES: dict[str, tuple[Entry, str]] = {
    "parent": (Entry("../evil.jpg"), "path_traversal"),
    "parent inside": (Entry("cat/../../evil.jpg"), "path_traversal"),
    "parent at the end": (Entry("cat/.."), "path_traversal"),
    "parent with backslashes": (Entry("cat\\..\\..\\evil.jpg"), "path_traversal"),
    "parent in cp437": (Entry(b"cat/../\x80.jpg", flags=0), "path_traversal"),
    "absolute": (Entry("/etc/cat.jpg"), "absolute_path"),
    "absolute with a backslash": (Entry("\\etc\\cat.jpg"), "absolute_path"),
    "network share": (Entry("\\\\server\\share\\cat.jpg"), "absolute_path"),
    "drive": (Entry("C:\\cat.jpg"), "absolute_path"),
    "drive with a slash": (Entry("c:/cat.jpg"), "absolute_path"),
    "drive without a slash": (Entry("C:cat.jpg"), "absolute_path"),
    "backslash": (Entry("cat\\1.jpg"), "bad_name"),
    "nul": (Entry("cat/1.jpg\0.exe"), "bad_name"),
    "nul before a traversal": (Entry("cat/1.jpg\0/../../x"), "path_traversal"),
    "newline": (Entry("cat/1\n.jpg"), "bad_name"),
    "escape": (Entry("cat/\x1b[2J.jpg"), "bad_name"),
    "delete": (Entry("cat/\x7f.jpg"), "bad_name"),
    "C1 control": (Entry("cat/\x9b2J.jpg"), "bad_name"),
    "no name": (Entry(""), "bad_name"),
    "only dots": (Entry("."), "bad_name"),
    "long name": (Entry("/".join(["cat"] * 300) + "/1.jpg"), "bad_name"),
    "long part": (Entry("cat/" + "x" * 252 + ".jpg"), "bad_name"),
    "long part in bytes": (Entry("cat/" + "ü" * 128 + ".jpg"), "bad_name"),
    "fifo": (Entry(unix_mode=stat.S_IFIFO | 0o644), "special_file"),
    "character device": (Entry(unix_mode=stat.S_IFCHR | 0o644), "special_file"),
    "block device": (Entry(unix_mode=stat.S_IFBLK | 0o644), "special_file"),
    "socket": (Entry(unix_mode=stat.S_IFSOCK | 0o644), "special_file"),
    "encrypted": (Entry(flags=UTF8 | ENCRYPTED), "encrypted"),
    "strongly encrypted": (Entry(flags=UTF8 | ENCRYPTED | 0x40), "encrypted"),
    "bzip2": (Entry(method=BZIP2), "bad_compression"),
    "lzma": (Entry(method=LZMA), "bad_compression"),
    "unknown method": (Entry(method=99), "bad_compression"),
    "declares 4 GB": (Entry(data=bytes(1000), method=DEFLATED, declared_bytes=0xFFFFFFFE), "archive_bomb"),
    "packed size beyond the file": (Entry(declared_packed_bytes=1 << 20), "archive_bomb"),
    "starts beyond the file": (Entry(offset=1 << 20), "archive_bomb"),
    "name that is not UTF-8": (Entry(b"cat/\xff.jpg"), "not_a_zip"),
    "extra field that runs out": (Entry(extra=struct.pack("<HH", 1, 100)), "not_a_zip"),
    "zip64 size without its field": (Entry(declared_bytes=0xFFFFFFFF), "archive_bomb"),
    "zip64 field too short": (Entry(declared_bytes=0xFFFFFFFF, extra=struct.pack("<HHL", 1, 4, 7)), "not_a_zip"),
    "zip64 says an exabyte": (
        Entry(declared_bytes=0xFFFFFFFF, extra=struct.pack("<HHQ", 1, 8, 1 << 60)),
        "archive_bomb",
    ),
    "zip64 offset beyond all": (Entry(offset=0xFFFFFFFF, extra=struct.pack("<HHQ", 1, 8, 2**64 - 1)), "archive_bomb"),
}


@pytest.mark.parametrize(("entry", "code"), HOSTILE_ENTRIES.values(), ids=HOSTILE_ENTRIES.keys())
@pytest.mark.parametrize("before", [(), (GOOD,)], ids=["alone", "after a good one"])
def test_a_hostile_entry_refuses_the_archive(tmp_path: Path, entry: Entry, code: str, before: tuple[Entry]) -> None:
    assert refusal(write(tmp_path, zip_bytes(*before, entry))) == code


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty file": lambda good: b"",
    "not a zip": lambda good: b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "first half": lambda good: good[: len(good) // 2],
    "one byte short": lambda good: good[:-1],
    "end record alone": lambda good: good[-22:],
    "no end record": lambda good: good[:-22],
    "start missing": lambda good: good[10:],
    "directory beyond the file": lambda good: good[:-6] + struct.pack("<L", 1 << 30) + good[-2:],
    "directory larger than the file": lambda good: good[:-10] + struct.pack("<L", 1 << 30) + good[-6:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    assert refusal(write(tmp_path, damage(zip_bytes(GOOD, Entry())))) in ("not_a_zip", "archive_bomb")


@pytest.mark.parametrize("name", ["cat/2.jpg", "cat/"])
def test_a_link_is_left_out_and_the_rest_is_read(tmp_path: Path, name: str) -> None:
    link = Entry(name, b"/etc/passwd", unix_mode=stat.S_IFLNK | 0o777)
    found = inspect_members(write(tmp_path, zip_bytes(GOOD, link)), LIMITS)
    assert [member.filename for member in found.members] == ["dog/1.jpg"]
    assert found.rejected == [(name, "is a symbolic link")]


def test_of_a_name_that_is_there_twice_the_last_counts(tmp_path: Path) -> None:
    path = write(tmp_path, zip_bytes(GOOD, Entry(), Entry("dog/1.jpg", b"newer")))
    found = inspect_members(path, LIMITS)
    assert [member.filename for member in found.members] == ["cat/1.jpg", "dog/1.jpg"]
    assert found.rejected == [("dog/1.jpg", "is replaced by a later entry of the same name")]
    assert read(path, ["dog/1.jpg"]) == {"dog/1.jpg": b"newer"}


def test_a_second_name_in_the_extra_field_of_a_name_that_is_ascii_or_marked_says_nothing(tmp_path: Path) -> None:
    hidden = Entry("cat/1.jpg", extra=extra_name(b"../../evil.jpg", b"cat/1.jpg"))
    assert names_in(write(tmp_path, zip_bytes(hidden))) == ["cat/1.jpg"]


def test_a_second_name_that_counts_is_checked(tmp_path: Path) -> None:
    raw = "crème/1.jpg".encode("cp437")
    hidden = Entry(raw, flags=0, extra=extra_name(b"../../evil.jpg", raw))
    assert refusal(write(tmp_path, zip_bytes(hidden))) == "path_traversal"


@pytest.mark.parametrize(
    ("entry", "name", "num_unsure"),
    [
        (Entry("crème/犬.jpg".encode(), flags=0), "crème/犬.jpg", 0),
        (Entry("crème/1.jpg".encode("cp437"), flags=0), "crème/1.jpg", 1),
        (Entry("犬/1.jpg".encode("cp932"), flags=0), None, 1),
        (
            Entry(
                "犬/1.jpg".encode("cp932"),
                flags=0,
                extra=extra_name("犬/1.jpg".encode(), "犬/1.jpg".encode("cp932")),
            ),
            "犬/1.jpg",
            0,
        ),
        (Entry("crème/1.jpg".encode(), flags=0, extra=extra_name(b"x/1.jpg", b"other")), "crème/1.jpg", 0),
    ],
    ids=["utf-8", "cp437", "cp932", "unicode path", "unicode path of another name"],
)
def test_a_name_without_the_flag_is_read_as_the_tools_that_write_it_mean_it(
    tmp_path: Path, entry: Entry, name: str | None, num_unsure: int
) -> None:
    path = write(tmp_path, zip_bytes(entry, GOOD))
    found = inspect_members(path, LIMITS)
    assert (len(found.members), found.num_unsure) == (2, num_unsure)
    if name is not None:
        assert found.members[0].filename == name
        assert read(path, [name]) == {name: PIXELS}


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    same = [Entry(f"cat/{number}.jpg", bytes(500), DEFLATED, offset=0) for number in range(5)]
    assert refusal(write(tmp_path, zip_bytes(*same))) == "archive_bomb"


def test_empty_entries_that_share_a_header_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, zip_bytes(Entry("cat/1.jpg", b""), Entry("cat/2.jpg", b"", offset=0)))
    assert refusal(path) == "archive_bomb"


def test_entries_that_quote_each_other_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, quoted_overlap(20, 2000))
    with zipfile.ZipFile(path) as archive:  # a real bomb: each header is honest, all members share one kernel
        assert sum(member.file_size for member in archive.infolist()) > 20 * 2000
    assert refusal(path) == "archive_bomb"


def test_an_entry_inside_another_is_refused(tmp_path: Path) -> None:
    inner = Entry("cat/2.jpg")
    outer = Entry("cat/1.jpg", inner.local() + inner.raw_packed())
    shared = replace(inner, offset=len(outer.local()))
    assert refusal(write(tmp_path, zip_bytes(outer, shared))) == "archive_bomb"


def test_five_declared_gigabytes_are_refused(tmp_path: Path) -> None:
    packed = deflate(bytes(1 << 20))
    huge = [
        Entry(f"cat/{number}.jpg", method=DEFLATED, packed=packed, declared_bytes=1 << 30, crc=0) for number in range(5)
    ]
    assert refusal(write(tmp_path, zip_bytes(*huge)), ArchiveLimits()) == "archive_bomb"


def test_a_genuine_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/1.bmp", bytes(65 << 20))  # larger than any picture may be
    assert path.stat().st_size < 100_000
    assert refusal(path, ArchiveLimits()) == "archive_bomb"


def test_drawings_may_compress_a_thousand_times_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"cat/{number}.bmp", bytes(1 << 20))
    assert len(inspect_members(path, ArchiveLimits(ratio_floor_bytes=1 << 16)).members) == 3
    assert refusal(path, ArchiveLimits(drawings_bytes=2 << 20)) == "archive_bomb"


def test_an_archive_of_nothing_holds_nothing(tmp_path: Path) -> None:
    assert names_in(write(tmp_path, zip_bytes())) == []


def test_a_small_picture_may_compress_well(tmp_path: Path) -> None:
    path = write(tmp_path, zip_bytes(Entry("cat/1.bmp", bytes(60_000), DEFLATED)))
    assert names_in(path) == ["cat/1.bmp"]


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    entries = [Entry(f"cat/{number}/", b"") for number in range(LIMITS.max_members + 1)]
    path = write(tmp_path, zip_bytes(*entries))
    assert refusal(path) == "too_many_files"
    assert len(inspect_members(path, replace(LIMITS, max_members=LIMITS.max_members + 1)).members) == len(entries)


def test_too_many_bytes_together_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, zip_bytes(GOOD, Entry()))
    assert refusal(path, replace(LIMITS, max_total_bytes=2 * len(PIXELS) - 1)) == "archive_bomb"
    assert inspect_members(path, replace(LIMITS, max_total_bytes=2 * len(PIXELS)))


def test_honest_members_are_read_as_they_were_packed(tmp_path: Path) -> None:
    path = write(tmp_path, zip_bytes(Entry("cat/", b""), GOOD, Entry("cat/ü.jpg", b"x" * 999, DEFLATED)))
    assert names_in(path) == ["cat/", "dog/1.jpg", "cat/ü.jpg"]
    assert read(path, ["cat/ü.jpg", "dog/1.jpg"]) == {"cat/ü.jpg": b"x" * 999, "dog/1.jpg": PIXELS}


def test_an_archive_behind_other_bytes_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, b"#!/bin/sh\n" + zip_bytes(GOOD))
    inspect_members(path, LIMITS)
    assert read(path, ["dog/1.jpg"]) == {"dog/1.jpg": PIXELS}


DAMAGED_MEMBERS: dict[str, Entry] = {
    "wrong checksum": Entry(crc=1),
    "wrong checksum packed": Entry(method=DEFLATED, crc=1),
    "declares less than there is": Entry(data=bytes(5000), method=DEFLATED, declared_bytes=10),
    "declares more than there is": Entry(declared_bytes=len(PIXELS) + 10, crc=1),
    "garbage instead of deflate": Entry(method=DEFLATED, packed=b"\xff" * 20),
    "deflate cut short": Entry(data=bytes(range(256)), method=DEFLATED, packed=deflate(bytes(range(256)))[:40]),
    "another name in its own header": Entry(local_name=b"cat/2.jpg"),
    "header name that is not UTF-8": Entry(local_name=b"cat/\xff.jpg"),
    "patch data": Entry(flags=UTF8 | 0x20),
    "strong encryption alone": Entry(flags=UTF8 | 0x40),
    "no header where it should be": Entry(offset=1),
}


@pytest.mark.parametrize("entry", DAMAGED_MEMBERS.values(), ids=DAMAGED_MEMBERS.keys())
def test_a_damaged_member_is_reported_and_the_rest_is_read(tmp_path: Path, entry: Entry) -> None:
    path = write(tmp_path, zip_bytes(entry, GOOD))
    inspect_members(path, LIMITS)
    found = read(path, ["cat/1.jpg", "dog/1.jpg"])
    assert isinstance(found["cat/1.jpg"], str)
    assert "damaged" in found["cat/1.jpg"]
    assert found["dog/1.jpg"] == PIXELS


def test_a_member_over_its_budget_is_reported(tmp_path: Path) -> None:
    limits = replace(LIMITS, max_member_bytes=100)
    path = write(tmp_path, zip_bytes(Entry("cat/1.jpg", bytes(101)), Entry("cat/2.jpg", bytes(100))))
    assert read(path, ["cat/1.jpg", "cat/2.jpg"], limits) == {
        "cat/1.jpg": "larger than 100 bytes",
        "cat/2.jpg": bytes(100),
    }


def test_reading_stops_at_the_total_budget(tmp_path: Path) -> None:
    limits = replace(LIMITS, max_total_bytes=250)
    path = write(tmp_path, zip_bytes(*(Entry(f"cat/{number}.jpg", bytes(100)) for number in range(5))))
    members = read_members(path, [f"cat/{number}.jpg" for number in range(5)], limits)
    assert [next(members)[0], next(members)[0]] == ["cat/0.jpg", "cat/1.jpg"]
    with pytest.raises(ArchiveRefusedError, match="250 bytes"):
        next(members)


def test_a_bomb_that_lies_about_its_size_never_comes_out(tmp_path: Path) -> None:
    lying = Entry(data=bytes(50 << 20), method=DEFLATED, declared_bytes=1000)
    path = write(tmp_path, zip_bytes(lying))
    inspect_members(path, LIMITS)
    assert isinstance(read(path, ["cat/1.jpg"])["cat/1.jpg"], str)
