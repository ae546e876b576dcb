import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import safetensors.torch
import torch
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from paint_core import starter
from paint_core.config.finetune import FinetuneConfig
from paint_core.errors import (
    ModelRefError,
    NonFiniteWeightsError,
    UnsafeWeightsError,
    WeightsMismatchError,
)
from paint_core.evaluation import encode, probe_images
from paint_core.models import BaseModel, Hub, ModelRef, load_base
from paint_core.models.checkpoints import Checkpoint, find_by_file, find_by_tag
from tests.paint_core import tiny


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("starter", "starter"),
        ("ViT-B-32:laion2b_s34b_b79k", "tag"),
        ("ViT-B-32:/models/b32.safetensors", "file"),
        ("ViT-B-32:b32.safetensors", "file"),
        ("hf-hub:org/repo", "hub"),
        ("local-dir:/models/mine", "dir"),
    ],
)
def test_a_reference_reads_back_as_it_was_written(text: str, kind: str) -> None:
    assert ModelRef.parse(text).kind == kind
    assert str(ModelRef.parse(text)) == text


@pytest.mark.parametrize("text", ["", "ViT-B-32", "hf-hub:", "local-dir: ", ":tag", "local-dir:/a\0b"])
def test_what_is_no_reference_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ModelRefError, match="local-dir:FOLDER"):
        ModelRef.parse(text)


def test_a_base_is_frozen_in_float32_and_eval_mode(starter_base: BaseModel) -> None:
    assert not any(module.training for module in starter_base.model.modules())
    assert not any(parameter.requires_grad for parameter in starter_base.model.parameters())
    assert {tensor.dtype for tensor in starter_base.model.state_dict().values()} == {torch.float32}


def test_unmodified_open_clip_loads_the_starter_and_gives_the_same_features(starter_base: BaseModel) -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{starter.model_dir()}")
    picture = tiny.noise((80, 70))
    ours = encode(
        starter_base.visual,
        torch.from_numpy(starter_base.preprocess.decode(tiny.png(picture))).unsqueeze(0),
        starter_base.preprocess,
    )
    with torch.inference_mode():
        theirs = model.eval().encode_image(preprocess(picture).unsqueeze(0))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_starter_brings_its_own_way_of_fine_tuning(starter_base: BaseModel, tiny_base: BaseModel) -> None:
    assert starter_base.finetune_defaults == FinetuneConfig(**starter.FINETUNE_DEFAULTS)
    assert tiny_base.finetune_defaults == FinetuneConfig(precision="auto")


def test_a_base_knows_its_scale_size_and_embedding(tiny_base: BaseModel) -> None:
    assert tiny_base.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    assert tiny_base.logit_bias == 0.0
    assert (tiny_base.embed_dim, tiny_base.image_size) == (16, 32)


def test_the_fingerprint_is_of_the_content_not_of_the_place(tiny_dir: Path, tmp_path: Path) -> None:
    copy = tiny.write_model(tmp_path / "copy", tiny.state_dict())
    other = tiny.write_model(tmp_path / "other", tiny.state_dict(seed=1))
    prints = [load_base(f"local-dir:{folder}").fingerprint for folder in (tiny_dir, copy, other)]
    assert prints[0] == prints[1] != prints[2]


