"""What reading an archive's names costs is bounded by budgets, never by what a few kilobytes ask for."""

import gzip
import io
import struct
import tarfile
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from registry.archives import ArchiveLimits, inspect_members
from registry.errors import ArchiveRefusedError, LargeArchiveError
from registry.intake.containers import open_tar
from registry.intake.formats import Format, unpack_tar
from registry.intake.reading import look
from tests.registry.raw_zip import Entry, end_record, write, zip_bytes
from tests.registry.uploads import FOLDERS, pack, read, tar_bytes

LIMITS = ArchiveLimits(max_members=1000)


def code_of(path: Path, limits: ArchiveLimits = LIMITS) -> str:
    with pytest.raises(ArchiveRefusedError) as refused:
        read(path, limits=limits)
    assert len(str(refused.value)) < 1000
    return refused.value.code


def many_entries(num: int, entry: Entry | None = None) -> bytes:
    directory = (entry or Entry("", b"")).central(0) * num
    return b"PK\3\4" + directory + end_record(min(num, 0xFFFF), len(directory), 4)


def zip64_entries(num: int) -> bytes:
    """The same, its directory found by the larger end record; the small one says that there is nothing."""
    directory = Entry("", b"").central(0) * num
    large = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, num, num, len(directory), 4)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 4 + len(directory), 1)
    return b"PK\3\4" + directory + large + locator + end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


@pytest.mark.parametrize("content", [many_entries(20_000), zip64_entries(20_000)], ids=["zip", "zip64"])
def test_a_zip_directory_is_counted_before_an_object_is_made_of_each_entry(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content)
    tracemalloc.start()
    try:
        assert code_of(path) == "too_many_files"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(content) + (1 << 20)  # a list of these entries takes twelve times their directory


def test_a_zip_directory_of_many_bytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    comment = b"c" * 60_000
    entry = bytearray(Entry("a/1.jpg", b"").central(0))
    entry[32:34] = struct.pack("<H", len(comment))
    directory = (bytes(entry) + comment) * 20
    path = write(tmp_path, b"PK\3\4" + directory + end_record(20, len(directory), 4))
    tracemalloc.start()
    try:
        assert code_of(path) == "too_many_files"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(directory)


def test_an_entry_with_thousands_of_extra_fields_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, zip_bytes(Entry(extra=struct.pack("<HH", 9, 0) * 16_000)))
    assert code_of(path, ArchiveLimits()) == "not_a_zip"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_first_look_leaves_long_lists_of_names_to_the_job(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / "x", {f"cat/{number}.png": b"x" for number in range(50)}, kind)
    at_once = {"zip": inspect_members, "tar": open_tar}[kind]
    at_once(path, LIMITS, 50)
    with pytest.raises(LargeArchiveError):
        at_once(path, LIMITS, 49)
    long = many_entries(10_001) if kind == "zip" else header(b"g", bytes(1 << 20)) * 3
    assert look(write(tmp_path, long)) is None
    assert look(pack(tmp_path / "z", FOLDERS, kind)) == ("one", "zero")


def header(kind: bytes, data: bytes) -> bytes:
    """An extended header of a tar archive."""
    block = tarfile.TarInfo("././@x")
    block.type, block.size = kind, len(data)
    return block.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def member(name: str = "cat/1.png") -> bytes:
    return tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT)


END = bytes(1024)


@pytest.mark.parametrize("record", [b"2 ", b"4 =\n", b"5 a=\n", b"00000005 a=\n"])
def test_a_header_of_many_records_is_refused_in_time_that_grows_with_its_bytes(tmp_path: Path, record: bytes) -> None:
    (tmp_path / "x").write_bytes(header(b"x", record * ((1 << 20) // len(record))) + member() + END)
    start = time.process_time()
    with pytest.raises(ArchiveRefusedError) as refused:
        look(tmp_path / "x")
    assert refused.value.code == "damaged_archive"
    assert time.process_time() - start < 5  # it took 27 s when each record copied those behind it


def test_a_header_may_hold_a_thousand_records(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(header(b"x", b"5 a=\n" * 999 + b"18 path=dog/2.jpg\n") + member() + END)
    assert [entry.name for entry in open_tar(path, LIMITS).entries] == ["dog/2.jpg"]
    path.write_bytes(header(b"x", b"5 a=\n" * 1001) + member() + END)
    assert code_of(path) == "damaged_archive"


@pytest.mark.parametrize("kind", [b"x", b"L", b"K"])
def test_a_member_has_one_extended_header_of_a_kind(tmp_path: Path, kind: bytes) -> None:
    data = b"5 a=\n" if kind == b"x" else b"dog/2.jpg\0"
    (tmp_path / "x").write_bytes(header(kind, data) * 2 + member() + END)
    assert code_of(tmp_path / "x") == "damaged_archive"


@pytest.mark.parametrize("kind", [b"x", b"g", b"L"])
def test_extended_headers_have_a_budget_together(tmp_path: Path, kind: bytes) -> None:
    data = b"".join(
        header(
            kind, b"1000000 a=" + b"v" * 999_989 + b"\n" if kind != b"L" else f"cat/{n}.png".encode() + bytes(1 << 19)
        )
        + member(f"cat/{n}.png")
        for n in range(3)
    )
    (tmp_path / "x").write_bytes(data + END)
    assert code_of(tmp_path / "x") == "too_many_files"
    assert len(open_tar(tmp_path / "x", replace(LIMITS, max_members=20_000)).entries) == 3


GZIP_NAME = b"\x1f\x8b\x08\x08" + bytes(6)
NOTHING = {
    "empty gzip members": (Format.TAR_GZ, gzip.compress(b""), gzip.compress(b"")),
    "an endless gzip name": (Format.TAR_GZ, GZIP_NAME, b"a" * 1000),
    "zeros behind a gzip member": (Format.TAR_GZ, b"", bytes(1000)),
    "empty zstd frames": (Format.TAR_ZST, b"", zstandard.compress(b"")),
    "skipped zstd frames": (Format.TAR_ZST, b"", struct.pack("<LL", 0x184D2A50, 100) + bytes(100)),
}


@pytest.mark.parametrize(("kind", "start", "repeated"), NOTHING.values(), ids=NOTHING.keys())
def test_bytes_that_unpack_to_nothing_are_not_read_to_their_end(
    tmp_path: Path, kind: Format, start: bytes, repeated: bytes
) -> None:
    path, total = tmp_path / "x", 4 << 20
    filler = start + repeated * (total // len(repeated))
    path.write_bytes(filler)
    with pytest.raises(ArchiveRefusedError, match=r"not of a tar archive|Unsupported file type"):
        look(path)
    squeeze = gzip.compress if kind is Format.TAR_GZ else zstandard.compress
    path.write_bytes(squeeze(tar_bytes({"cat/1.png": b"x"})) + filler)
    with pytest.raises(ArchiveRefusedError, match="unpack to nothing"):
        unpack_tar(path, kind, tmp_path / "out", ArchiveLimits())


@pytest.mark.parametrize("kind", ["tar.gz", "tar.zst"])
def test_honest_archives_of_several_compressed_parts_are_read(tmp_path: Path, kind: str) -> None:
    squeeze = gzip.compress if kind == "tar.gz" else zstandard.compress
    data, buffer = tar_bytes(FOLDERS), io.BytesIO()
    for start in range(0, len(data), 700):
        buffer.write(squeeze(data[start : start + 700]))
    (tmp_path / "x").write_bytes(buffer.getvalue())
    assert read(tmp_path / "x").classes == ("one", "zero")
