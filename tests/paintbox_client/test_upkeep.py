"""Looking after versions from Python and from the command line."""

import io
import tarfile
from pathlib import Path

import pytest

from paint_core.models import load_base
from paintbox_client.errors import ApiError, InputError
from paintbox_client.version_calls import _unpack
from registry.versions import Versions
from tests.app.patched import score
from tests.app.world import add_ready_dataset, add_version, open_world, serve
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import run


def test_a_version_is_tagged_found_deleted_and_restored(served: Served) -> None:
    version = served.add_version()
    url = ("--url", served.url)
    assert run(*url, "tag", version, "reviewed", "eu", "--name", "better").status == 0
    (found,) = run(*url, "versions", "--tag", "reviewed", "--tag", "eu", "--json").json
    assert (found["id"], found["name"], found["tags"]) == (version, "better", ["eu", "reviewed"])
    assert f"restore {version}" in run(*url, "delete", version).err
    assert served.client.versions(tag=["eu"]) == []
    assert [each["id"] for each in served.client.versions(trashed=True)] == [version]
    assert str(version) in run(*url, "versions", "--trash").out
    assert "Would purge 0 versions" in run(*url, "gc", "--dry-run").out
    assert run(*url, "restore", version).status == 0
    assert served.client.collect_garbage()["versions"] == []
    assert served.client.relabel(version, tags=[])["name"] == "better"


def test_a_sound_version_is_told_from_a_damaged_one_by_the_exit_status(served: Served) -> None:
    version = served.add_version()
    assert served.client.verify(version)["matches"] is True
    assert run("--url", served.url, "verify", version).status == 0
    sha256 = served.client.version(version)["terms"][0]["task_vector_sha256"]
    path = served.world.services.blobs.fetch(sha256)
    sound = path.read_bytes()
    path.unlink()
    try:
        damaged = run("--url", served.url, "verify", version)
    finally:
        path.write_bytes(sound)
    assert damaged.status == 1
    assert "DIFFERS" in damaged.out


