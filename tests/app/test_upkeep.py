"""Looking after versions over HTTP: names and tags, the trash, and whether what is stored is what was registered."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from app.versions.service import empty_trash
from registry.database import utc_now
from registry.errors import BlobMissingError
from registry.tables import TaskVectorRow, VersionRow
from tests.app.patched import add_patch, add_task_vector
from tests.app.world import World, add_version, check_problem


@pytest.fixture
def version(world: World) -> int:
    return add_version(world.services, world.base, seed=1)[0]


def _listed(world: World, **query: Any) -> list[int]:
    return [item["id"] for item in world.client.get("/v1/versions", params=query).json()["items"]]


def _compose(world: World, **body: Any) -> Any:
    return world.client.post("/v1/versions", json={"name": "mix", **body})


def test_a_version_is_renamed_tagged_and_found_by_its_tags(world: World, version: int) -> None:
    other, _ = add_version(world.services, world.base, seed=2)
    path = f"/v1/versions/{version}"
    changed = world.client.patch(path, json={"name": "digits, reviewed", "tags": ["prod/eu", "reviewed"]})
    assert changed.status_code == 200, changed.text
    assert changed.json() == world.client.get(path).json()
    assert (changed.json()["name"], changed.json()["tags"]) == ("digits, reviewed", ["prod/eu", "reviewed"])
    world.client.patch(f"/v1/versions/{other}", json={"tags": ["reviewed"]})
    assert _listed(world, tag="reviewed") == [other, version]
    assert _listed(world, tag=["reviewed", "prod/eu"]) == [version]
    world.client.patch(path, json={"tags": []})
    assert world.client.get(path).json()["name"] == "digits, reviewed"
    assert _listed(world, tag="prod/eu") == []


@pytest.mark.parametrize(
    "body",
    [{}, {"tags": ["a b"]}, {"tags": ["x" * 65]}, {"tags": [f"t{i}" for i in range(17)]}, {"name": " "}, {"terms": []}],
    ids=str,
)
def test_labels_that_make_no_sense_are_refused(world: World, version: int, body: dict[str, Any]) -> None:
    check_problem(world.client.patch(f"/v1/versions/{version}", json=body), 422, "invalid_request")
    check_problem(world.client.patch("/v1/versions/9999", json={"name": "x"}), 404, "not_found")


def test_a_composition_has_tags_and_parents(world: World) -> None:
    patch = add_patch(world, seeds=(45,))
    made = _compose(world, terms=[{"version": patch.version}], tags=["mixed"]).json()
    assert (made["tags"], made["parents"]) == (["mixed"], [patch.version])
    assert "tags" not in made["lineage"]["request"]
    trained, sha256 = add_version(world.services, world.base, seed=44)
    again = _compose(world, terms=[{"task_vector_sha256": sha256, "coefficient": 2}]).json()
    assert again["parents"] == [trained]


def test_a_deleted_version_is_in_the_trash_and_comes_back(world: World, version: int) -> None:
    path = f"/v1/versions/{version}"
    deleted = world.client.delete(path)
    assert deleted.status_code == 200
    assert deleted.json()["deleted_at"] is not None
    assert version not in _listed(world)
    assert version in _listed(world, trashed=True)
    assert world.client.get(path).json()["deleted_at"] == deleted.json()["deleted_at"]
    for body in ({"terms": [{"version": version}]}, {"from_version": version, "remove": ["a" * 64]}):
        assert "restore" in check_problem(_compose(world, **body), 409, "conflict")["next"]
    for alias in ("active", "canary"):
        refused = world.client.put(f"/v1/aliases/{alias}", json={"version": version})
        assert "trash" in check_problem(refused, 409, "conflict")["detail"]
    restored = world.client.post(f"{path}/restore")
    assert restored.json()["deleted_at"] is None
    assert version in _listed(world)
    assert world.client.put("/v1/aliases/active", json={"version": version}).status_code == 200
    check_problem(world.client.delete(path), 409, "version_in_use")
    check_problem(world.client.delete("/v1/versions/1"), 409, "version_in_use")
    world.client.put("/v1/aliases/active", json={"version": 1})
    for call in (world.client.delete("/v1/versions/9999"), world.client.post("/v1/versions/9999/restore")):
        check_problem(call, 404, "not_found")


def _age(world: World, version: int, days: float) -> None:
    """Let the version have been in the trash for so long, and all task vectors be so old."""
    then = utc_now() - timedelta(days=days)
    with world.services.database.write() as session:
        session.execute(update(VersionRow).where(VersionRow.id == version).values(deleted_at=then))
        session.execute(update(TaskVectorRow).values(created_at=then))


def test_what_has_been_in_the_trash_for_long_is_purged_and_its_bytes_are_free(world: World) -> None:
    version, sha256 = add_version(world.services, world.base, seed=41)
    unrelated = world.services.blobs.put_bytes(b"a data set")
    world.client.delete(f"/v1/versions/{version}")
    _age(world, version, 29)
    assert version not in world.client.post("/v1/gc").json()["versions"]
    _age(world, version, 31)
    told = world.client.post("/v1/gc?dry_run=true").json()
    assert (told["dry_run"], told["versions"]) == (True, [version])
    assert {"sha256": sha256, "num_bytes": 1} in told["task_vectors"]
    assert told["num_bytes"] == len(told["task_vectors"])  # a byte each, by what these tests wrote
    assert world.services.blobs.fetch(sha256).is_file()
    assert world.client.post("/v1/gc").json() == told | {"dry_run": False}
    check_problem(world.client.get(f"/v1/versions/{version}"), 404, "not_found")
    with pytest.raises(BlobMissingError):
        world.services.blobs.fetch(sha256)
    assert world.services.blobs.read(unrelated) == b"a data set"
    retention = world.services.settings.trash_retention_seconds
    assert empty_trash(world.services.database, world.services.blobs, retention, dry_run=True).versions == []


def test_a_version_that_another_was_made_from_is_kept_and_told(world: World) -> None:
    parent, _ = add_version(world.services, world.base, seed=42)
    child = _compose(world, terms=[{"version": parent, "coefficient": 0.5}]).json()["id"]
    world.client.delete(f"/v1/versions/{parent}")
    _age(world, parent, 31)
    told = world.client.post("/v1/gc").json()
    assert told["versions"] == []
    assert {"version": parent, "reason": f"version {child} was created from it"} in told["kept"]
    assert world.client.post(f"/v1/versions/{child}/verify").json()["matches"] is True


def test_a_mix_of_a_trashed_reselection_is_made_anew(world: World) -> None:
    patch = add_patch(world, seeds=(46,))
    first = world.client.post(f"/v1/patches/{patch.id}/reselect", json={"alpha": 0.25}).json()["version"]["id"]
    world.client.delete(f"/v1/versions/{first}")
    again = world.client.post(f"/v1/patches/{patch.id}/reselect", json={"alpha": 0.25})
    assert again.status_code == 201
    assert again.json()["version"]["id"] != first
    assert again.json()["version"]["parents"] == [patch.version]


def _verify(world: World, version: int) -> dict[str, Any]:
    answer = world.client.post(f"/v1/versions/{version}/verify")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["version"] == version
    return body


def _check(body: dict[str, Any], what: str) -> dict[str, Any]:
    (found,) = [check for check in body["checks"] if check["what"] == what]
    return dict(found)


def test_a_sound_version_matches_in_everything(world: World) -> None:
    composed = _compose(world, terms=[{"task_vector_sha256": add_task_vector(world, 3), "coefficient": 0.5}]).json()
    for version in (1, composed["id"]):
        body = _verify(world, version)
        assert body["matches"] is True
        assert all(check["matches"] is True for check in body["checks"])
    assert [check["what"] for check in body["checks"]] == ["base", "task_vector", "weights", "probe"]
    assert _check(body, "weights")["actual"] == composed["weights_fingerprint"]
    assert _check(body, "base")["actual"] == world.base.fingerprint
    assert composed["lineage"]["environment"]["libraries"]["torch"]


def test_a_changed_and_a_missing_task_vector_are_found(world: World) -> None:
    version, sha256 = add_version(world.services, world.base, seed=43)
    path = world.services.blobs.fetch(sha256)
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    body = _verify(world, version)
    vector = _check(body, "task_vector")
    assert (body["matches"], vector["matches"], vector["expected"]) == (False, False, sha256)
    assert vector["actual"] not in (None, sha256)
    assert _check(body, "weights")["matches"] is None
    path.unlink()
    assert "missing" in _check(_verify(world, version), "task_vector")["detail"]
    path.write_bytes(sound)
    assert _verify(world, version)["matches"] is True


@pytest.mark.parametrize(("column", "what"), [("weights_fingerprint", "weights"), ("probe", "probe")])
def test_a_row_that_tells_of_other_weights_is_found(world: World, column: str, what: str) -> None:
    made = _compose(world, terms=[{"task_vector_sha256": add_task_vector(world, 3), "coefficient": 0.25}]).json()
    other = {"weights_fingerprint": "0" * 64, "probe": [[1.0] + [0.0] * 127] * 4}[column]
    with world.services.database.write() as session:
        session.execute(update(VersionRow).where(VersionRow.id == made["id"]).values({column: other}))
    body = _verify(world, made["id"])
    assert body["matches"] is False
    assert [check["what"] for check in body["checks"] if check["matches"] is False] == [what]


def test_a_base_that_has_changed_in_memory_is_found(world: World) -> None:
    scale = next(each for name, each in world.base.model.named_parameters() if name == "logit_scale")
    sound = scale.data.clone()
    scale.data += 1
    try:
        body = _verify(world, 1)
    finally:
        scale.data.copy_(sound)
    assert body["matches"] is False
    assert _check(body, "base")["expected"] == world.base.fingerprint


def test_what_is_not_loaded_or_busy_is_not_called_sound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.versions.fair_lock.WAIT_SECONDS", 0.05)
    with world.services.exports.turns.take(None):
        check_problem(world.client.post("/v1/versions/1/verify"), 409, "composition_in_progress")
    check_problem(world.client.post("/v1/versions/9999/verify"), 404, "not_found")
