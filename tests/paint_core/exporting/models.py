"""Small models of the kinds that transformers knows, each with an image tower that a patch has moved."""

import copy
import json
from pathlib import Path
from typing import Any

import torch

from paint_core.evaluation import probe_features
from paint_core.models import BaseModel, load_base
from tests.paint_core import tiny
from tests.paint_core.models import small_towers
from tests.paint_core.models.test_hostile_bases import write_tokenizer

assert small_towers  # timm knows `small_siglip` from now on
SIGLIP: dict[str, Any] = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 64,
        "timm_model_name": "small_siglip",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 8,
        "vocab_size": 40,
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "width": 32,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    },
}


def patched(base: BaseModel) -> BaseModel:
    """The base with an image tower whose weights have moved."""
    visual = copy.deepcopy(base.visual)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in visual.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return base.with_tower(visual)


def clip(folder: Path, *, vision: Any = None, text: Any = None, preprocess: Any = None, **top: Any) -> BaseModel:
    """A small CLIP, patched, its configuration changed."""
    config = copy.deepcopy(tiny.MODEL_CFG) | top
    config["vision_cfg"] |= vision or {}
    config["text_cfg"] |= text or {}
    tiny.write_model(folder, tiny.state_dict(model_cfg=config), model_cfg=config)
    if preprocess:
        rewrite_preprocess(folder, preprocess)
    return patched(load_base(folder))


def siglip(folder: Path) -> BaseModel:
    """A small SigLIP with a tokenizer of transformers, patched."""
    tiny.write_model(folder, tiny.state_dict(model_cfg=SIGLIP), model_cfg=SIGLIP)
    rewrite_preprocess(folder, {"resize_mode": "squash"})
    write_tokenizer(folder)
    return patched(load_base(folder))


def rewrite_preprocess(folder: Path, changes: dict[str, Any]) -> None:
    """Change the preprocessing of a folder."""
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["preprocess_cfg"] |= changes
    path.write_text(json.dumps(config))


def probe_of(base: BaseModel) -> torch.Tensor:
    """What a version with these weights has stored."""
    return probe_features(base.visual, base)
