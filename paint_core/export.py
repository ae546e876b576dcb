"""A model as a folder that unmodified open_clip loads: `create_model_and_transforms("local-dir:FOLDER")`."""

import json
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from paint_core.models import BaseModel

CONFIG_NAME = "open_clip_config.json"
WEIGHTS_NAME = "open_clip_model.safetensors"


def write_model(folder: Path, base: BaseModel, visual: nn.Module) -> None:
    """Writes the base with another image tower: its configuration, and all weights as safetensors.

    Args:
        folder: exists; files of these names are overwritten.
        base: whose text tower, logit scale and configuration to write; may be on any device.
        visual: the image tower, of the base's kind, on any device.
    """
    weights = dict(base.model.state_dict()) | {f"visual.{name}": each for name, each in visual.state_dict().items()}
    (folder / CONFIG_NAME).write_text(json.dumps(base.config, indent=2) + "\n", encoding="utf-8")
    safetensors.torch.save_file(_apart(weights), folder / WEIGHTS_NAME)


def _apart(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, contiguous, in the order of their names; one that shares memory is copied.

    safetensors stores each by itself and refuses what is shared.
    """
    apart: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return apart
