"""A model as a folder that unmodified open_clip loads: `create_model_and_transforms("local-dir:FOLDER")`."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from paint_core.errors import ModelRefError
from paint_core.models.base import BaseModel
from paint_core.models.checkpoints import TEXT_CONFIG_NAME
from paint_core.models.model_config import plain_text_config
from paint_core.models.tokenizers import save_tokenizer
from paint_core.runtime.arguments import require_type
from paint_core.weights.checks import require_same_names

CONFIG_NAME = "open_clip_config.json"
WEIGHTS_NAME = "open_clip_model.safetensors"


def write_model(folder: Path | str, base: BaseModel, visual: nn.Module) -> None:
    """Writes the base with another image tower: configuration, weights as safetensors, and the tokenizer's files.

    Nothing else is needed to load the model again, with `load_base` even offline.

    Args:
        folder: created if it does not exist; files of these names are overwritten.
        base: whose text tower, logit scale and configuration to write; may be on any device.
        visual: the image tower, of the base's kind, on any device.

    Raises:
        ArgumentError: an argument has the wrong type.
        ModelRefError: the base was made from a model in memory without its configuration.
        WeightsMismatchError: the image tower is not of the base's kind.
    """
    require_type("base", base, BaseModel, "pass the model that load_base gives")
    require_type("visual", visual, nn.Module, "pass an image tower, such as mixed_copy(base.visual, terms)")
    require_type("folder", folder, (str, Path), "pass a path")
    if not base.config["model_cfg"].get("vision_cfg"):
        raise ModelRefError("the base has no configuration to write: give `model_cfg` to BaseModel.from_open_clip")
    own = visual.state_dict()
    require_same_names("the image tower", own.keys(), base.visual.state_dict().keys())
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = dict(base.model.state_dict()) | {f"visual.{name}": each for name, each in own.items()}
    _write_json(folder / CONFIG_NAME, dict(base.config))
    text_config = getattr(getattr(base.model, "text", None), "config", None)
    if base.config["model_cfg"]["text_cfg"].get("hf_model_name") and text_config is not None:
        _write_json(folder / TEXT_CONFIG_NAME, plain_text_config(text_config.to_dict()))
    save_tokenizer(base.tokenizer, folder)
    safetensors.torch.save_file(_apart(weights), folder / WEIGHTS_NAME)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _apart(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, contiguous, in the order of their names; one that shares memory is copied.

    safetensors stores each separately and refuses shared memory.
    """
    apart: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return apart
