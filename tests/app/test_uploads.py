"""Uploads in parts: tus 1.0.0, interrupted, continued, and made into a data set."""

import asyncio
import fcntl
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from app.datasets.uploads.service import EXPIRES_SECONDS, SILENT_SECONDS, Upload, Uploads
from app.http.errors import UploadRefusedError
from app.system.cleaning import clean_up
from registry.disk import Disks
from tests.app.world import World, check_problem, open_world, serve
from tests.registry.uploads import FOLDERS, pack

TUS = {"Tus-Resumable": "1.0.0"}
PART = "application/offset+octet-stream"


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    """Uploads whose senders may be silent for a moment only."""
    return Uploads(tmp_path / "u", Disks([tmp_path], 0), max_bytes=100, max_per_owner=9, silent_seconds=0.3)


def begin(client: TestClient, num_bytes: int) -> str:
    response = client.post("/v1/uploads", headers=TUS | {"Upload-Length": str(num_bytes)})
    assert (response.status_code, response.headers["upload-offset"]) == (201, "0")
    return response.headers["location"]


def append(client: TestClient, path: str, offset: int, data: bytes, **headers: str) -> Response:
    given = TUS | {"Upload-Offset": str(offset), "Content-Type": PART} | headers
    return client.patch(path, headers=given, content=data)


def offset(client: TestClient, path: str) -> tuple[int, int]:
    response = client.head(path, headers=TUS)
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    assert response.headers["tus-resumable"] == "1.0.0"
    return int(response.headers["upload-offset"]), int(response.headers["upload-length"])


def stored(world: World) -> list[Path]:
    return list(world.services.settings.upload_dir.iterdir())


def test_parts_become_a_data_set_and_the_upload_is_gone(world: World, tmp_path: Path) -> None:
    data = pack(tmp_path / "x", FOLDERS, "tar.gz").read_bytes()
    path = begin(world.client, len(data))
    for start in range(0, len(data), 500):
        response = append(world.client, path, start, data[start : start + 500])
        assert response.status_code == 204
        assert int(response.headers["upload-offset"]) == min(start + 500, len(data))
        assert "upload-expires" in response.headers
    assert offset(world.client, path) == (len(data), len(data))
    form = {"name": "in parts", "upload": path.rsplit("/", 1)[-1]}
    made = world.client.post("/v1/datasets", data=form)
    assert made.status_code == 202
    assert stored(world) == []
    check_problem(world.client.post("/v1/datasets", data=form), 404, "not_found")
    with (tmp_path / "x").open("rb") as file:  # the same bytes at once are the same data set
        again = world.client.post("/v1/datasets", files={"archive": file}, data={"name": "at once"})
    assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])


def test_what_came_before_a_connection_broke_stays(world: World) -> None:
    path = begin(world.client, 1000)
    with serve(world) as address:
        host, port = urlsplit(address).hostname, urlsplit(address).port
        with socket.create_connection((host, port)) as connection:
            lines = [f"PATCH {path} HTTP/1.1", f"Host: {host}", "Tus-Resumable: 1.0.0", "Upload-Offset: 0"]
            lines += [f"Content-Type: {PART}", "Content-Length: 1000", "", ""]
            connection.sendall("\r\n".join(lines).encode() + b"x" * 600)
            time.sleep(0.2)
        deadline = time.monotonic() + 10
        while offset(world.client, path) != (600, 1000) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert append(world.client, path, 600, b"y" * 400).headers["upload-offset"] == "1000"
    (file,) = stored(world)
    assert file.read_bytes() == b"x" * 600 + b"y" * 400
    assert world.client.delete(path, headers=TUS).status_code == 204
    assert stored(world) == []


def test_a_part_that_does_not_fit_is_refused_and_changes_nothing(world: World) -> None:
    path = begin(world.client, 10)
    assert append(world.client, path, 0, b"12345").status_code == 204
    check_problem(append(world.client, path, 0, b"12345"), 409, "offset_mismatch")
    check_problem(append(world.client, path, 7, b"12345"), 409, "offset_mismatch")
    check_problem(append(world.client, path, 5, b"x", **{"Content-Type": "text/plain"}), 415, "unsupported_media_type")
    check_problem(append(world.client, path, 5, b"x", **{"Tus-Resumable": "0.2"}), 412, "tus_version")
    check_problem(world.client.patch(path, headers=TUS | {"Content-Type": PART}, content=b"x"), 422, "invalid_request")
    assert offset(world.client, path) == (5, 10)
    incomplete = world.client.post("/v1/datasets", data={"name": "x", "upload": path.rsplit("/", 1)[-1]})
    check_problem(incomplete, 409, "upload_incomplete")
    check_problem(append(world.client, path, 5, b"123456"), 413, "upload_too_large")
    assert offset(world.client, path) == (5, 10)
    world.client.delete(path, headers=TUS)


