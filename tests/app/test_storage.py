"""Room for what is stored: the floor of free disk space, an owner's quota, and a disk that is really full."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from app.http.errors import StorageUnavailableError
from app.http.faults import storage_fault
from contract.access import Scope
from registry.errors import StorageFullError
from registry.keys import ApiKeys
from tests.app.world import World, add_ready_dataset, check_problem, open_world
from tests.builders import digit_members, write_zip

TUS = {"Tus-Resumable": "1.0.0"}
PART = "application/offset+octet-stream"
HUGE = 1 << 60
STORING = (
    ("POST", "/v1/datasets"),
    ("POST", "/v1/datasets/ds_x/derive"),
    ("POST", "/v1/uploads"),
    ("PATCH", f"/v1/uploads/{'0' * 32}"),
    ("POST", "/v1/patches"),
    ("POST", "/v1/patches/pt_x/reselect"),
    ("POST", "/v1/versions"),
    ("GET", "/v1/versions/1/export"),
    ("POST", "/v1/label-sets"),
    ("POST", "/v1/jobs/job_x/retry"),
)
PICTURE = digit_members(range(1), train=1)["train/zero/000.png"]


def _classify(world: World) -> int:
    asked = {"files": {"images": PICTURE}, "data": {"candidate_labels": '["zero", "one"]'}}
    return world.client.post("/v1/classify", **asked).status_code  # type: ignore[arg-type]


def _archive(path: Path, note: bytes = b"") -> Path:
    return write_zip(path, {**digit_members(range(2), train=3, val=1, test=1), "note.txt": note})


def _upload(world: World, path: Path, **headers: str) -> Any:
    with path.open("rb") as file:
        return world.client.post("/v1/datasets", files={"archive": file}, data={"name": "x"}, headers=headers)


# -- the floor ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def low(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation whose disk has less room than it has to keep free."""
    with open_world(tmp_path_factory.mktemp("low"), min_free_bytes=HUGE) as world:
        yield world


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation that takes uploads of any size, up to the last byte of its disk."""
    settings = {"max_upload_bytes": HUGE, "min_free_bytes": 0, "max_stored_bytes": 1}
    with open_world(tmp_path_factory.mktemp("large"), **settings) as world:
        yield world


@pytest.mark.parametrize(("method", "path"), STORING)
def test_below_the_floor_nothing_is_added_and_no_body_is_read(low: World, method: str, path: str) -> None:
    read = []

    def body() -> Iterator[bytes]:
        read.append(True)
        yield b"x"

    headers = TUS | {"Upload-Length": "5", "Upload-Offset": "0", "Content-Type": PART}
    before = sorted(low.services.settings.data_dir.rglob("*"))
    has_body = method != "GET" and not path.endswith(("/v1/uploads", "/retry"))  # others are refused a body at once
    answer = low.client.request(method, path, content=body() if has_body else None, headers=headers)
    assert "Delete" in check_problem(answer, 507, "storage_full")["next"]
    assert read == []
    assert sorted(low.services.settings.data_dir.rglob("*")) == before


def test_below_the_floor_what_is_there_can_be_used_and_deleted_and_readiness_says_degraded(low: World) -> None:
    identifier = add_ready_dataset(low.services, ["zero"])
    assert _classify(low) == 200
    for path in ("/v1/datasets", "/v1/versions", "/v1/jobs", "/livez"):
        assert low.client.get(path).status_code == 200
    assert low.client.put("/v1/aliases/canary", json={"version": 1}).status_code == 200
    assert low.client.delete(f"/v1/datasets/{identifier}").status_code == 204
    assert low.client.post("/v1/gc").status_code == 200
    ready = low.client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    check = ready.json()["checks"]["storage"]
    assert (check["ok"], check["required"]) == (False, False)
    assert "bytes free" in check["detail"]
    storage = low.client.get("/v1/system").json()["storage"]
    assert storage["min_free_bytes"] == HUGE
    assert 0 < storage["free_bytes"] < HUGE


def test_with_room_readiness_is_well_and_the_metric_tells_how_much(world: World) -> None:
    assert world.client.get("/readyz").json()["checks"]["storage"]["ok"] is True
    lines = world.client.get("/metrics").text.splitlines()
    (free,) = [line for line in lines if line.startswith("paintbox_data_free_bytes ")]
    assert float(free.split()[1]) > 0


def test_a_body_for_which_there_is_no_room_is_refused_by_its_stated_length(large: World) -> None:
    free = large.services.storage.room().free_bytes
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(2 * free)}
    check_problem(large.client.post("/v1/datasets", content=b"", headers=headers), 507, "storage_full")


def test_announced_uploads_need_room_together(large: World) -> None:
    free = large.services.storage.room().free_bytes
    half = TUS | {"Upload-Length": str(free * 3 // 5)}
    begun = large.client.post("/v1/uploads", headers=half)
    assert begun.status_code == 201
    check_problem(large.client.post("/v1/uploads", headers=half), 507, "storage_full")
    assert large.client.delete(begun.headers["location"], headers=TUS).status_code == 204


def test_the_disk_is_looked_at_while_a_body_comes_in(
    large: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    def require(num_bytes: int = 0) -> None:
        looked.append(num_bytes)
        if len(looked) > 1:
            raise StorageFullError()

    begun = large.client.post("/v1/uploads", headers=TUS | {"Upload-Length": "100000"}).headers["location"]
    monkeypatch.setattr("app.storage.guard._LOOK_BYTES", 1000)
    monkeypatch.setattr(large.services.storage, "require_room", require)
    headers = TUS | {"Upload-Offset": "0", "Content-Type": PART}
    parts = iter([b"x" * 2000, b"y" * 2000, b"z" * 2000])
    check_problem(large.client.patch(begun, headers=headers, content=parts), 507, "storage_full")
    assert int(large.client.head(begun, headers=TUS).headers["upload-offset"]) < 6000
    looked.clear()
    check_problem(_upload(large, _archive(tmp_path / "x.zip")), 507, "storage_full")
    assert list(large.services.settings.scratch_dir.iterdir()) == []


# -- quotas ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An installation in which an owner may store three megabytes."""
    with open_world(tmp_path_factory.mktemp("keyed"), max_stored_bytes=3_000_000) as world:
        _key(world, "somebody")
        yield world


