"""Archives of every kind give the same files, are known by their bytes, and are refused if damaged or hostile."""

import gzip
import io
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.archives import ArchiveLimits
from registry.errors import ArchiveRefusedError
from registry.intake.containers import open_tar
from registry.intake.reading import look
from tests.registry.uploads import FOLDERS, KINDS, ONE, ZERO, contents, labels, pack, read, rejected, tar_bytes

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
LIMITS = ArchiveLimits(max_members=40, max_member_bytes=4096, max_total_bytes=8192, ratio_floor_bytes=1024)


def refusal(path: Path, limits: ArchiveLimits | None = None) -> str:
    with pytest.raises(ArchiveRefusedError) as refused:
        read(path, limits=limits)
    assert refused.value.advice
    assert "\n" not in str(refused.value)
    return refused.value.code


def special(name: str, kind: bytes, target: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, target
        archive.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_archive_gives_the_same_images(tmp_path: Path, kind: str) -> None:
    plan = read(pack(tmp_path / "named.anything", FOLDERS, kind))
    assert plan.layout == "imagefolder"
    assert plan.classes == ("one", "zero")
    assert labels(plan) == [(name, name.split("/")[0], name.split("/")[1]) for name in sorted(FOLDERS)]
    assert [data for _, _, data in contents(plan)] == [FOLDERS[name] for name in sorted(FOLDERS)]


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@pytest.mark.parametrize(
    "flags", [["-c"], ["-cz"], ["-c", "--format=ustar"], ["-c", "--format=posix"], ["-c", "--format=v7"]]
)
def test_what_the_tar_program_writes_is_read(tmp_path: Path, flags: list[str]) -> None:
    for name, data in FOLDERS.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
    subprocess.run(["tar", *flags, "-f", tmp_path / "x", "-C", tmp_path / "set", "."], check=True)
    plan = read(tmp_path / "x")
    assert contents(plan) == [(*name.split("/")[:2], FOLDERS[name]) for name in sorted(FOLDERS)]


@pytest.mark.parametrize("form", FORMATS)
def test_long_names_are_read_in_every_form_of_tar(tmp_path: Path, form: int) -> None:
    members = {f"train/{'x' * 90}/{'y' * 90}.png": b"1", "train/café/" + "z" * 80 + ".png": b"2"}
    (tmp_path / "a.tar").write_bytes(tar_bytes(members, form))
    assert contents(read(tmp_path / "a.tar")) == [("train", "café", b"2"), ("train", "x" * 90, b"1")]


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"BZh91AY", b"\x1f\x8b rubbish", gzip.compress(b"no tar in here" * 99, mtime=0)]
)
def test_what_is_of_no_known_kind_is_refused_and_told_what_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ArchiveRefusedError) as refused:
        look(tmp_path / "a.zip")
    assert refused.value.code == "unknown_format"
    for word in ("zip", "tar.zst", "metadata.jsonl", "filepath", "Parquet", "WebDataset"):
        assert word in refused.value.advice


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (tar_bytes({"../x.png": b""}), "path_traversal"),
        (tar_bytes({"a/../../x.png": b""}), "path_traversal"),
        (tar_bytes({"/etc/x.png": b""}), "absolute_path"),
        (tar_bytes({"a\\b.png": b""}), "bad_name"),
        (tar_bytes({"a\nb.png": b""}), "bad_name"),
        (special("a/b.png", tarfile.CHRTYPE), "special_file"),
        (special("a/b.png", tarfile.FIFOTYPE), "special_file"),
        (special("a/b.png", tarfile.GNUTYPE_SPARSE), "sparse_file"),
    ],
)
@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_a_hostile_member_is_refused_as_in_a_zip(tmp_path: Path, content: bytes, code: str, kind: str) -> None:
    (tmp_path / "x").write_bytes(content if kind == "tar" else gzip.compress(content))
    assert refusal(tmp_path / "x") == code
    if kind == "tar":
        with pytest.raises(ArchiveRefusedError):
            look(tmp_path / "x")


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (special("a/l.png", tarfile.SYMTYPE, "/etc/passwd"), "is a symbolic link"),
        (special("a/l.png", tarfile.LNKTYPE, "a/1.png"), "is a hard link to another file"),
        (special("a/l.png", b"V"), "is a volume label"),
        (
            tar_bytes({"a/l.png": b"old", "a/l.png/../l.png": b""})[:1024],
            "is replaced by a later entry of the same name",
        ),
    ],
    ids=["symlink", "hard link", "volume label", "repeated"],
)
def test_a_member_that_is_no_file_is_left_out_and_the_rest_is_read(tmp_path: Path, member: bytes, reason: str) -> None:
    newer = {"a/l.png": b"new"} if "replaced" in reason else {}
    rest = tar_bytes({"a/1.png": ZERO[0], "b/1.png": ONE[0], **newer}, tarfile.USTAR_FORMAT)
    (tmp_path / "x").write_bytes(member.rstrip(b"\0").ljust(-(-len(member.rstrip(b"\0")) // 512) * 512, b"\0") + rest)
    plan = read(tmp_path / "x")
    assert plan.classes == ("a", "b")
    assert len(plan.images) == (3 if newer else 2)
    assert b"old" not in [data for _, _, data in contents(plan)]
    assert rejected(plan) == {"a/l.png": reason}


def test_archives_that_were_joined_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(tar_bytes({"cat/1.png": ZERO[0]}) + tar_bytes({"dog/1.png": ONE[0]}))
    assert refusal(tmp_path / "x") == "damaged_archive"


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.zst"])
@pytest.mark.parametrize("keep", [700, -1100, -1024])
def test_an_archive_that_is_cut_off_is_damaged(tmp_path: Path, kind: str, keep: int) -> None:
    data = tar_bytes({"a/1.png": b"x" * 600, "b/1.png": b"y" * 500}, tarfile.USTAR_FORMAT).rstrip(b"\0") + bytes(1024)
    data = data[: len(data) + (-len(data) % 512)][:keep]
    squeeze = {"tar": bytes, "tar.gz": gzip.compress, "tar.zst": zstandard.compress}[kind]
    (tmp_path / "x").write_bytes(squeeze(data))
    assert refusal(tmp_path / "x") == "damaged_archive"


@pytest.mark.parametrize("kind", ["tar.gz", "tar.zst", "tar.xz"])
def test_a_compressed_stream_that_is_cut_off_is_damaged(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / "x", {f"a/{n}.png": random.Random(n).randbytes(20_000) for n in range(30)}, kind)
    path.write_bytes(path.read_bytes()[:-40])
    assert refusal(path) == "damaged_archive"


@pytest.mark.parametrize("kind", ["tar.gz", "tar.zst", "tar.xz", "tar.bz2"])
def test_a_bomb_is_stopped_by_its_ratio_and_by_its_size(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / "x", {"a/1.png": bytes(1 << 20)}, kind)
    roomy = ArchiveLimits(drawings_bytes=1 << 16)
    assert refusal(path, roomy) == "archive_bomb"
    assert refusal(path, ArchiveLimits(max_total_bytes=1 << 19)) == "archive_bomb"
    assert sum(each.stat().st_size for each in tmp_path.rglob("unpacked.tar")) <= 2 << 20


def test_budgets_hold_for_tar_as_for_zip(tmp_path: Path) -> None:
    many = pack(tmp_path / "many", {f"a/{n}.png": b"" for n in range(41)}, "tar")
    assert refusal(many, LIMITS) == "too_many_files"
    large = read(pack(tmp_path / "large", {"a/1.png": bytes(5000), "a/2.png": b"x"}, "tar"), limits=LIMITS)
    assert [data for _, _, data in contents(large)] == ["larger than 4096 bytes", b"x"]


def test_an_extended_header_of_any_size_is_not_read_into_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    with (tmp_path / "x").open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate((1 << 30) + 4096)
    assert refusal(tmp_path / "x") == "damaged_archive"


# At most 204 bytes in parts of 40, which fit the two fields that the oldest form has for a name.
NAMES = st.lists(st.sampled_from(["a", "..", ".", "train", "ü", "x" * 40, "C:", "\0", "\x85"]), min_size=1, max_size=5)
MEMBERS = st.dictionaries(
    NAMES.map("/".join).filter(lambda name: name not in ("", ".")), st.binary(max_size=700), max_size=5
)


@settings(max_examples=150)
@given(MEMBERS, st.sampled_from(FORMATS))
def test_files_come_out_of_a_tar_as_they_went_in_or_it_is_refused(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes], form: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "law.tar"
    path.write_bytes(tar_bytes(members, form))
    try:
        container = open_tar(path, ArchiveLimits())
    except ArchiveRefusedError:
        hostile = ("..", "\0", "\x85")
        assert any(each in name for name in members for each in hostile) or any(
            name.startswith(("/", "C:")) or name.rstrip("./") == "" for name in members
        )
        return
    names = [entry.name for entry in container.entries]
    assert dict(container.read(names)) == {name: members[name] for name in names}
    assert not any(".." in entry.parts or entry.name.startswith("/") for entry in container.entries)


GOOD = tar_bytes({"train/": b"", "train/cat/1.png": bytes(range(256)), "train/dog/" + "x" * 120: b"y" * 700})


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes_of_a_tar_never_yield_more_than_the_budget(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(GOOD)
    for position, value in changes:
        content[position] = value
    path = tmp_path_factory.getbasetemp() / "changed.tar"
    path.write_bytes(content)
    try:
        container = open_tar(path, LIMITS)
    except ArchiveRefusedError:
        return
    names = [entry.name for entry in container.entries if not entry.is_folder]
    total = sum(len(data) for _, data in container.read(names))
    assert total <= LIMITS.max_total_bytes


@settings(max_examples=150)
@given(st.binary(max_size=1500), st.sampled_from([bytes, gzip.compress, zstandard.compress]))
def test_arbitrary_bytes_are_refused_not_raised(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, squeeze: Callable[[bytes], bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(squeeze(content))
    with pytest.raises(ArchiveRefusedError):
        read(path, limits=LIMITS)
