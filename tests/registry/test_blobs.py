"""Blobs: one name for the same bytes, never half an object, and no read without its hash."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.blobs import FileBlobStore
from registry.errors import BlobCorruptError, BlobMissingError

MAX_KILLS = 40
# Stores one big object after another, each different, until it is killed.
STORE_FOREVER = """
import itertools, sys
from pathlib import Path
from registry.blobs import FileBlobStore
store = FileBlobStore(Path(sys.argv[1]))
body = bytes(8 << 20)
print("ready", flush=True)
for number in itertools.count(int(sys.argv[2])):
    store.put_bytes(number.to_bytes(8, "big") + body)
"""
# Writes to a disk that is full after one megabyte.
STORE_ON_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from registry.blobs import FileBlobStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
FileBlobStore(Path(sys.argv[1])).put_bytes(bytes(2 << 20))
"""


def objects(folder: Path) -> list[Path]:
    return [path for path in (folder / "sha256").rglob("*") if path.is_file()]


def incoming(folder: Path) -> list[Path]:
    return list((folder / "incoming").iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


def test_the_same_bytes_have_the_same_name(blobs: FileBlobStore, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    name = blobs.put_bytes(b"abc")
    assert name == hashlib.sha256(b"abc").hexdigest()
    assert blobs.put_bytes(b"abc") == blobs.put_file(tmp_path / "file") == name
    assert blobs.put_bytes(b"abd") != name
    assert len(objects(folder)) == 2
    assert incoming(folder) == []


@given(data=st.binary(max_size=200))
def test_what_is_stored_is_read_back(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    store = FileBlobStore(tmp_path_factory.getbasetemp() / "law")
    name = store.put_bytes(data)
    assert store.read(name) == store.fetch(name).read_bytes() == data


def test_a_big_file_is_stored_whole(blobs: FileBlobStore, tmp_path: Path) -> None:
    data = random.Random(0).randbytes((3 << 20) + 17)
    (tmp_path / "file").write_bytes(data)
    name = blobs.put_file(tmp_path / "file")
    assert blobs.read(name) == data
    assert (tmp_path / "file").read_bytes() == data


def test_storing_again_leaves_the_object_alone(blobs: FileBlobStore) -> None:
    path = blobs.fetch(blobs.put_bytes(b"abc"))
    before = path.stat()
    blobs.put_bytes(b"abc")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_storing_again_repairs_an_object_that_has_gone_bad(blobs: FileBlobStore) -> None:
    name = blobs.put_bytes(b"sound")
    blobs.fetch(name).write_bytes(b"rotten")
    with pytest.raises(BlobCorruptError):
        blobs.read(name)
    assert blobs.put_bytes(b"sound") == name
    assert blobs.read(name) == b"sound"


@pytest.mark.parametrize("position", [0, 500, 999])
@pytest.mark.parametrize("way", ["read", "fetch"])
def test_a_flipped_bit_is_noticed(blobs: FileBlobStore, position: int, way: str) -> None:
    name = blobs.put_bytes(bytes(1000))
    path = blobs.fetch(name)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(BlobCorruptError, match=name):
        getattr(blobs, way)(name)


@pytest.mark.parametrize("way", ["read", "fetch"])
def test_a_shortened_object_is_noticed(blobs: FileBlobStore, way: str) -> None:
    name = blobs.put_bytes(bytes(1000))
    os.truncate(blobs.fetch(name), 999)
    with pytest.raises(BlobCorruptError):
        getattr(blobs, way)(name)


@pytest.mark.parametrize("way", ["read", "fetch"])
def test_a_missing_object_says_so(blobs: FileBlobStore, way: str) -> None:
    with pytest.raises(BlobMissingError, match="is missing"):
        getattr(blobs, way)("0" * 64)


def test_a_deleted_object_is_gone_and_may_be_stored_again(blobs: FileBlobStore) -> None:
    name = blobs.put_bytes(b"abc")
    blobs.delete(name)
    blobs.delete(name)
    with pytest.raises(BlobMissingError):
        blobs.read(name)
    assert blobs.put_bytes(b"abc") == name
    assert blobs.read(name) == b"abc"


def test_objects_are_for_their_owner_only(blobs: FileBlobStore, folder: Path) -> None:
    path = blobs.fetch(blobs.put_bytes(b"abc"))
    assert [part.stat().st_mode & 0o077 for part in (path.parent, folder / "incoming")] == [0, 0]


def test_a_full_disk_leaves_nothing_behind(blobs: FileBlobStore, folder: Path) -> None:
    child = subprocess.run([sys.executable, "-c", STORE_ON_FULL_DISK, folder], capture_output=True, text=True)
    assert "File too large" in child.stderr
    assert objects(folder) == []
    assert incoming(folder) == []


def test_a_file_that_cannot_be_read_leaves_nothing_behind(blobs: FileBlobStore, folder: Path, tmp_path: Path) -> None:
    for unreadable, error in ((tmp_path / "nothing", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error):
            blobs.put_file(unreadable)
    assert incoming(folder) == []


def test_many_may_store_the_same_bytes_at_once(blobs: FileBlobStore, folder: Path) -> None:
    data = bytes(1 << 20)
    barrier = threading.Barrier(4)
    names: list[str] = []

    def store() -> None:
        barrier.wait()
        names.append(blobs.put_bytes(data))

    threads = [threading.Thread(target=store) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 4
    assert blobs.read(names[0]) == data
    assert incoming(folder) == []


def test_a_killed_writer_never_leaves_half_an_object_under_a_name(blobs: FileBlobStore, folder: Path) -> None:
    """Kills until a write was really cut short, which a file left in `incoming/` shows, and then some more."""
    moments = random.Random(0)
    kills_in_mid_write = 0
    for number in range(MAX_KILLS):
        command = [sys.executable, "-c", STORE_FOREVER, str(folder), str(number << 32)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, 0.06))
            child.send_signal(signal.SIGKILL)
        kills_in_mid_write += bool(incoming(folder))
        for path in incoming(folder):
            path.unlink()
        restarted = FileBlobStore(folder)
        for path in objects(folder):
            restarted.read(path.name)  # verifies the hash
            path.unlink()
        if kills_in_mid_write >= 4:
            return
    pytest.fail(f"{MAX_KILLS} kills hit a write only {kills_in_mid_write} times")


def test_storing_what_is_there_makes_it_young_and_writes_nothing(blobs: FileBlobStore) -> None:
    name = blobs.put_bytes(b"abc")
    path = blobs.fetch(name)
    os.utime(path, (1000, 1000))
    inode = path.stat().st_ino
    found = blobs.stat(name)
    assert found is not None
    assert (found.num_bytes, found.stored_at) == (3, 1000)
    assert blobs.put_bytes(b"abc") == name
    again = blobs.stat(name)
    assert again is not None
    assert again.stored_at > time.time() - 3600
    assert path.stat().st_ino == inode
    blobs.delete(name)
    assert blobs.stat(name) is None
