"""A version leaves in the format of another package, which has computed the version's features before it is sent."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from sqlalchemy import update

from registry.tables import VersionRow
from tests.app.patched import add_patch
from tests.app.test_exporting import unpack
from tests.app.world import World, add_version, check_problem, open_world
from tests.paint_core import tiny

LABELS = ["cat", "dog"]


@pytest.fixture(scope="module")
def vit_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service whose base is a small ViT CLIP."""
    root = tmp_path_factory.mktemp("vit")
    folder = tiny.write_model(root / "base", tiny.state_dict())
    with open_world(root, bases=(f"local-dir:{folder}",)) as world:
        yield world


def _export(world: World, version: int, chosen: str, folder: Path) -> Path:
    response = world.client.get(f"/v1/versions/{version}/export", params={"format": chosen})
    assert response.status_code == 200, response.text
    name = f"paintbox-version-{version}-{chosen}.tar"
    assert response.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert int(response.headers["content-length"]) == len(response.content)
    assert list(world.services.settings.scratch_dir.iterdir()) == []
    return unpack(response.content, folder) / f"version-{version}"


def _picture(folder: Path) -> bytes:
    picture = tiny.noise((100, 80), seed=5)
    picture.save(folder / "picture.jpg", quality=95)
    return (folder / "picture.jpg").read_bytes()


def _served(world: World, version: int, picture: bytes) -> list[dict[str, Any]]:
    query = {"candidate_labels": LABELS, "templates": ["a photo of a {}"], "version": version}
    response = world.client.post("/v1/classify", params=query, content=picture, headers={"Content-Type": "image/jpeg"})
    assert response.status_code == 200, response.text
    predictions: list[dict[str, Any]] = response.json()["results"][0]["predictions"]
    return predictions


def _run_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the code of a model card beside the exported folder, and return its variables."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {}
    monkeypatch.chdir(folder.parent)
    exec(compile(code.replace("FOLDER", folder.name), "README.md", "exec"), names)
    return names


def _card(folder: Path) -> Any:
    """The card as the Hub's library reads and checks it, without the network."""
    return huggingface_hub.ModelCard.load(folder / "README.md")