def _key(world: World, owner: str) -> dict[str, str]:
    """The header of a new owner."""
    with world.services.database.write() as session:
        made = ApiKeys(session).create(name=owner, scopes=[Scope.ADMIN], expires_at=None, created_by="a test")
    world.services.keyring.reload()
    return {"Authorization": f"Bearer {made[1]}"}


def test_an_owner_who_stores_enough_stores_no_more_until_something_is_deleted(keyed: World, tmp_path: Path) -> None:
    alice, bob = _key(keyed, "alice"), _key(keyed, "bob")
    first, second, third = (_archive(tmp_path / name, os.urandom(2_500_000)) for name in ("a", "b", "c"))
    made = _upload(keyed, first, **alice)
    assert made.status_code == 202
    problem = check_problem(_upload(keyed, second, **alice), 413, "storage_quota")
    assert "'alice' stores 2," in problem["detail"]
    begin = alice | TUS | {"Upload-Length": "2000000"}
    check_problem(keyed.client.post("/v1/uploads", headers=begin), 413, "storage_quota")
    assert _upload(keyed, second, **bob).status_code == 202
    keyed.client.post(f"/v1/jobs/{made.json()['job_id']}/cancel", headers=alice)
    assert keyed.client.delete(made.headers["location"], headers=alice).status_code == 204
    assert _upload(keyed, third, **alice).status_code == 202


def test_announced_uploads_and_label_sets_count(keyed: World) -> None:
    carol = _key(keyed, "carol")
    announced = carol | TUS | {"Upload-Length": "3000000"}
    begun = keyed.client.post("/v1/uploads", headers=announced)
    assert begun.status_code == 201
    check_problem(keyed.client.post("/v1/uploads", headers=announced), 413, "storage_quota")
    part = carol | TUS | {"Upload-Offset": "0", "Content-Type": PART}
    assert keyed.client.patch(begun.headers["location"], headers=part, content=bytes(3_000_000)).status_code == 204
    labels = {"labels": [f"{number} {'x' * 480}" for number in range(100)]}
    assert keyed.client.post("/v1/label-sets", json=labels, headers=carol).status_code == 201
    other = {"labels": ["a", "b"]}
    check_problem(keyed.client.post("/v1/label-sets", json=other, headers=carol), 413, "storage_quota")
    assert keyed.client.delete(begun.headers["location"], headers=carol | TUS).status_code == 204
    assert keyed.client.post("/v1/label-sets", json=other, headers=carol).status_code == 201


