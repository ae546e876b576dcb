"""An exported version is a folder that unmodified open_clip loads, and it says where it comes from."""

import io
import os
import re
import socket
import tarfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import yaml
from sqlalchemy import update

from app.http.errors import TooManyExportsError
from app.versions.exports import Exports
from paint_core.evaluation import encode, probe_images
from paint_core.models import load_base
from registry.tables import VersionRow
from tests.app.patched import add_patch
from tests.app.world import World, add_version, check_problem, mixed_tower, open_world, random_task_vector, serve


def _export(world: World, version: int, folder: Path) -> Path:
    response = world.client.get(f"/v1/versions/{version}/export")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-tar"
    assert response.headers["content-disposition"] == f'attachment; filename="paintbox-version-{version}.tar"'
    assert int(response.headers["content-length"]) == len(response.content)
    return unpack(response.content, folder) / f"version-{version}"


def unpack(content: bytes, folder: Path) -> Path:
    """Write the files of a tar into a folder and return it."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            stored = archive.extractfile(member)
            assert stored is not None
            path = folder / member.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(stored.read())
    return folder


def _card(folder: Path) -> tuple[dict[str, Any], str]:
    written = (folder / "README.md").read_text(encoding="utf-8")
    start, metadata, text = re.split(r"^---\n", written, maxsplit=2, flags=re.MULTILINE)
    assert start == ""
    return yaml.safe_load(metadata), text


def test_open_clip_loads_it_and_gives_the_served_features(world: World, tmp_path: Path) -> None:
    version, sha256 = add_version(world.services, world.base, seed=1, coefficient=0.5)
    folder = _export(world, version, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    ]
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    images = probe_images(world.base.image_size)
    expected = encode(mixed_tower(world.base, random_task_vector(world.base, 1), 0.5), images, world.base.preprocess)
    with torch.no_grad():
        got = model.eval().encode_image(world.base.preprocess.normalise(images))
    torch.testing.assert_close(got, expected)
    metadata, text = _card(folder)
    assert metadata["library_name"] == "open_clip"
    told = metadata["paintbox"]
    assert told["terms"] == [{"task_vector_sha256": sha256, "coefficient": 0.5, "profile": "flat", "kind": "tower"}]
    assert told["base"] == {"ref": "starter", "fingerprint": world.base.fingerprint}
    assert "This version has not been evaluated" in text
    assert list(world.services.settings.scratch_dir.iterdir()) == []


def test_an_export_is_a_base_of_another_installation(world: World, tmp_path: Path) -> None:
    version, _ = add_version(world.services, world.base, seed=2)
    folder = _export(world, version, tmp_path)
    base = load_base(f"local-dir:{folder}")
    with open_world(tmp_path / "other", bases=(f"local-dir:{folder}",)) as other:
        (bare,) = other.client.get("/v1/versions").json()["items"]
        assert bare["base"] == {"ref": f"local-dir:{folder}", "fingerprint": base.fingerprint}
        assert other.client.post("/v1/versions/1/verify").json()["matches"] is True
        assert other.client.get("/readyz").status_code == 200


def test_the_unpatched_base_comes_out_as_it_went_in(world: World, tmp_path: Path) -> None:
    assert load_base(f"local-dir:{_export(world, 1, tmp_path)}").logit_scale == world.base.logit_scale


def test_what_was_measured_is_told(world: World, tmp_path: Path) -> None:
    patch = add_patch(world)
    path = f"/v1/patches/{patch.id}/reselect"
    version = world.client.post(path, json={"alpha": 0.25}).json()["version"]["id"]
    folder = _export(world, version, tmp_path)
    entries = yaml.safe_load((folder / "eval_results.yaml").read_text(encoding="utf-8"))
    assert [(entry["dataset"]["id"], entry["role"], entry["zero_shot"], entry["value"]) for entry in entries] == [
        (patch.task, "patching", 0.1, 0.5),
        (patch.supported, "supported", 0.9, 0.9),
    ]
    assert {entry["dataset"]["split"] for entry in entries} == {"validation"}
    assert "| 90.0% | 90.0% | 100 |" in _card(folder)[1]


def test_the_card_tells_in_how_many_bits_a_task_vector_is_stored(world: World, tmp_path: Path) -> None:
    version, _ = add_version(world.services, world.base, seed=3)
    storage = {"task:ds_1": {"bits": 4, "loss_points": 0.034}, "task:ds_2": {"bits": 32, "loss_points": 0.0}}
    with world.services.database.write() as session:
        row = session.get_one(VersionRow, version)
        row.lineage = row.lineage | {"storage": storage}
    text = _card(_export(world, version, tmp_path))[1]
    assert (
        "task:ds\\_1 is stored in 4 bits a number, which lowers the combined validation accuracy by 0.03 points."
        in text
    )
    assert "ds\\_2" not in text


def _rename(world: World, version: int, name: str) -> None:
    """Give a version a name that older releases took."""
    with world.services.database.write() as session:
        session.execute(update(VersionRow).where(VersionRow.id == version).values(name=name))


def test_a_name_cannot_break_out_of_the_card(world: World, tmp_path: Path) -> None:
    version, _ = add_version(world.services, world.base, seed=3)
    name = "x'\n---\nlicense: mit\n\"{&*"
    _rename(world, version, name)
    metadata, _ = _card(_export(world, version, tmp_path))
    assert metadata["paintbox"]["name"] == name
    assert metadata["license"] == "apache-2.0"


def test_a_name_is_neither_markup_nor_html_in_the_card(world: World, tmp_path: Path) -> None:
    version, _ = add_version(world.services, world.base, seed=5)
    _rename(world, version, "<img src=x onerror=alert(1)> [a](javascript:x) *b* `c` \u202ed\x1b")
    (heading,) = [line for line in _card(_export(world, version, tmp_path))[1].splitlines() if line.startswith("# ")]
    assert heading == r"# &lt;img src=x onerror=alert(1)&gt; \[a\](javascript:x) \*b\* \`c\` d"


def test_what_cannot_be_exported_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.versions.fair_lock.WAIT_SECONDS", 0.05)
    check_problem(world.client.get("/v1/versions/9999/export"), 404, "not_found")
    version, sha256 = add_version(world.services, world.base, seed=4)
    with world.services.exports.turns.take(None):
        check_problem(world.client.get(f"/v1/versions/{version}/export"), 409, "composition_in_progress")
    world.services.blobs.delete(sha256)
    check_problem(world.client.get(f"/v1/versions/{version}/export"), 500, "blob_missing")
    assert list(world.services.settings.scratch_dir.iterdir()) == []


@pytest.mark.parametrize("num_bytes", [1, 100])
def test_a_client_that_goes_away_leaves_nothing(world: World, num_bytes: int) -> None:
    with world.client.stream("GET", "/v1/versions/1/export") as response:
        assert len(next(response.iter_bytes(num_bytes))) == num_bytes
    assert list(world.services.settings.scratch_dir.iterdir()) == []


def test_exports_and_compositions_do_not_keep_each_other_off(world: World) -> None:
    version, sha256 = add_version(world.services, world.base, seed=6)
    body = {"name": "beside an export", "terms": [{"task_vector_sha256": sha256, "coefficient": 0.3}]}
    with world.services.exports.turns.take(None):
        assert world.client.post("/v1/versions", json=body).status_code == 201
    with world.services.composer.turns.take(None):
        assert world.client.get(f"/v1/versions/{version}/export").status_code == 200
        assert world.client.post(f"/v1/versions/{version}/verify").json()["matches"] is True


def test_as_many_exports_as_there_may_be_and_a_quarter_for_one_owner() -> None:
    exports = Exports(8)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(exports.place("alice"))
        with pytest.raises(TooManyExportsError):
            stack.enter_context(exports.place("alice"))
        for number in range(6):
            stack.enter_context(exports.place(f"owner {number}"))
        with pytest.raises(TooManyExportsError):
            stack.enter_context(exports.place("bob"))
    with exports.place("alice"):
        assert exports.num_open == 1


def test_one_export_too_many_is_told_to_come_again(world: World) -> None:
    with ExitStack() as stack:
        for _ in range(world.services.settings.max_exports):
            stack.enter_context(world.services.exports.place(None))
        refused = world.client.get("/v1/versions/1/export")
        check_problem(refused, 429, "too_many_exports")
        assert int(refused.headers["retry-after"]) > 0
    assert world.client.get("/v1/versions/1/export").status_code == 200


def test_a_reader_that_does_not_read_holds_its_file_for_a_while_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.versions.exporting._LEAST_SECONDS", 1.0)
    monkeypatch.setattr("app.versions.exporting._LEAST_BYTES_PER_SECOND", 1 << 40)
    with serve(world) as url, ExitStack() as stack:
        host, _, port = url.removeprefix("http://").partition(":")
        for _ in range(3):
            reader = stack.enter_context(socket.create_connection((host, int(port))))
            reader.sendall(b"GET /v1/versions/1/export HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        _wait_until(lambda: world.services.exports.num_open == 3 and len(_unnamed_files()) == 6)
        _wait_until(lambda: world.services.exports.num_open == 0)
        assert _unnamed_files() == []


def _unnamed_files() -> list[str]:
    """The files of exports that this process holds open, and that have no name any more."""
    targets = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [target for target in targets if "/export-" in target and target.endswith("(deleted)")]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("path", ["/v1/versions/1/export", "/v1/jobs/job_none/events", "/v1/versions"])
def test_a_page_of_another_site_gets_nothing_though_it_sends_no_origin(world: World, path: str) -> None:
    refused = world.client.get(path, headers={"Sec-Fetch-Site": "cross-site", "Accept": "text/event-stream"})
    check_problem(refused, 403, "origin_refused")
