"""`POST /v1/verify` finds what has changed on disk: in the database, in blobs, in versions and in caches."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from sqlalchemy import text, update

from app.system.verification import _running
from paint_core.evaluation.feature_cache import FolderFeatureCache
from registry.tables import VersionRow
from tests.app.world import World, add_ready_dataset, add_version, check_problem, open_world

Finding = dict[str, object]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def verify(world: World) -> tuple[list[Finding], Finding]:
    """What is not as it should be, and the summary."""
    response = world.client.post("/v1/verify")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    findings = [json.loads(line) for line in response.text.splitlines()]
    assert findings[-1]["what"] == "summary"
    return [each for each in findings[:-1] if each["ok"] is not True], findings[-1]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


def test_what_is_sound_is_found_sound_and_everything_is_looked_at(fresh: World) -> None:
    version, sha256 = add_version(fresh.services, fresh.base, seed=1)
    response = fresh.client.post("/v1/verify")
    looked_at = {(each["what"], each["name"]) for each in map(json.loads, response.text.splitlines()) if each["ok"]}
    expected = {("blob", sha256), ("version", "1"), ("version", str(version)), ("database", "pages and indexes")}
    assert looked_at >= expected | {("database", "table jobs"), ("summary", "all")}


def test_damaged_blobs_versions_and_caches_are_named(fresh: World) -> None:
    version, sha256 = add_version(fresh.services, fresh.base, seed=1)
    lost = add_ready_dataset(fresh.services, ["a", "b"], splits=["train"])
    cut(fresh.services.blobs.fetch(sha256))
    cache = FolderFeatureCache(fresh.services.settings.feature_cache_dir, 1 << 20)
    for key in ("sound", "damaged"):
        cache.features(key, lambda: torch.ones(2, 3))
    cut(fresh.services.settings.feature_cache_dir / "damaged.safetensors")

    wrong, summary = verify(fresh)
    named = {(each["what"], each["name"]): str(each["detail"]) for each in wrong}
    assert set(named) == {
        ("blob", sha256),
        ("blob", "0" * 64),
        ("version", str(version)),
        ("feature_cache", "damaged.safetensors"),
    }
    assert "its hash is" in named["blob", sha256]
    assert lost in named["blob", "0" * 64]
    assert summary["ok"] is False
    assert "4 damaged" in str(summary["detail"])


def test_a_row_that_changed_is_found_by_its_version(fresh: World) -> None:
    version, _ = add_version(fresh.services, fresh.base, seed=1)
    with fresh.services.database.write() as session:  # a bit of a number, which no check of pages can find
        session.execute(text("UPDATE version_terms SET coefficient = -0.5"))
    wrong, _ = verify(fresh)
    assert [(each["what"], each["name"]) for each in wrong] == [("version", str(version))]


def test_values_that_cannot_be_read_and_references_to_nothing_are_found(fresh: World) -> None:
    add_version(fresh.services, fresh.base, seed=1)
    path = fresh.services.database.sqlite_path
    assert path is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:  # which holds nobody to foreign keys
        connection.execute("UPDATE versions SET patch_id = 'pt_gone'")
        connection.execute("UPDATE jobs SET checkpoint = '{broken', status = 'failed'")
    response = fresh.client.post("/v1/verify")
    wrong = [each for each in map(json.loads, response.text.splitlines()[:-1]) if not each["ok"]]
    names = [each["name"] for each in wrong if each["what"] == "database"]
    assert names == ["references", "table jobs"]


def test_one_verification_at_a_time(fresh: World) -> None:
    with _running:
        check_problem(fresh.client.post("/v1/verify"), 409, "verification_in_progress")
    assert verify(fresh)[1]["ok"]


def test_a_version_of_a_base_that_is_not_loaded_is_told_as_not_looked_at(fresh: World) -> None:
    version, _ = add_version(fresh.services, fresh.base, seed=1)
    with fresh.services.database.write() as session:
        session.execute(text("INSERT INTO base_models VALUES ('f', 'elsewhere', 8, 32, '2026-01-01 00:00:00')"))
        session.execute(update(VersionRow).where(VersionRow.id == version).values(base_fingerprint="f"))
    wrong, summary = verify(fresh)
    assert [(each["name"], each["ok"]) for each in wrong] == [(str(version), None)]
    assert "not loaded in this process" in str(wrong[0]["detail"])
    assert summary["ok"] is True
