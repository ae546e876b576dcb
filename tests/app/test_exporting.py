"""An exported version is a folder that unmodified open_clip loads, and it says where it comes from."""

import io
import re
import tarfile
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import yaml
from sqlalchemy import update

from paint_core.evaluation import encode
from paint_core.models import load_base
from paint_core.probe import probe_images
from registry.tables import VersionRow
from tests.app.patched import add_patch
from tests.app.world import World, add_version, check_problem, mixed_tower, open_world, random_task_vector


def _export(world: World, version: int, folder: Path) -> Path:
    response = world.client.get(f"/v1/versions/{version}/export")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-tar"
    assert response.headers["content-disposition"] == f'attachment; filename="paintbox-version-{version}.tar"'
    assert int(response.headers["content-length"]) == len(response.content)
    with tarfile.open(fileobj=io.BytesIO(response.content)) as archive:
        for member in archive:
            stored = archive.extractfile(member)
            assert stored is not None
            path = folder / member.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(stored.read())
    return folder / f"version-{version}"


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
    assert told["terms"] == [{"task_vector_sha256": sha256, "coefficient": 0.5, "profile": "flat"}]
    assert told["base"] == {"ref": "starter", "fingerprint": world.base.fingerprint}
    assert "Nobody has measured this mix" in text
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


def test_a_name_cannot_break_out_of_the_card(world: World, tmp_path: Path) -> None:
    version, _ = add_version(world.services, world.base, seed=3)
    name = "x'\n---\nlicense: mit\n\"{&*"
    world.client.patch(f"/v1/versions/{version}", json={"name": name})
    metadata, _ = _card(_export(world, version, tmp_path))
    assert metadata["paintbox"]["name"] == name
    assert "license" not in metadata


def test_a_name_is_neither_markup_nor_html_in_the_card(world: World, tmp_path: Path) -> None:
    version, _ = add_version(world.services, world.base, seed=5)
    with world.services.database.write() as session:
        name = "<img src=x onerror=alert(1)> [a](javascript:x) *b* `c` \u202ed\x1b"
        session.execute(update(VersionRow).where(VersionRow.id == version).values(name=name))
    (heading,) = [line for line in _card(_export(world, version, tmp_path))[1].splitlines() if line.startswith("# ")]
    assert heading == r"# &lt;img src=x onerror=alert(1)&gt; \[a\](javascript:x) \*b\* \`c\` d"


def test_what_cannot_be_exported_says_so(world: World) -> None:
    check_problem(world.client.get("/v1/versions/9999/export"), 404, "not_found")
    version, sha256 = add_version(world.services, world.base, seed=4)
    with world.services.composer.busy():
        check_problem(world.client.get(f"/v1/versions/{version}/export"), 409, "composition_in_progress")
    world.services.blobs.delete(sha256)
    check_problem(world.client.get(f"/v1/versions/{version}/export"), 500, "blob_missing")
    assert list(world.services.settings.scratch_dir.iterdir()) == []


@pytest.mark.parametrize("num_bytes", [1, 100])
def test_a_client_that_goes_away_leaves_nothing(world: World, num_bytes: int) -> None:
    with world.client.stream("GET", "/v1/versions/1/export") as response:
        assert len(next(response.iter_bytes(num_bytes))) == num_bytes
    assert list(world.services.settings.scratch_dir.iterdir()) == []
