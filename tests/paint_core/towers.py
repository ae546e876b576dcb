"""Real open_clip models with random weights, of the families of image towers that fine-tuning tells apart."""

import json
from pathlib import Path
from typing import Any

import open_clip
import safetensors.torch
import torch

from paint_core.models import BaseModel, load_base
from tests.paint_core import tiny

VIT: dict[str, Any] = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16}
FASTVIT: dict[str, Any] = {
    "timm_model_name": "fastvit_t8",
    "timm_model_pretrained": False,
    "timm_pool": "avg",
    "timm_proj": None,
    "image_size": 64,
}
"""Of the family of MobileCLIP's image towers, with the same stem."""
RESNET: dict[str, Any] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}


def random_base(folder: Path, vision_cfg: dict[str, Any]) -> BaseModel:
    """A model of the tiny text tower and this image tower."""
    model_cfg = {**tiny.MODEL_CFG, "vision_cfg": vision_cfg}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = open_clip.CLIP(**model_cfg).state_dict()
    for name, tensor in weights.items():
        if name.endswith("bn3.weight"):  # zero in a new ResNet, so that no gradient would reach the block
            tensor.fill_(1.0)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_cfg, "preprocess_cfg": tiny.PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(
        {name: tensor.contiguous().clone() for name, tensor in weights.items()}, folder / "open_clip_model.safetensors"
    )
    return load_base(f"local-dir:{folder}")