def test_a_body_in_chunks_that_is_over_the_quota_is_refused_before_it_is_stored(keyed: World, tmp_path: Path) -> None:
    dave = _key(keyed, "dave") | {"Content-Type": "multipart/form-data; boundary=x"}
    content = _archive(tmp_path / "x.zip", os.urandom(5_000_000)).read_bytes()
    before = set(keyed.services.settings.blob_dir.rglob("*"))
    form = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nx\r\n--x\r\nContent-Disposition: form-data; '
    form += b'name="archive"; filename="x.zip"\r\n\r\n' + content + b"\r\n--x--\r\n"
    check_problem(keyed.client.post("/v1/datasets", content=iter([form]), headers=dave), 413, "storage_quota")
    assert set(keyed.services.settings.blob_dir.rglob("*")) == before
    assert list(keyed.services.settings.scratch_dir.iterdir()) == []


def test_without_keys_nobody_is_counted(large: World, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert _upload(large, _archive(tmp_path / name, name.encode())).status_code == 202


# -- a disk that is full or broken -------------------------------------------------------------------------------


@contextmanager
def _small_disk(folder: Path, num_bytes: int) -> Iterator[Path]:
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "none", str(folder)]
    try:
        subprocess.run(options, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_on_a_disk_that_is_full_no_answer_is_an_internal_error_and_all_is_well_once_there_is_room(
    tmp_path: Path,
) -> None:
    archive, data = _archive(tmp_path / "x.zip", os.urandom(3_000_000)), os.urandom(6_000_000)
    with _small_disk(tmp_path / "disk", 24 << 20) as disk, open_world(disk, min_free_bytes=0) as world:
        begun = world.client.post("/v1/uploads", headers=TUS | {"Upload-Length": "6000000"}).headers["location"]
        filler = disk / "filler"
        _fill(filler)
        patch_headers = TUS | {"Upload-Offset": "0", "Content-Type": PART}
        answers = {
            "upload": _upload(world, archive),
            "part": world.client.patch(begun, headers=patch_headers, content=data[:5_000_000]),
            "label set": world.client.post("/v1/label-sets", json={"labels": ["a" * 450 + str(i) for i in range(500)]}),
            "alias": world.client.put("/v1/aliases/canary", json={"version": 1}),
            "export": world.client.get("/v1/versions/1/export"),
            "system": world.client.get("/v1/system"),
            "ready": world.client.get("/readyz"),
        }
        statuses = {name: answer.status_code for name, answer in answers.items()}
        assert statuses["upload"] == statuses["part"] == statuses["export"] == 507, statuses
        assert {statuses["label set"], statuses["alias"]} <= {200, 201, 507}, statuses
        assert statuses["system"] == statuses["ready"] == 200, statuses
        assert answers["upload"].json()["code"] == "storage_full"
        assert str(disk) not in "".join(answer.text for answer in answers.values())
        assert _classify(world) == 200
        at = int(world.client.head(begun, headers=TUS).headers["upload-offset"])
        assert at < 5_000_000
        filler.unlink()
        assert world.client.put("/v1/aliases/canary", json={"version": 1}).status_code == 200
        rest = TUS | {"Upload-Offset": str(at), "Content-Type": PART}
        assert world.client.patch(begun, headers=rest, content=data[at:]).status_code == 204
        (stored,) = world.services.settings.upload_dir.glob(f"{begun.rpartition('/')[2]}.*")
        assert stored.read_bytes() == data
        stored.unlink()
        assert _upload(world, archive).status_code == 202
        assert list(world.services.settings.scratch_dir.iterdir()) == []
        assert list((world.services.settings.blob_dir / "incoming").iterdir()) == []


def test_what_the_system_says_of_a_disk_is_told_from_other_errors() -> None:
    for number in (errno.ENOSPC, errno.EDQUOT):
        assert isinstance(storage_fault(OSError(number, "x", "/secret/path")), StorageFullError)
    for number in (errno.EROFS, errno.EIO, errno.EMFILE):
        fault = storage_fault(OSError(number, "x", "/secret/path"))
        assert isinstance(fault, StorageUnavailableError)
        assert "secret" not in str(fault)
    for other in (FileNotFoundError(errno.ENOENT, "x"), ConnectionRefusedError(errno.ECONNREFUSED, "x"), OSError("x")):
        assert storage_fault(other) is None
    caused = ValueError("x")
    caused.__cause__ = OSError(errno.ENOSPC, "x")
    assert isinstance(storage_fault(caused), StorageFullError)
    assert storage_fault(ValueError("x")) is None
