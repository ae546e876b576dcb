"""Every family of image towers of open_clip, from loading to export: minutes, so only where asked for (`-m slow`)."""

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import open_clip
import pytest
import safetensors.torch
import torch

from paint_core.alpha import AlphaOptions, search_alpha
from paint_core.config.finetune import FinetuneConfig
from paint_core.errors import ConfigError
from paint_core.evaluation import choose_precision, encode, evaluate, probe_images
from paint_core.merging import input_moments, merge
from paint_core.models import BaseModel, build_head, load_base, prompts, write_model
from paint_core.training.finetuning import finetune
from paint_core.weights import StoredTaskVector, Term, mixed_copy, save_task_vector, task_vector
from tests.paint_core import tiny
from tests.paint_core.models import small_towers  # noqa: F401  # timm knows them by now

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CONFIG = FinetuneConfig(iterations=2, batch_size=4, learning_rate=1e-4)
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "last_k": {"trainable": "last_k", "last_k": 1},
    "lora": {"trainable": "lora", "lora_rank": 2},
    "checkpointing": {"gradient_checkpointing": True},
    "bf16": {"precision": "bf16"},
    "anchors": {"anchor_weight": 20.0, "anchor_batch_size": 4},
}
REFUSED = {
    "resnet": {"last_k", "checkpointing"},
    "vitamin": {"last_k"},
    "mobileclip_b": {"last_k"},
    "fastvit": {"last_k"},
    "swin": {"last_k"},
}


def timm(name: str, size: int = 64, **more: Any) -> dict[str, Any]:
    return {"timm_model_name": name, "timm_model_pretrained": False, "timm_proj": "linear", "image_size": size, **more}


FAMILIES: dict[str, dict[str, Any]] = {
    "vit": {"image_size": 64, "layers": 3, "width": 64, "head_width": 16, "patch_size": 16},
    "vit_sines": {
        "image_size": 64,
        "layers": 2,
        "width": 64,
        "head_width": 16,
        "patch_size": 16,
        "pos_embed_type": "sin_cos_2d",
        "pool_type": "avg",
        "no_ln_pre": True,
    },
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "coca": {
        "image_size": 64,
        "layers": 2,
        "width": 64,
        "head_width": 16,
        "patch_size": 16,
        "attentional_pool": True,
        "attn_pooler_heads": 4,
    },
    "convnext": timm("convnext_atto", timm_pool="avg"),
    "eva": timm("small_eva", 56, timm_pool="token"),
    "pe": timm("small_pe", timm_pool="map", timm_proj=None),
    "siglip": timm("small_siglip", timm_pool="map", timm_proj="none"),
    "gap": timm("small_gap", timm_pool="avg"),
    "vitamin": timm("small_vitamin", timm_pool=""),
    "mobileclip_b": timm("small_mobileclip_b", timm_pool="token", timm_proj=None),
    "fastvit": timm("small_fastvit", 128, timm_pool="avg", timm_proj=None),
    "swin": timm("small_swin", timm_pool="avg"),
}
WIDTHS = {"siglip": 64}
EXTRAS: dict[str, dict[str, Any]] = {"siglip": {"init_logit_bias": -10.0, "init_logit_scale": 2.3}}
"""Of the whole model. A CoCa is its two towers here: `test_wrapping` removes the decoder."""


def random_model(folder: Path, family: str) -> BaseModel:
    width = WIDTHS.get(family, 32)
    text = {**tiny.MODEL_CFG["text_cfg"], "width": 32}
    config = {"embed_dim": width, "vision_cfg": FAMILIES[family], "text_cfg": text, "custom_text": True}
    config |= EXTRAS.get(family, {})
    built = {key: value for key, value in config.items() if key != "custom_text"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = open_clip.CustomTextCLIP(**built).state_dict()
    for name, tensor in weights.items():
        if name.endswith("bn3.weight"):  # zero in a new ResNet, so that no gradient would reach the block
            tensor.fill_(1.0)
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": tiny.PREPROCESS_CFG})
    )
    plain = {name: tensor.contiguous().clone() for name, tensor in weights.items()}
    safetensors.torch.save_file(plain, folder / "open_clip_model.safetensors")
    return load_base(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_mixes_and_exports(family: str, tmp_path: Path) -> None:
    base = random_model(tmp_path / "model", family)
    head = build_head(base, tiny.COLOURS, prompts.PLAIN)
    images, anchors = tiny.coloured(base, 6), tiny.coloured(base, 6, seed=1).images
    theta_0 = {name: tensor.clone() for name, tensor in base.visual.state_dict().items()}
    taus = {}
    for way, options in WAYS.items():
        config = dataclasses.replace(CONFIG, **options)
        if way in REFUSED.get(family, ()):
            with pytest.raises(ConfigError):
                finetune(base, head, images, config)
            continue
        theta_1 = finetune(base, head, images, config, anchors=anchors if config.anchor_weight else None)
        taus[way] = task_vector(theta_0, theta_1)
        assert any(bool(tensor.any()) for tensor in taus[way].values()), way
    if family == "vit_sines":
        assert not any(bool(tau["positional_embedding"].any()) for tau in taus.values())

    for path in ("flat",) if family in ("resnet", *REFUSED) else ("flat", "lines_paper"):
        along = AlphaOptions(path=path, step=0.5)  # type: ignore[arg-type]
        search_alpha(base, taus["plain"], {"colours": (head, images)}, ["colours"], [], along)

    (tmp_path / "tau").write_bytes(save_task_vector(taus["plain"], {"base": base.fingerprint}, 4))
    stored = StoredTaskVector(tmp_path / "tau", base)
    tower = mixed_copy(base.visual, [Term(stored, 0.5)])
    assert math.isfinite(evaluate(tower, base, head, images).loss)
    assert (base.logit_bias == -10) == (family == "siglip")
    assert choose_precision(tower, base.preprocess, "bf16", "cpu", {"avx512_bf16": True}).reason == ""
    moments = input_moments(tower, base.preprocess.normalise(images.images, torch.device("cpu")))
    for method in ("ace", "esm", "regmean"):
        assert merge(method, [taus["plain"], taus["anchors"]], [moments, moments]).keys() == taus["plain"].keys()
    write_model(tmp_path / "exported", base, tower)
    pixels = probe_images(base.image_size)
    expected = encode(tower, pixels, base.preprocess)
    again = load_base(tmp_path / "exported")
    torch.testing.assert_close(encode(again.visual, pixels, base.preprocess), expected)
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'exported'}").eval()
    with torch.inference_mode():
        features = theirs.encode_image(base.preprocess.normalise(pixels))
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    after = copy.copy(base.visual.state_dict())
    assert all(torch.equal(theta_0[name], after[name]) for name in theta_0)
