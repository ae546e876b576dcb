"""Looking after versions from Python and from the command line."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from paint_core.models import load_base
from paintbox_client.errors import ApiError, InputError
from paintbox_client.version_calls import _unpack
from tests.app.world import add_ready_dataset
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.test_cli import paintbox


def test_a_version_is_tagged_found_deleted_and_restored(served: Served) -> None:
    version = served.add_version()
    url = ("--url", served.url)
    assert paintbox(*url, "tag", version, "reviewed", "eu", "--name", "better").returncode == 0
    (found,) = json.loads(paintbox(*url, "versions", "--tag", "reviewed", "--tag", "eu", "--json").stdout)
    assert (found["id"], found["name"], found["tags"]) == (version, "better", ["eu", "reviewed"])
    assert f"restore {version}" in paintbox(*url, "delete", version).stderr
    assert served.client.versions(tag=["eu"]) == []
    assert [each["id"] for each in served.client.versions(trashed=True)] == [version]
    assert str(version) in paintbox(*url, "versions", "--trash").stdout
    assert "Would purge 0 versions" in paintbox(*url, "gc", "--dry-run").stdout
    assert paintbox(*url, "restore", version).returncode == 0
    assert served.client.collect_garbage()["versions"] == []
    assert served.client.relabel(version, tags=[])["name"] == "better"


def test_a_sound_version_is_told_from_a_damaged_one_by_the_exit_status(served: Served) -> None:
    version = served.add_version()
    assert served.client.verify(version)["matches"] is True
    assert paintbox("--url", served.url, "verify", version).returncode == 0
    sha256 = served.client.version(version)["terms"][0]["task_vector_sha256"]
    path = served.world.services.blobs.fetch(sha256)
    sound = path.read_bytes()
    path.unlink()
    try:
        damaged = paintbox("--url", served.url, "verify", version)
    finally:
        path.write_bytes(sound)
    assert damaged.returncode == 1
    assert "DIFFERS" in damaged.stdout


def test_an_export_is_a_folder_that_loads(served: Served, tmp_path: Path) -> None:
    version = served.add_version()
    folder = tmp_path / "exported"
    done = paintbox("--url", served.url, "export", version, folder)
    assert done.returncode == 0, done.stderr
    assert sorted(line.rpartition("/")[2] for line in done.stdout.splitlines()) == [
        "README.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    ]
    assert load_base(f"local-dir:{folder}").embed_dim == served.world.base.embed_dim
    again = paintbox("--url", served.url, "export", version, folder)
    assert again.returncode == 2
    assert "not empty" in again.stderr
    with pytest.raises(ApiError, match="no version 9999"):
        served.client.export(9999, tmp_path / "nothing")


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/outside"])
def test_no_file_of_a_tar_lands_outside_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert _unpack(_tar(name), folder) == [folder / "outside"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["a/..", ".."])
def test_a_tar_with_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        _unpack(_tar(name), tmp_path)


def test_a_link_in_a_tar_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no plain file"):
        _unpack(_tar("link", tarfile.SYMTYPE), tmp_path)
    assert list(tmp_path.iterdir()) == []


def _tar(name: str, kind: bytes = tarfile.REGTYPE) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
        archive.addfile(member, io.BytesIO())
    made.seek(0)
    return made


def test_an_alias_is_removed_and_force_needs_a_reason(served: Served) -> None:
    version = served.add_version()
    url = ("--url", served.url)
    served.client.activate(version, alias="passing")
    assert paintbox(*url, "unalias", "passing", "--reason", "done").returncode == 0
    assert "passing" not in [alias["name"] for alias in served.client.aliases()]
    assert served.client.alias_history("passing")[0]["to_version"] is None
    assert paintbox(*url, "activate", version, "--force").returncode == 2
    assert paintbox(*url, "activate", version, "--force", "--reason", "a test").returncode == 0
    assert served.client.alias_history()[0]["forced"] is True


def test_data_sets_and_patches_are_listed_and_deleted(served: Served) -> None:
    url = ("--url", served.url)
    task = add_ready_dataset(served.world.services, ["a"], splits=("train", "validation", "test"))
    patch = served.client.create_patch(name="p", tasks=[task])["patch"]
    refused = paintbox(*url, "datasets", "delete", task)
    assert (refused.returncode, patch["job_id"] in refused.stderr) == (1, True)
    served.client.cancel_job(patch["job_id"])
    assert patch["id"] in paintbox(*url, "datasets", "delete", task).stderr
    assert patch["id"] in paintbox(*url, "patches").stdout
    assert patch["id"] in [each["id"] for each in json.loads(paintbox(*url, "patches", "--json").stdout)]
    assert "is deleted" in paintbox(*url, "patches", "delete", patch["id"]).stdout
    assert task in paintbox(*url, "datasets").stdout
    assert "is deleted" in paintbox(*url, "datasets", "delete", task).stdout
    assert task not in [each["id"] for each in json.loads(paintbox(*url, "datasets", "--json").stdout)]
    other = add_ready_dataset(served.world.services, ["a"])
    assert paintbox(*url, "datasets", "delete", "--force", other).returncode == 0
    with pytest.raises(ApiError, match="no dataset"):
        served.client.dataset(other)


def test_verify_all_lists_what_is_damaged_and_tells_it_by_its_exit_status(served: Served) -> None:
    version = served.add_version()
    url = ("--url", served.url)
    sound = paintbox(*url, "verify", "--all")
    assert sound.returncode == 0, sound.stdout
    assert "0 damaged" in sound.stdout
    sha256 = served.client.version(version)["terms"][0]["task_vector_sha256"]
    path = served.world.services.blobs.fetch(sha256)
    content = path.read_bytes()
    path.unlink()
    try:
        damaged = paintbox(*url, "verify", "--all")
    finally:
        path.write_bytes(content)
    assert damaged.returncode == 1
    assert f"DAMAGED  blob {sha256}" in damaged.stdout
    assert f"DAMAGED  version {version}" in damaged.stdout
    for wrong in ((), ("--all", version)):
        assert paintbox(*url, "verify", *wrong).returncode == 2