def test_the_card_of_an_onnx_export_classifies_as_the_service_does(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tokenizers")
    version, _ = add_version(world.services, world.base, seed=11, coefficient=0.5)
    folder = _export(world, version, "onnx", tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "image.onnx",
        "preprocess.json",
        "text.onnx",
        "tokenizer.json",
    ]
    served = _served(world, version, _picture(tmp_path))
    names = _run_card(folder, monkeypatch)
    cosines = {each["label"]: each["cosine"] for each in served}
    found = dict(zip(LABELS, (names["features"] @ names["head"].T)[0].tolist(), strict=True))
    assert found == pytest.approx(cosines, abs=5e-3)  # Pillow resizes and crops in one step there
    assert max(found, key=lambda label: found[label]) == served[0]["label"]
    assert _card(folder).data.library_name == "onnx"


def test_the_card_of_a_transformers_export_classifies_as_the_service_does(
    vit_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    version, _ = add_version(vit_world.services, vit_world.base, seed=12, coefficient=0.5)
    folder = _export(vit_world, version, "transformers", tmp_path)
    assert isinstance(transformers.AutoModel.from_pretrained(folder), transformers.CLIPModel)
    served = _served(vit_world, version, _picture(tmp_path))
    names = _run_card(folder, monkeypatch)
    scale = vit_world.base.logit_scale
    cosines = {each["label"]: each["cosine"] for each in served}
    found = dict(zip(LABELS, (names["logits"] / scale).tolist(), strict=True))
    assert found == pytest.approx(cosines, abs=5e-3)
    card = _card(folder).data
    assert (card.library_name, card.license, card.pipeline_tag) == (
        "transformers",
        "other",
        "zero-shot-image-classification",
    )


def test_openvino_opens_its_export(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    version, _ = add_version(world.services, world.base, seed=13, coefficient=0.5)
    folder = _export(world, version, "openvino", tmp_path)
    served = _served(world, version, _picture(tmp_path))
    names = _run_card(folder, monkeypatch)
    cosines = {each["label"]: each["cosine"] for each in served}
    found = dict(zip(LABELS, (names["features"] @ names["head"].T)[0].tolist(), strict=True))
    assert found == pytest.approx(cosines, abs=2e-2)  # OpenVINO computes in bf16 where the processor has it


def test_a_tower_that_transformers_does_not_have_is_refused_with_the_formats_that_work(world: World) -> None:
    pytest.importorskip("transformers")
    refused = world.client.get("/v1/versions/1/export", params={"format": "transformers"})
    problem = check_problem(refused, 422, "export_format_unavailable")
    assert "ConvNeXt" in problem["detail"]
    assert problem["next"].startswith("Use format open_clip or onnx")
    check_problem(world.client.get("/v1/versions/1/export", params={"format": "keras"}), 422, "invalid_request")


def test_features_that_are_not_those_of_the_version_are_not_sent(vit_world: World, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    version, _ = add_version(vit_world.services, vit_world.base, seed=14, coefficient=0.5)
    wrong = torch.nn.functional.normalize(torch.ones(4, vit_world.base.embed_dim), dim=-1).tolist()
    with vit_world.services.database.write() as session:
        session.execute(update(VersionRow).where(VersionRow.id == version).values(probe=wrong))
    refused = vit_world.client.get(f"/v1/versions/{version}/export", params={"format": "transformers"})
    problem = check_problem(refused, 500, "export_failed")
    assert "transformers computes other features" in problem["detail"]
    assert list(vit_world.services.settings.scratch_dir.iterdir()) == []
    assert vit_world.services.exports.num_open == 0


def test_a_process_that_dies_is_an_error_that_says_so(
    vit_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # in front of the packages of the project
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise SystemExit('no room')")
    monkeypatch.chdir(tmp_path)
    refused = vit_world.client.get("/v1/versions/1/export", params={"format": "transformers"})
    assert "ended with status 1" in check_problem(refused, 500, "export_failed")["detail"]
    assert vit_world.services.exports.num_open == 0


def test_the_card_tells_the_hub_what_was_measured_and_where_the_model_comes_from(world: World, tmp_path: Path) -> None:
    patch = add_patch(world)
    version = world.client.post(f"/v1/patches/{patch.id}/reselect", json={"alpha": 0.25}).json()["version"]["id"]
    response = world.client.get(f"/v1/versions/{version}/export")
    card = _card(unpack(response.content, tmp_path) / f"version-{version}")
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "open_clip")
    assert {"clip", "paintbox"} <= set(card.data.tags)
    found = {(each.dataset_type, each.metric_type): each for each in card.data.eval_results}
    assert set(found) == {(patch.task, "accuracy"), (patch.supported, "accuracy")}
    assert found[patch.task, "accuracy"].metric_value == 0.5
    assert {each.dataset_split for each in found.values()} == {"validation"}
    assert huggingface_hub.ModelCard(str(card)).data.to_dict() == card.data.to_dict()


def test_an_onnx_export_of_a_patch_brings_the_head_of_its_classes(world: World, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    patch = add_patch(world)
    version = world.client.post(f"/v1/patches/{patch.id}/reselect", json={"alpha": 0.25}).json()["version"]["id"]
    folder = _export(world, version, "onnx", tmp_path)
    assert "head.npy" in (folder / "README.md").read_text()
    assert '"zero"' in (folder / "labels.json").read_text()


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("hf-hub:org/model", {"license": "other", "base_model": "org/model"}),
        ("ViT-B-32:laion2b_s34b_b79k", {"license": "other", "base_model": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"}),
        ("local-dir:/somewhere", {"license": "other", "base_model": None}),
    ],
)
def test_the_card_names_the_base_where_it_is_published(
    world: World, tmp_path: Path, ref: str, expected: dict[str, Any]
) -> None:
    from app.versions.card import model_card
    from app.versions.service import get_version

    version = get_version(world.services.database, 1)
    version = version.model_copy(update={"base": version.base.model_copy(update={"ref": ref})})
    (tmp_path / "README.md").write_text(model_card(version), encoding="utf-8")
    data = _card(tmp_path).data.to_dict()
    assert {name: data.get(name) for name in expected} == expected
    if expected["base_model"]:
        assert data["license_link"] == f"https://huggingface.co/{expected['base_model']}"
