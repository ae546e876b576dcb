"""Uploads in parts: tus 1.0.0, interrupted, continued, and made into a data set."""

import fcntl
import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from app.uploads.service import EXPIRES_SECONDS
from tests.app.world import World, check_problem, open_world, serve
from tests.registry.uploads import FOLDERS, pack

TUS = {"Tus-Resumable": "1.0.0"}
PART = "application/offset+octet-stream"


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
