"""A base model from a model that open_clip has built in this process."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import nn

from paint_core.errors import ModelRefError
from paint_core.images.preprocess import Preprocess
from paint_core.models.building import note_fixed
from paint_core.runtime.arguments import require_type


def adopt(
    model: nn.Module,
    preprocess: Preprocess | Mapping[str, Any] | Callable[..., Any] | None,
    model_cfg: Mapping[str, Any] | str | None,
) -> tuple[nn.Module, Preprocess, dict[str, Any]]:
    """A copy of the model (float32, eval mode, no gradients), its preprocessing and its configuration.

    Raises:
        ModelRefError: the model is of another kind, or its preprocessing is not known.
    """
    require_type("model", model, nn.Module, "pass the model that open_clip.create_model_and_transforms gives")
    if not isinstance(model, open_clip.CLIP | open_clip.CustomTextCLIP) or isinstance(model, open_clip.CoCa):
        raise ModelRefError(f"the model is a {type(model).__name__}: pass a CLIP or CustomTextCLIP of open_clip")
    prepared = _preprocess_of(model, preprocess)
    own = copy.deepcopy(model)
    note_fixed(own)
    own.float().eval().requires_grad_(False)
    return own, prepared, {"model_cfg": _model_cfg_of(own, prepared, model_cfg), "preprocess_cfg": prepared.config}


def _preprocess_of(model: nn.Module, given: object) -> Preprocess:
    if isinstance(given, Preprocess):
        return given
    if isinstance(given, Mapping):
        return Preprocess(given)
    config = getattr(model.visual, "preprocess_cfg", None)
    if not isinstance(config, Mapping):
        raise ModelRefError("the model has no preprocessing configuration: pass its preprocess_cfg as `preprocess`")
    if given is not None and str(given) != str(image_transform_v2(PreprocessCfg(**config), is_train=False)):
        raise ModelRefError(
            "the transform is not the evaluation transform of the model: pass the third result of "
            "create_model_and_transforms, or a preprocess_cfg"
        )
    return Preprocess(config)


def _model_cfg_of(model: nn.Module, preprocess: Preprocess, given: Mapping[str, Any] | str | None) -> dict[str, Any]:
    if isinstance(given, str):
        found = open_clip.get_model_config(given)
        if found is None:
            raise ModelRefError(f"open_clip has no model {given!r}: see open_clip.list_models()")
        return copy.deepcopy(dict(found))
    if given is not None:
        return copy.deepcopy(dict(given))
    with torch.inference_mode():
        black = torch.zeros(1, preprocess.size, preprocess.size, 3, dtype=torch.uint8)
        width = model.encode_image(preprocess.normalise(black, next(model.parameters()).device)).shape[1]  # type: ignore[operator]
    return {"embed_dim": int(width), "vision_cfg": {}, "text_cfg": {}}
