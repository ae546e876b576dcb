"""Blobs in a bucket: the same promises as in a folder, kept with a real S3 server."""

import hashlib
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.errors import BlobCorruptError, BlobMissingError, BlobStoreUnreachableError, ConfigurationError
from registry.object_blobs import ObjectBlobStore, has_objects, open_bucket
from tests.registry.s3 import S3Server

ROOM = 1 << 30


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def url(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.new_url()


@pytest.fixture
def store(url: str, tmp_path: Path) -> ObjectBlobStore:
    return ObjectBlobStore(open_bucket(url), tmp_path / "cache", ROOM)


@pytest.fixture
def elsewhere(url: str, tmp_path: Path) -> ObjectBlobStore:
    """The same bucket, as another machine sees it."""
    return ObjectBlobStore(open_bucket(url), tmp_path / "elsewhere", ROOM)


def cached(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in (folder / "sha256").glob("*/*")}


def test_what_one_machine_stores_another_reads(
    store: ObjectBlobStore, elsewhere: ObjectBlobStore, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    name = store.put_bytes(b"abc")
    assert name == hashlib.sha256(b"abc").hexdigest()
    assert store.put_file(tmp_path / "file") == name
    assert elsewhere.read(name) == elsewhere.fetch(name).read_bytes() == b"abc"
    assert elsewhere.read(store.put_bytes(b"")) == b""


def test_a_file_of_many_parts_arrives_whole(store: ObjectBlobStore, elsewhere: ObjectBlobStore, tmp_path: Path) -> None:
    data = random.Random(0).randbytes((12 << 20) + 17)
    (tmp_path / "file").write_bytes(data)
    assert elsewhere.read(store.put_file(tmp_path / "file")) == data


def test_what_is_not_there_is_missing_everywhere_after_it_was_deleted(
    store: ObjectBlobStore, elsewhere: ObjectBlobStore
) -> None:
    name = store.put_bytes(b"abc")
    store.delete(name)
    store.delete(name)
    for each in (store, elsewhere):
        with pytest.raises(BlobMissingError):
            each.read(name)


def test_storing_what_is_in_the_bucket_makes_it_young(store: ObjectBlobStore, elsewhere: ObjectBlobStore) -> None:
    name = store.put_bytes(b"abc")
    first = store.stat(name)
    time.sleep(1.1)  # the bucket tells whole seconds
    elsewhere.put_bytes(b"abc")
    second = store.stat(name)
    assert first is not None
    assert second is not None
    assert (first.num_bytes, second.num_bytes) == (3, 3)
    assert second.stored_at > first.stored_at
    store.delete(name)
    assert elsewhere.stat(name) is None


def test_bytes_that_changed_in_the_bucket_are_refused_and_not_kept(
    store: ObjectBlobStore, elsewhere: ObjectBlobStore, url: str, tmp_path: Path
) -> None:
    name = store.put_bytes(b"abc")
    open_bucket(url).put(f"sha256/{name[:2]}/{name}", b"abd")
    with pytest.raises(BlobCorruptError):
        elsewhere.fetch(name)
    assert cached(tmp_path / "elsewhere") == {}
    store.put_bytes(b"abc")
    assert elsewhere.read(name) == b"abc"


def test_a_cached_file_that_changed_is_fetched_again(store: ObjectBlobStore, tmp_path: Path) -> None:
    name = store.put_bytes(b"abc")
    cached(tmp_path / "cache")[name].write_bytes(b"abd")
    assert store.read(name) == b"abc"


def test_the_cache_keeps_what_was_used_last_and_loses_nothing(url: str, tmp_path: Path) -> None:
    store = ObjectBlobStore(open_bucket(url), tmp_path / "cache", 250)
    names = [store.put_bytes(bytes([index]) * 100) for index in range(3)]
    assert cached(tmp_path / "cache").keys() == set(names), "what was just used stays, whatever the limit"
    for age, name in enumerate(reversed(names)):
        long_ago = time.time() - 10_000 - age
        os.utime(cached(tmp_path / "cache")[name], (long_ago, long_ago))
    store.read(names[0])
    newest = store.put_bytes(b"x" * 100)
    assert cached(tmp_path / "cache").keys() == {names[0], newest}
    assert [store.read(name)[0] for name in names] == [0, 1, 2]


def test_a_wrong_key_is_told(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    store = ObjectBlobStore(open_bucket(url), tmp_path / "cache", ROOM)
    with pytest.raises(BlobStoreUnreachableError, match="unreachable") as caught:
        store.put_bytes(b"abc")
    assert "\n" not in str(caught.value)
    assert "another" not in str(caught.value)


def test_a_bucket_that_does_not_answer_is_told(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = ObjectBlobStore(open_bucket(url), tmp_path / "cache", ROOM)
    with pytest.raises(BlobStoreUnreachableError):
        store.read("0" * 64)


def test_a_bucket_that_nobody_has_used_holds_nothing_until_something_is_stored(
    url: str, store: ObjectBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not has_objects(open_bucket(url))
    store.put_bytes(b"abc")
    assert has_objects(open_bucket(url))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(BlobStoreUnreachableError):
        has_objects(open_bucket(url))


def test_an_address_without_a_bucket_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="PAINTBOX_BLOB_URL"):
        open_bucket("s3://")
