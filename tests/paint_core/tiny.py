"""A real open_clip model of a few thousand weights, and the folders, files and pictures that tests need."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import safetensors.torch
import torch
from PIL import Image

from paint_core import starter
from paint_core.data import LabelledImages, Task, decode_all
from paint_core.models import BaseModel, build_head, prompts

MODEL_CFG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PREPROCESS_CFG = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "resize_mode": "shortest"}
SIGLIP_CFG: dict[str, Any] = {
    **MODEL_CFG,
    "init_logit_scale": 2.3,
    "init_logit_bias": -2.0,
    "custom_text": True,
    "text_cfg": {**MODEL_CFG["text_cfg"], "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
}
"""With what SigLIP has and CLIP has not: independent scores have a bias, and text is read in both directions."""

COLOURS = ("red", "green", "blue")


def state_dict(seed: int = 0, model_cfg: dict[str, Any] = MODEL_CFG) -> dict[str, torch.Tensor]:
    """The tiny model's random weights."""
    known = {name: value for name, value in model_cfg.items() if name != "custom_text"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (open_clip.CustomTextCLIP if model_cfg.get("custom_text") else open_clip.CLIP)(**known)
    return {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}


def write_config(folder: Path, model_cfg: dict[str, Any] = MODEL_CFG) -> Path:
    """A folder that holds the tiny model's configuration only."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def write_model(
    folder: Path,
    weights: dict[str, torch.Tensor],
    name: str = "open_clip_model.safetensors",
    model_cfg: dict[str, Any] = MODEL_CFG,
) -> Path:
    """A folder that open_clip loads as `local-dir:`."""
    write_config(folder, model_cfg)
    safetensors.torch.save_file(weights, folder / name)
    return folder


def png(picture: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def noise(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A noisy picture of a size and mode."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode) if mode != "RGBA" else Image.fromarray(pixels, "RGBA")


def coloured(base: BaseModel, num_images: int, seed: int = 0) -> LabelledImages:
    """Noisy images whose class is their strongest colour."""
    source = np.random.default_rng(seed)
    labels = source.integers(0, 3, num_images)
    images = source.integers(0, 100, (num_images, base.image_size, base.image_size, 3), dtype=np.uint8)
    images[np.arange(num_images), :, :, labels] += 120
    return LabelledImages(torch.from_numpy(images), torch.from_numpy(labels), COLOURS)


def colour_task(base: BaseModel, name: str, seed: int, *, classnames: tuple[str, ...] = COLOURS) -> Task:
    """A task with all three splits."""
    splits = [coloured(base, count, seed + index) for index, count in enumerate((48, 24, 24))]
    return Task(name, build_head(base, classnames, prompts.PLAIN), *splits)


def starter_split(base: BaseModel, archive: str, split: str) -> LabelledImages:
    """One split of a bundled supported task."""
    with zipfile.ZipFile(starter.supported_archives()[archive]) as members:
        names = sorted(name for name in members.namelist() if name.startswith(f"{split}/") and name.endswith(".png"))
        classnames = sorted({name.split("/")[1] for name in names})
        items = [(members.read(name), classnames.index(name.split("/")[1])) for name in names]
    return decode_all(items, base.preprocess, classnames)