def test_two_who_add_to_one_upload_do_not_mix(world: World) -> None:
    path = begin(world.client, 10)
    (file,) = stored(world)
    with file.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        check_problem(append(world.client, path, 0, b"12345"), 409, "upload_busy")
    assert append(world.client, path, 0, b"12345").status_code == 204
    world.client.delete(path, headers=TUS)


@contextmanager
def stalled(world: World, path: str, sent: bytes, num_bytes: int) -> Iterator[socket.socket]:
    """A connection over which half a part has come, and that stays open without a word."""
    with serve(world) as address:
        host, port = urlsplit(address).hostname, urlsplit(address).port
        with socket.create_connection((host, port), timeout=30) as connection:
            lines = [f"PATCH {path} HTTP/1.1", f"Host: {host}", "Tus-Resumable: 1.0.0", "Upload-Offset: 0"]
            lines += [f"Content-Type: {PART}", f"Content-Length: {num_bytes}", "", ""]
            connection.sendall("\r\n".join(lines).encode() + sent)
            until(lambda: bool(world.services.uploads._turns))
            yield connection


def until(happens: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_sender_who_comes_back_takes_over_from_the_request_that_hangs(world: World) -> None:
    path = begin(world.client, 1000)
    with stalled(world, path, b"x" * 600, 1000) as connection:
        until(lambda: append(world.client, path, 0, b"").status_code in (204, 409))
        assert b" 409 " in connection.recv(4096).partition(b"\r\n")[0]
    assert offset(world.client, path) == (600, 1000), "what the old request brought is kept"
    assert append(world.client, path, 600, b"y" * 400).headers["upload-offset"] == "1000"
    world.client.delete(path, headers=TUS)


def test_asking_for_the_offset_ends_a_request_whose_sender_has_fallen_silent(world: World) -> None:
    path = begin(world.client, 1000)
    with stalled(world, path, b"x" * 600, 1000):
        until(lambda: offset(world.client, path) == (600, 1000), SILENT_SECONDS / 2)
        assert world.services.uploads._turns == {}
        assert append(world.client, path, 600, b"y" * 400).status_code == 204
    world.client.delete(path, headers=TUS)


def test_a_sender_who_is_heard_of_goes_on_while_somebody_asks_for_the_offset(uploads: Uploads) -> None:
    async def send() -> Upload:
        upload = uploads.create(30)

        async def parts() -> AsyncIterator[bytes]:
            for part in (b"a" * 10, b"b" * 10, b"c" * 10):
                yield part
                await uploads.find_offset(upload.id)

        return await uploads.append(upload.id, 0, parts())

    assert asyncio.run(send()).offset == 30


def test_a_sender_who_says_nothing_for_long_is_ended_and_what_came_is_kept(uploads: Uploads) -> None:
    async def send() -> None:
        upload = uploads.create(30)

        async def parts() -> AsyncIterator[bytes]:
            yield b"a" * 10
            await asyncio.sleep(60)

        with pytest.raises(UploadRefusedError, match="No data was received") as caught:
            await uploads.append(upload.id, 0, parts())
        assert caught.value.code == "upload_stalled"
        assert (await uploads.find_offset(upload.id)).offset == 10

    asyncio.run(send())


def test_the_newest_of_many_senders_wins_and_no_byte_is_mixed(uploads: Uploads) -> None:
    async def race() -> bytes:
        upload = uploads.create(40)

        async def slow(letter: bytes) -> AsyncIterator[bytes]:
            for _ in range(4):
                yield letter * 10
                await asyncio.sleep(0.05)

        async def send(letter: bytes) -> str:
            try:
                at = (await uploads.find_offset(upload.id)).offset
                await uploads.append(upload.id, at, slow(letter))
            except UploadRefusedError as error:
                return error.code
            return "done"

        codes = await asyncio.gather(*(send(letter) for letter in (b"a", b"b", b"c")))
        assert set(codes) <= {"done", "upload_taken_over", "offset_mismatch", "upload_too_large"}
        return upload.path.read_bytes()

    content = asyncio.run(race())
    assert len(content) % 10 == 0
    assert all(len(set(content[start : start + 10])) == 1 for start in range(0, len(content), 10))


def test_the_number_of_uploads_has_a_bound_for_an_owner_and_for_all(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads", Disks([tmp_path], 0), max_bytes=100, max_per_owner=2)
    for owner in ("alice", "alice", "bob"):
        uploads.create(0, owner)
    with pytest.raises(UploadRefusedError, match="DELETE") as caught:
        uploads.create(0, "alice")
    assert caught.value.code == "too_many_uploads"
    for _ in range(17):
        uploads.create(0)
    with pytest.raises(UploadRefusedError, match="20 unfinished uploads"):
        uploads.create(0)


def test_too_many_uploads_are_told_over_http(tmp_path: Path) -> None:
    with open_world(tmp_path, max_uploads=1) as world:
        paths = [begin(world.client, 5) for _ in range(10)]
        check_problem(world.client.post("/v1/uploads", headers=TUS | {"Upload-Length": "5"}), 429, "too_many_uploads")
        world.client.delete(paths[0], headers=TUS)
        begin(world.client, 5)


def test_processes_that_share_a_folder_share_the_uploads(tmp_path: Path) -> None:
    shared = {"upload_dir": tmp_path / "shared", "database_url": f"sqlite:///{tmp_path / 'paintbox.db'}"}
    with (
        open_world(tmp_path / "first", **shared) as first,
        open_world(tmp_path / "second", **shared) as second,
    ):
        path = begin(first.client, 10)
        assert append(second.client, path, 0, b"12345").status_code == 204
        assert append(first.client, path, 5, b"67890").status_code == 204
        assert offset(second.client, path) == (10, 10)
        gone = append(second.client, "/v1/uploads/" + "0" * 32, 0, b"x")
        check_problem(gone, 404, "not_found")


def test_an_upload_that_another_process_may_have_is_told_with_what_to_do(tmp_path: Path) -> None:
    shared = {"database_url": f"sqlite:///{tmp_path / 'paintbox.db'}"}
    with (
        open_world(tmp_path / "first", **shared) as first,
        open_world(tmp_path / "second", **shared) as second,
    ):
        path = begin(first.client, 10)
        problem = check_problem(append(second.client, path, 0, b"12345"), 409, "upload_elsewhere")
        assert "PAINTBOX_UPLOAD_DIR" in problem["next"]
        form = {"name": "x", "upload": path.rpartition("/")[2]}
        check_problem(second.client.post("/v1/datasets", data=form), 409, "upload_elsewhere")
        assert offset(first.client, path) == (0, 10)


def test_expired_uploads_go_without_anybody_beginning_another(world: World) -> None:
    path = begin(world.client, 10)
    (file,) = stored(world)
    past = time.time() - EXPIRES_SECONDS - 1
    os.utime(file, (past, past))
    clean_up(world.services.settings, world.services.database, world.services.blobs, world.services.uploads)
    assert stored(world) == []
    assert world.client.head(path, headers=TUS).status_code == 404


def test_an_upload_that_nobody_goes_on_with_is_removed(world: World) -> None:
    path = begin(world.client, 10)
    (file,) = stored(world)
    past = time.time() - EXPIRES_SECONDS - 1
    os.utime(file, (past, past))
    other = begin(world.client, 10)
    assert world.client.head(path, headers=TUS).status_code == 404
    assert offset(world.client, other) == (0, 10)
    world.client.delete(other, headers=TUS)


def test_an_upload_may_be_as_large_as_an_archive_and_its_parts_larger_than_other_requests(tmp_path: Path) -> None:
    with open_world(tmp_path, max_upload_bytes=5000, max_request_bytes=1000) as world:
        headers = TUS | {"Upload-Length": "5001"}
        check_problem(world.client.post("/v1/uploads", headers=headers), 413, "upload_too_large")
        path = begin(world.client, 5000)
        assert append(world.client, path, 0, b"x" * 5000).status_code == 204
        refused = world.client.post("/v1/datasets", data={"name": "x", "upload": path.rsplit("/", 1)[-1]})
        check_problem(refused, 422, "unknown_format")
        assert offset(world.client, path) == (5000, 5000)  # other options might fit


@pytest.mark.parametrize("form", [{"name": "x"}, {"name": "x", "upload": "../../etc/passwd"}])
def test_a_data_set_needs_one_upload(client: TestClient, form: dict[str, str]) -> None:
    assert client.post("/v1/datasets", data=form).status_code == 422
    files = {"archive": b"x"}
    check_problem(client.post("/v1/datasets", data={"name": "x", "upload": "0" * 32}, files=files), 422, "no_upload")
    check_problem(client.post("/v1/datasets", data={"name": "x", "upload": "0" * 32}), 404, "not_found")