def test_the_fingerprint_tells_preprocessing_apart(tiny_base: BaseModel, tmp_path: Path) -> None:
    folder = tiny.write_model(tmp_path / "squash", tiny.state_dict())
    config = {"model_cfg": tiny.MODEL_CFG, "preprocess_cfg": {**tiny.PREPROCESS_CFG, "resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert load_base(f"local-dir:{folder}").fingerprint != tiny_base.fingerprint


def test_the_config_of_a_base_exports_to_a_folder_that_loads_as_the_same_base(
    tiny_base: BaseModel, tmp_path: Path
) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps(tiny_base.config))
    safetensors.torch.save_file(tiny_base.model.state_dict(), tmp_path / "open_clip_model.safetensors")
    assert load_base(f"local-dir:{tmp_path}").fingerprint == tiny_base.fingerprint


def test_a_missing_key_is_refused_not_skipped(tmp_path: Path) -> None:
    weights = tiny.state_dict()
    del weights["visual.class_embedding"]
    with pytest.raises(WeightsMismatchError, match="class_embedding"):
        load_base(f"local-dir:{tiny.write_model(tmp_path, weights)}")


def test_an_extra_key_is_refused(tmp_path: Path) -> None:
    weights = {**tiny.state_dict(), "visual.surplus": torch.zeros(1)}
    with pytest.raises(WeightsMismatchError, match="surplus"):
        load_base(f"local-dir:{tiny.write_model(tmp_path, weights)}")


def test_another_shape_is_refused(tmp_path: Path) -> None:
    weights = {**tiny.state_dict(), "visual.proj": torch.zeros(32, 8)}
    with pytest.raises(WeightsMismatchError, match=r"visual\.proj"):
        load_base(f"local-dir:{tiny.write_model(tmp_path, weights)}")


def test_position_embeddings_of_another_size_are_refused_not_resampled(tmp_path: Path) -> None:
    weights = {**tiny.state_dict(), "visual.positional_embedding": torch.zeros(1 + 3 * 3, 32)}
    with pytest.raises(WeightsMismatchError, match="positional_embedding"):
        load_base(f"local-dir:{tiny.write_model(tmp_path, weights)}")


def test_a_nan_is_refused(tmp_path: Path) -> None:
    weights = tiny.state_dict()
    weights["visual.proj"][0, 0] = torch.nan
    with pytest.raises(NonFiniteWeightsError, match=r"visual\.proj"):
        load_base(f"local-dir:{tiny.write_model(tmp_path, weights)}")


class Bomb:
    """Unpickling this leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize(
    "name", ["open_clip_pytorch_model.bin", "model.pth", "weights.pt", "open_clip_model.safetensors"]
)
def test_a_pickle_is_refused_and_never_opened(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    folder = tiny.write_config(tmp_path / "model")
    (folder / name).write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(UnsafeWeightsError, match="convert it"):
        load_base(f"local-dir:{folder}")
    with pytest.raises(UnsafeWeightsError, match="convert it"):
        load_base(f"ViT-B-32:{folder / name}")
    assert not trace.exists()


def test_a_pickle_of_a_more_usual_name_is_not_preferred_to_safetensors(tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    folder = tiny.write_model(tmp_path / "model", tiny.state_dict(), name="mine.safetensors")
    (folder / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps(Bomb(trace)))
    load_base(f"local-dir:{folder}")
    assert not trace.exists()


def test_a_folder_with_two_unnamed_candidates_is_refused(tmp_path: Path) -> None:
    tiny.write_model(tmp_path, tiny.state_dict(), name="a.safetensors")
    tiny.write_model(tmp_path, tiny.state_dict(), name="b.safetensors")
    with pytest.raises(ModelRefError, match="keep one"):
        load_base(f"local-dir:{tmp_path}")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model_cfg": {"embed_dim": 16}}', '{"model_cfg": 3}'])
def test_a_broken_configuration_is_refused(content: str, tmp_path: Path) -> None:
    folder = tiny.write_model(tmp_path, tiny.state_dict())
    (folder / "open_clip_config.json").write_text(content)
    with pytest.raises(ModelRefError):
        load_base(f"local-dir:{folder}")


@pytest.mark.parametrize(
    "ref", ["local-dir:/nowhere", "No-Such-Model:tag", "ViT-B-32:no_such_tag", "ViT-B-32:/no/file"]
)
def test_what_does_not_exist_is_refused(ref: str) -> None:
    with pytest.raises(ModelRefError):
        load_base(ref)


def test_a_named_model_loads_from_a_local_file(tmp_path: Path, tiny_dir: Path) -> None:
    config = tmp_path / "paintbox-tiny-test.json"
    config.write_text(json.dumps(tiny.MODEL_CFG))
    open_clip.add_model_config(config)
    base = load_base(f"paintbox-tiny-test:{tiny_dir / 'open_clip_model.safetensors'}")
    assert torch.equal(base.model.state_dict()["visual.proj"], tiny.state_dict()["visual.proj"])
    assert base.preprocess.mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)


def named_by_file(tmp_path: Path, name: str, **options: Any) -> Checkpoint:
    """What a reference NAME:FILE finds; the file is of no model."""
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"logit_scale": torch.zeros(())}, file)
    return find_by_file(name, file, Hub(tmp_path, offline=True), **options)


@pytest.mark.parametrize(
    ("name", "resize_mode", "mean"),
    [("ViT-B-16-SigLIP", "squash", [0.5] * 3), ("PE-Core-S-16-384", "squash", [0.5] * 3)],
)
def test_a_file_of_a_name_is_prepared_as_all_its_published_weights_are(
    tmp_path: Path, name: str, resize_mode: str, mean: list[float]
) -> None:
    config = named_by_file(tmp_path, name).config["preprocess_cfg"]
    assert (config["resize_mode"], list(config["mean"])) == (resize_mode, mean)


def test_every_name_with_published_weights_gets_their_preprocessing_or_is_refused(tmp_path: Path) -> None:
    num_read = 0
    for name in open_clip.list_models():
        if open_clip.get_model_config(name)["text_cfg"].get("hf_model_name"):
            continue  # needs the Hub
        wanted = [find_config(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
        open_for = any(each["quick_gelu"] for each in wanted) and not open_clip.get_model_config(name).get("quick_gelu")
        if open_for or any(each["preprocess_cfg"] != wanted[0]["preprocess_cfg"] for each in wanted):
            with pytest.raises(ModelRefError, match="local-dir:"):
                named_by_file(tmp_path, name)
            continue
        found = named_by_file(tmp_path, name).config
        num_read += 1
        assert all(found["preprocess_cfg"] == each["preprocess_cfg"] for each in wanted), name
    assert num_read > 80


def find_config(name: str, tag: str) -> dict[str, Any]:
    """What `NAME:TAG` would be built with, without looking for its weights."""
    tag_cfg = dict(open_clip.get_pretrained_cfg(name, tag))
    known = {field.name for field in dataclasses.fields(PreprocessCfg)} - {"size"}
    merged = merge_preprocess_dict(
        dataclasses.asdict(PreprocessCfg()), {key: tag_cfg[key] for key in known if key in tag_cfg}
    )
    return {"preprocess_cfg": merged, "quick_gelu": bool(tag_cfg.get("quick_gelu"))}


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-L-14", "RN50"])
def test_a_file_that_may_want_quick_gelu_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelRefError, match=f"QuickGELU.*{name}-quickgelu:FILE.*local-dir:"):
        named_by_file(tmp_path, name)
    assert named_by_file(tmp_path, f"{name}-quickgelu").config["model_cfg"]["quick_gelu"]
    plain = named_by_file(tmp_path, name, preprocess_cfg={}).config
    assert "quick_gelu" not in plain["model_cfg"]
    assert list(plain["preprocess_cfg"]["mean"]) == list(open_clip.OPENAI_DATASET_MEAN)


def test_only_a_file_of_a_name_takes_a_preprocessing(tiny_dir: Path) -> None:
    with pytest.raises(ModelRefError, match="omit preprocess_cfg"):
        load_base(f"local-dir:{tiny_dir}", preprocess_cfg={})


def test_a_folder_can_be_given_as_a_path(tiny_dir: Path, tiny_base: BaseModel) -> None:
    assert load_base(tiny_dir).fingerprint == tiny_base.fingerprint


def hub_cache(folder: Path, repo: str, source: Path) -> Path:
    """A Hugging Face cache that holds one repository."""
    root = folder / f"models--{repo.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    (root / "snapshots").mkdir()
    (root / "snapshots" / commit).symlink_to(source)
    return folder


def test_a_hub_model_loads_offline_from_the_cache(tiny_dir: Path, tiny_base: BaseModel, tmp_path: Path) -> None:
    cache = hub_cache(tmp_path, "org/tiny", tiny_dir)
    base = load_base("hf-hub:org/tiny", hub=Hub(cache, offline=True))
    assert base.fingerprint == tiny_base.fingerprint
    assert base.ref == "hf-hub:org/tiny"


def test_a_hub_model_that_offers_only_a_pickle_is_refused(tmp_path: Path) -> None:
    folder = tiny.write_config(tmp_path / "model")
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UnsafeWeightsError, match="pickles are not read"):
        load_base("hf-hub:org/pickled", hub=Hub(hub_cache(tmp_path / "cache", "org/pickled", folder), offline=True))


def test_a_hub_model_that_is_not_in_the_cache_is_refused_offline(tmp_path: Path) -> None:
    with pytest.raises(ModelRefError, match="go online"):
        load_base("hf-hub:org/absent", hub=Hub(tmp_path, offline=True))


def test_a_wrong_repository_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefError, match="org/name"):
        load_base("hf-hub:not a/name/at all", hub=Hub(tmp_path, offline=True))


def test_a_tag_brings_its_activation_and_preprocessing(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    safetensors.torch.save_file({"logit_scale": torch.zeros(())}, folder / "open_clip_model.safetensors")
    cache = hub_cache(tmp_path / "cache", "timm/vit_base_patch32_clip_224.openai", folder)
    checkpoint = find_by_tag("ViT-B-32", "openai", Hub(cache, offline=True))
    assert checkpoint.config["model_cfg"]["quick_gelu"] is True
    assert checkpoint.config["preprocess_cfg"]["mean"] == open_clip.OPENAI_DATASET_MEAN
    assert checkpoint.weights.name == "open_clip_model.safetensors"
    assert "quick_gelu" not in open_clip.get_model_config("ViT-B-32")


def test_loading_does_not_depend_on_the_file_staying_where_it_was(tmp_path: Path) -> None:
    folder = tiny.write_model(tmp_path / "model", tiny.state_dict())
    base = load_base(f"local-dir:{folder}")
    (folder / "open_clip_model.safetensors").unlink()
    images = probe_images(base.image_size)
    assert torch.isfinite(encode(base.visual, images, base.preprocess)).all()


def test_a_base_cannot_be_reassigned(tiny_base: BaseModel) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_base.ref = "other"  # type: ignore[misc]


def test_the_starters_paths_are_known_without_torch() -> None:
    code = "import sys; from paint_core import starter; starter.supported_archives(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
