"""`paintbox backup` and `paintbox restore-backup` on a service that runs: a restored one gives the same answers."""

import io
import json
import threading
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from paintbox_client.extensions import build_command, read_summary
from registry.backups.folder import blob_path
from tests.app.asking import post_files
from tests.app.world import World, add_version, open_world
from tests.builders import digit_pngs
from tests.project.paths import ROOT

IMAGES = [digit_pngs(digit)[0] for digit in (0, 1, 8)]
LABELS = ["pizza", "taco", "digit zero"]


class Entry:
    """An entry point as pyproject.toml has it, whether or not it was installed since."""

    def __init__(self, name: str) -> None:
        import tomllib

        declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
        self.name = name
        self.module, self.attr = declared["paintbox.commands"][name].split(":")

    def load(self) -> Any:
        import importlib

        return getattr(importlib.import_module(self.module), self.attr)


def run(name: str, *arguments: object, status: int = 0) -> Any:
    """What the command says as JSON."""
    command, out, err = build_command(Entry(name)), io.StringIO(), io.StringIO()  # type: ignore[arg-type]
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        command.main([*map(str, arguments), "--json"])
    assert ended.value.code == status, out.getvalue() + err.getvalue()
    return json.loads(out.getvalue())


def answer(world: World, version: int) -> Any:
    response = post_files(world.client, "/v1/classify", IMAGES, candidate_labels=LABELS, version=version)
    assert response.status_code == 200, response.text
    return response.json()["results"]


def test_a_restored_service_gives_the_same_answers(tmp_path: Path) -> None:
    has_ended = threading.Event()
    with open_world(tmp_path / "old") as world:
        version, _ = add_version(world.services, world.base, seed=1)
        assert world.client.put("/v1/aliases/active", json={"version": version}).status_code == 200
        before = answer(world, version)

        def write() -> None:
            number = 2
            while not has_ended.is_set():
                add_version(world.services, world.base, seed=number)
                number += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            told = run("backup", tmp_path / "backup", "--data-dir", world.services.settings.data_dir)
        finally:
            has_ended.set()
            writer.join()
        assert told["damaged"] == {}
        assert told["blobs"] >= 1

    restored = run("restore-backup", tmp_path / "backup", "--data-dir", tmp_path / "new" / "data")
    assert restored["num_damaged"] == 0
    assert restored["findings"] == []
    assert restored["num_checked"] > told["blobs"]
    files = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert [path for path in files if path.stat().st_mode & 0o077] == []
    with open_world(tmp_path / "new") as world:
        assert world.client.get("/v1/aliases/active").json()["version"] == version
        assert answer(world, version) == before


def test_a_version_whose_blob_was_lost_is_named_after_the_restore(tmp_path: Path) -> None:
    with open_world(tmp_path / "old") as world:
        version, sha256 = add_version(world.services, world.base, seed=1)
        run("backup", tmp_path / "backup", "--data-dir", world.services.settings.data_dir)
    path = blob_path(tmp_path / "backup", sha256)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    refused = run("restore-backup", tmp_path / "backup", "--data-dir", tmp_path / "new", status=2)
    assert sha256 in refused["error"]["detail"]
    assert not list((tmp_path / "new").iterdir())
    told = run("restore-backup", tmp_path / "backup", "--data-dir", tmp_path / "new", "--skip-damaged", status=1)
    assert {(each["what"], each["name"]) for each in told["findings"]} == {("blob", sha256), ("version", str(version))}
    assert told["num_damaged"] == 1  # the version; the blob was skipped


def test_keys_are_still_required_after_a_restore(tmp_path: Path) -> None:
    with open_world(tmp_path / "old") as world:
        created = world.client.post("/v1/keys", json={"name": "ops", "scopes": ["admin"]})
        assert created.status_code == 201, created.text
        run("backup", tmp_path / "backup.tar", "--data-dir", world.services.settings.data_dir)
    run("restore-backup", tmp_path / "backup.tar", "--data-dir", tmp_path / "new" / "data", "--no-verify")
    with open_world(tmp_path / "new") as world:
        assert world.client.get("/v1/versions").status_code == 401
        headers = {"authorization": f"Bearer {created.json()['token']}"}
        assert world.client.get("/v1/versions", headers=headers).status_code == 200


@pytest.mark.parametrize("name", ["backup", "restore-backup", "up"])
def test_the_command_shows_its_help_without_being_loaded(name: str) -> None:
    assert read_summary(Entry(name)).endswith((".", "damaged.", "Valkey.", "needs."))  # type: ignore[arg-type]


def test_a_folder_without_an_installation_is_refused(tmp_path: Path) -> None:
    refused = run("backup", tmp_path / "backup", "--data-dir", tmp_path / "nothing", status=2)
    assert "there is no database" in refused["error"]["detail"]
    assert not (tmp_path / "nothing").exists()
