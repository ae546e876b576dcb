"""The base models that benchmarks patch.

- `starter`: the bundled ConvNeXt;
- `vit`: a small vision transformer whose image tower was distilled from the starter's (`_distil.py`), under the
  starter's own text tower; made on first use and kept in `.benchmarks/towers/`;
- `vitb32`, `vitb16`, `vitl14`: open_clip's ViT-B-32, ViT-B-16 and ViT-L-14 with random weights, for timings only.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from _cache import CACHE, write_whole
from _distil import distil
from safetensors.torch import save
from torch import nn

from paint_core import starter
from paint_core.models import BaseModel, load_base

TOWERS = ("starter", "vit")
"""Those whose features mean something; `load` knows those of `RANDOM` as well."""

RANDOM = {"vitb32": "ViT-B-32", "vitb16": "ViT-B-16", "vitl14": "ViT-L-14"}
"""open_clip's architectures that get random weights."""

VIT = {"image_size": 64, "layers": 6, "width": 128, "head_width": 32, "patch_size": 8}
_WEIGHTS = "open_clip_model.safetensors"
_RANDOM_SEED = 0


@cache
def load(name: str) -> BaseModel:
    """Return a base model; what does not lie in the cache yet is made, which takes `vit` half an hour on two cores.

    Args:
        name: `starter`, `vit` or a key of `RANDOM`.
    """
    return load_base("starter" if name == "starter" else f"local-dir:{folder(name)}")


def folder(name: str) -> Path:
    """Return where the model lies, in open_clip's form; made if it is not there."""
    if name == "starter":
        return starter.model_dir()
    target = CACHE / "towers" / (f"vit-{identity('starter')}" if name == "vit" else name)
    if not (target / _WEIGHTS).exists():
        if name == "vit":
            _make_vit(target)
        else:
            _make_random(target, RANDOM[name])
    return target


def identity(name: str) -> str:
    """Return eight digits that change with the weights; caches carry them in their names."""
    return hashlib.sha256((folder(name) / _WEIGHTS).read_bytes()).hexdigest()[:8]


def vit_config() -> dict[str, Any]:
    """Return the configuration of `vit`: the starter's, with another image tower."""
    config: dict[str, Any] = json.loads((starter.model_dir() / "open_clip_config.json").read_text(encoding="utf-8"))
    config["model_cfg"]["vision_cfg"] = dict(VIT)
    return config


def _make_vit(target: Path) -> None:
    print("distilling the small ViT from the starter", flush=True)
    teacher, config = load("starter"), vit_config()
    arguments = {key: value for key, value in config["model_cfg"].items() if key != "custom_text"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        model = open_clip.CustomTextCLIP(**arguments)
    own = model.state_dict()
    given = {name: tensor for name, tensor in teacher.model.state_dict().items() if not name.startswith("visual.")}
    model.load_state_dict(own | given)
    distil(model.visual, teacher)
    _save(target, model, config)


def _make_random(target: Path, architecture: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        model = open_clip.create_model(architecture)
    preprocess = {"size": [224, 224], "resize_mode": "shortest", "interpolation": "bicubic"}
    _save(target, model, {"model_cfg": open_clip.get_model_config(architecture), "preprocess_cfg": preprocess})


def _save(target: Path, model: nn.Module, config: dict[str, Any]) -> None:
    """Write an open_clip folder; the weights last, because they say that it is complete."""
    write_whole(target / "open_clip_config.json", json.dumps(config, indent=2).encode())
    write_whole(target / _WEIGHTS, save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))
