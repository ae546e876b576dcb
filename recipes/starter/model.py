"""The starter's architecture in open_clip's own terms, and how it is written so that open_clip loads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

TOWERS: Mapping[str, dict[str, Any]] = {
    "convnext_atto": {"timm_model_name": "convnext_atto"},
    "convnext_femto": {"timm_model_name": "convnext_femto"},
    "convnext_pico": {"timm_model_name": "convnext_pico"},
    "vit_192": {"layers": 6, "width": 192, "head_width": 32, "patch_size": 8},
    "vit_256": {"layers": 8, "width": 256, "head_width": 32, "patch_size": 8},
    "vit_320": {"layers": 10, "width": 320, "head_width": 32, "patch_size": 8},
}
"""Image towers to choose from: three sizes of two families."""

WEIGHTS_FILE = "open_clip_model.safetensors"
"""Of an exported model's folder."""

SIDE = 64
CONTEXT_LENGTH = 16
EMBED_DIM = 192
TEXT = {"context_length": CONTEXT_LENGTH, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 3}


def model_config(tower: str, side: int = SIDE) -> dict[str, Any]:
    """Return the model's part of `open_clip_config.json`.

    Args:
        tower: One of `TOWERS`.
        side: Of its pictures, in pixels.
    """
    vision = {**TOWERS[tower], "image_size": side}
    if "timm_model_name" in vision:
        vision |= {"timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": "linear"}
    return {"embed_dim": EMBED_DIM, "vision_cfg": vision, "text_cfg": TEXT, "custom_text": True}


def build_model(tower: str, seed: int, drop_path: float = 0.0) -> nn.Module:
    """Return a fresh CLIP with that image tower; the process's own generator is left alone.

    Args:
        tower: One of `TOWERS`.
        seed: Of the weights.
        drop_path: Share of the last block's residuals left out in training (stochastic depth, Huang et al., ECCV 2016),
            of timm's towers only; it is not exported, so that fine-tuning has none.
    """
    config = {key: value for key, value in model_config(tower).items() if key != "custom_text"}
    if "timm_model_name" in TOWERS[tower]:
        config["vision_cfg"] |= {"timm_drop_path": drop_path}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = open_clip.CustomTextCLIP(**config)
    return model


def tokenizer() -> open_clip.tokenizer.SimpleTokenizer:
    """Return CLIP's own tokenizer at the starter's context length."""
    return open_clip.tokenizer.SimpleTokenizer(context_length=CONTEXT_LENGTH)


def export(weights: Mapping[str, Tensor], tower: str, folder: Path, side: int = SIDE) -> None:
    """Write an open_clip folder: configuration, and the weights in float16.

    Args:
        weights: The model's state dict.
        tower: One of `TOWERS`.
        folder: Made if it is not there.
        side: Pixels a side that the weights are good for: only a run's last steps see the model's own size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"size": [side, side], "mode": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3}
    preprocess |= {"interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": model_config(tower, side), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    half = {
        name: tensor.detach().cpu().contiguous().to(torch.float16 if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in weights.items()
    }
    save_file(half, folder / WEIGHTS_FILE)
