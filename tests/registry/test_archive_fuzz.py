"""Laws of archive reading: whatever the bytes, an archive is read within its budget or refused, never anything else."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry.archives import ArchiveLimits, inspect_members, read_members
from registry.errors import ArchiveRefusedError
from registry.intake.reading import read_upload
from tests.registry.raw_zip import DEFLATED, UTF8, Entry, zip_bytes

LIMITS = ArchiveLimits(max_members=50, max_member_bytes=4096, max_total_bytes=8192, ratio_floor_bytes=1024)
GOOD = zip_bytes(
    Entry("train/", b""),
    Entry("train/cat/1.jpg", bytes(range(256)), DEFLATED),
    Entry("train/dog/1.jpg", b"x" * 700, DEFLATED),
    Entry("test/cat/ü.png"),
    Entry("test/dog/2.png", flags=0),
    comment=b"a comment",
)
NAMES = st.lists(
    st.sampled_from(["..", ".", "", "cat", "train", "1.jpg", "C:", "a\\b", "\0", "\x1f", "\x85", "~", "ü"])
    | st.text(max_size=6),
    max_size=5,
).map("/".join)
CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))}


@contextmanager
def archive(content: bytes) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(suffix=".zip") as file:
        file.write(content)
        file.flush()
        yield Path(file.name)


def read_all(content: bytes) -> int | None:
    """Bytes that came out, or None if the archive was refused. Anything else it may raise fails the test."""
    total = 0
    with archive(content) as path:
        with suppress(ArchiveRefusedError), tempfile.TemporaryDirectory() as scratch:
            read_upload(path, Path(scratch), limits=LIMITS)
        try:
            names = [member.filename for member in inspect_members(path, LIMITS).members if not member.is_dir()]
            for _, data in read_members(path, names, LIMITS):
                total += len(data) if isinstance(data, bytes) else 0
        except ArchiveRefusedError:
            return None
    return total


@settings(max_examples=300)
@given(NAMES, st.sampled_from([0, UTF8]))
@example("./../x", UTF8)
@example("", UTF8)
def test_an_accepted_name_is_relative_and_plain(name: str, flags: int) -> None:
    raw = name.encode("cp437", "replace") if flags == 0 else name.encode(errors="replace")
    with archive(zip_bytes(Entry(raw, flags=flags))) as path:
        try:
            (member,) = inspect_members(path, LIMITS).members
        except ArchiveRefusedError:
            return
    for accepted in (member.filename, member.orig_filename):
        assert ".." not in accepted.replace("\\", "/").split("/")
        assert not accepted.startswith(("/", "\\"))
        assert not re.match("[A-Za-z]:", accepted)
        assert not CONTROLS & set(accepted)
        assert not PurePosixPath(accepted).is_absolute()


@settings(max_examples=200)
@given(st.binary(max_size=400) | st.binary(max_size=100).map(lambda data: GOOD[:-60] + data + GOOD[-60:]))
def test_arbitrary_bytes_are_refused_not_raised(content: bytes) -> None:
    read_all(content)


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes_never_yield_more_than_the_budget(changes: list[tuple[int, int]]) -> None:
    content = bytearray(GOOD)
    for position, value in changes:
        content[position] = value
    assert (read_all(bytes(content)) or 0) <= LIMITS.max_total_bytes


@settings(max_examples=100)
@given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)))
def test_a_piece_of_an_archive_is_refused_or_read(start: int, end: int) -> None:
    read_all(GOOD[start:end])


def test_the_unchanged_archive_is_read() -> None:
    assert read_all(GOOD) == 256 + 700 + 2 * len(Entry().data)