def test_an_export_is_a_folder_that_loads(served: Served, tmp_path: Path) -> None:
    version = served.add_version()
    folder = tmp_path / "exported"
    done = run("--url", served.url, "export", version, folder)
    assert done.status == 0, done.err
    assert sorted(line.rpartition("/")[2] for line in done.out.splitlines()) == [
        "README.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    ]
    assert load_base(f"local-dir:{folder}").embed_dim == served.world.base.embed_dim
    again = run("--url", served.url, "export", version, folder)
    assert again.status == 2
    assert "not empty" in again.err
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
    with pytest.raises(InputError, match="not a regular file"):
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
    assert run(*url, "unalias", "passing", "--reason", "done").status == 0
    assert "passing" not in [alias["name"] for alias in served.client.aliases()]
    assert served.client.alias_history("passing")[0]["to_version"] is None
    assert run(*url, "activate", version, "--force").status == 2
    assert run(*url, "activate", version, "--force", "--reason", "a test").status == 0
    assert served.client.alias_history()[0]["forced"] is True


def test_data_sets_and_patches_are_listed_and_deleted(served: Served) -> None:
    url = ("--url", served.url)
    task = add_ready_dataset(served.world.services, ["a"], splits=("train", "validation", "test"))
    patch = served.client.create_patch(name="p", tasks=[task])["patch"]
    refused = run(*url, "datasets", "delete", task)
    assert (refused.status, patch["job_id"] in refused.err) == (1, True)
    served.client.cancel_job(patch["job_id"])
    assert patch["id"] in run(*url, "datasets", "delete", task).err
    assert patch["id"] in run(*url, "patches").out
    assert patch["id"] in [each["id"] for each in run(*url, "patches", "--json").json]
    assert "Deleted" in run(*url, "patches", "delete", patch["id"]).out
    assert task in run(*url, "datasets").out
    assert "Deleted" in run(*url, "datasets", "delete", task).out
    assert task not in [each["id"] for each in run(*url, "datasets", "--json").json]
    other = add_ready_dataset(served.world.services, ["a"])
    assert run(*url, "datasets", "delete", "--force", other).status == 0
    with pytest.raises(ApiError, match="no dataset"):
        served.client.dataset(other)


def test_verify_all_lists_what_is_damaged_and_tells_it_by_its_exit_status(served: Served) -> None:
    version = served.add_version()
    url = ("--url", served.url)
    sound = run(*url, "verify", "--all")
    assert sound.status == 0, sound.out
    assert "0 damaged" in sound.out
    sha256 = served.client.version(version)["terms"][0]["task_vector_sha256"]
    path = served.world.services.blobs.fetch(sha256)
    content = path.read_bytes()
    path.unlink()
    try:
        damaged = run(*url, "verify", "--all")
    finally:
        path.write_bytes(content)
    assert damaged.status == 1
    assert f"DAMAGED  blob {sha256}" in damaged.out
    assert f"DAMAGED  version {version}" in damaged.out
    for wrong in ((), ("--all", version)):
        assert run(*url, "verify", *wrong).status == 2


def _evaluate(served: Served, version: int, after: int) -> None:
    """Give a version an evaluation: food drops from 90 of 100 images, digits gain."""
    tasks = [
        {"dataset_id": "ds_food", "name": "food", "role": "supported", "zero_shot": score(90), "patched": score(after)},
        {"dataset_id": "ds_digits", "name": "digits", "role": "patching", "zero_shot": score(10), "patched": score(95)},
    ]
    with served.world.services.database.write() as session:
        Versions(session).get(version).evaluation = {"split": "test", "max_supported_drop": 1.5, "tasks": tasks}


def test_a_move_is_checked_and_the_activation_tells_the_change(served: Served) -> None:
    version = served.add_version()
    url = ("--url", served.url)
    _evaluate(served, version, 87)
    refused = run(*url, "check", version)
    assert refused.status == 1
    assert "-3.0" in refused.out
    assert "-1.5" in refused.out
    assert f"Alias active may not move to version {version}; it names version" in refused.out
    assert "the limit is 1.5" in refused.err
    assert run(*url, "check", version, "--json").json["reasons"][0]["code"] == "supported_drop"
    assert served.client.check(version, "staging").accepted
    _evaluate(served, version, 89)
    assert run(*url, "check", version).status == 0
    told = "supported tasks -1.0 points on average (worst: food -1.0), patched tasks +85.0 points"
    assert run(*url, "activate", version).out == f"Version {version} is active: {told}.\n"
    assert run(*url, "activate", 1).out == "Version 1 is active.\n"
    back = run(*url, "rollback")
    assert back.out == f"Version {version} is active: rolled back from version 1.\n"
    missing = served.client.compose("more", [{"version": version, "coefficient": 2.0}])
    shown = run(*url, "check", missing.id)
    assert (shown.status, "not measured" in shown.out, "has not been evaluated on 'food'" in shown.err) == (
        1,
        True,
        True,
    )
    assert f"paintbox evaluate BASE {missing.id} --dataset NAME" in shown.err
    assert "paintbox evaluate BASE" in run(*url, "activate", missing.id).err


def test_an_activation_that_waits_for_another_admin_is_listed_and_withdrawn(tmp_path: Path) -> None:
    with open_world(tmp_path, approvals=True) as world, serve(world) as address:
        version, _ = add_version(world.services, world.base, seed=1)
        url = ("--url", address)
        asked = run(*url, "activate", version, "--reason", "better")
        assert f"version {version} waits for another admin" in asked.out
        assert "paintbox approve ap_" in asked.err
        (pending,) = run(*url, "approvals", "--json").json
        assert (pending["version"], pending["state"], pending["reason"]) == (version, "pending", "better")
        assert run(*url, "activate", version, "--reason", "better", "--json").json == pending
        assert pending["id"] in run(*url, "approvals").out
        refused = run(*url, "approve", pending["id"])
        assert (refused.status, "other than the one that requested it" in refused.err) == (1, True)
        assert (
            run(*url, "reject", pending["id"], "--reason", "not yet").out == f"Approval {pending['id']} is rejected.\n"
        )
        assert run(*url, "aliases", "--json").json[0]["version"] == 1


def test_an_export_for_another_package_is_asked_for_by_its_format(served: Served, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    done = run("--url", served.url, "export", "1", tmp_path / "onnx", "--format", "onnx", "--json")
    assert done.status == 0, done.err
    assert {Path(file).name for file in done.json["files"]} >= {"image.onnx", "text.onnx", "tokenizer.json"}
    refused = run("--url", served.url, "export", "1", tmp_path / "hf", "--format", "transformers")
    assert refused.status == 1
    assert "ConvNeXt" in refused.err
    assert "onnx" in refused.err
    assert not (tmp_path / "hf").exists()
