"""A model as a folder of Hugging Face transformers: CLIPModel, or SiglipModel where both towers are SigLIP's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import Tensor, nn

from paint_core.errors import ExportError
from paint_core.exporting.bpe import write_clip_tokenizer
from paint_core.exporting.names import Rule, clip_rules, join_pool, rename, siglip_rules, unplaced
from paint_core.exporting.proof import prove
from paint_core.models import BaseModel
from paint_core.models.tokenizers import save_tokenizer, unbounded

WEIGHTS_NAME = "model.safetensors"
_POOL = "visual.trunk.attn_pool."
_BICUBIC, _BILINEAR = 3, 2
"""Pillow's numbers of the filters."""


@dataclass(frozen=True)
class Mapped:
    """What a model becomes.

    Attributes:
        kind: `clip` or `siglip`.
        config: the content of `config.json`.
        preprocessor: the content of `preprocessor_config.json`.
        rules: how its tensors are renamed.
    """

    kind: Literal["clip", "siglip"]
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    rules: tuple[Rule, ...]


def map_model(base: BaseModel) -> Mapped:
    """What a model becomes; nothing is copied.

    Raises:
        ExportError: transformers has no such model.
    """
    visual, text, tokenizer = base.visual, _text_tower(base.model), unbounded(base.tokenizer)
    prefix = "text." if isinstance(text, TextTransformer) else ""
    if isinstance(visual, VisionTransformer) and isinstance(tokenizer, SimpleTokenizer):
        kind: Literal["clip", "siglip"] = "clip"
        rules = clip_rules(prefix)
        _require_clip(visual, text, base)
        config = _clip_config(base, visual, text, tokenizer)
    elif _is_siglip(visual, text) and isinstance(tokenizer, HFTokenizer):
        kind, rules, config = "siglip", siglip_rules(), _siglip_config(base, visual, text, tokenizer)
    else:
        raise ExportError(f"transformers has no model with the image tower {_describe(visual)} and this text tower")
    _require_places(base, rules)
    return Mapped(kind, config, _preprocessor(base, kind), rules)


def write_transformers(folder: Path, base: BaseModel) -> None:
    """Writes `config.json`, `model.safetensors`, `preprocessor_config.json` and the tokenizer's files.

    Args:
        folder: one that exists.

    Raises:
        ExportError: transformers has no such model.
    """
    mapped = map_model(base)
    weights = rename(join_pool(base.model.state_dict(), _POOL), mapped.rules)
    apart = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()}
    _write_json(folder / "config.json", mapped.config)
    _write_json(folder / "preprocessor_config.json", mapped.preprocessor)
    safetensors.torch.save_file(apart, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    tokenizer = unbounded(base.tokenizer)
    if isinstance(tokenizer, SimpleTokenizer):
        write_clip_tokenizer(folder, tokenizer)
    else:
        save_tokenizer(tokenizer, folder)
        _read_padding(folder / "tokenizer_config.json", base)


def _read_padding(path: Path, base: BaseModel) -> None:
    """Let a tokenizer give no attention mask: SigLIP is trained without one and reads the padding, too."""
    config = json.loads(path.read_text(encoding="utf-8"))
    length = base.config["model_cfg"]["text_cfg"].get("context_length", DEFAULT_CONTEXT_LENGTH)
    _write_json(path, config | {"model_input_names": ["input_ids"], "model_max_length": length})


def prove_transformers(folder: Path, base: BaseModel, probe: Tensor) -> float:
    """The lowest cosine between features that transformers computes from a folder, and the model's own.

    Raises:
        ProbeError: one is below 0.999.
    """
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    local: Any = {"local_files_only": True, "trust_remote_code": False}
    model = AutoModel.from_pretrained(folder, **local).eval()
    processor: Any = AutoImageProcessor.from_pretrained(folder, **local)  # type: ignore[no-untyped-call]
    tokenizer = AutoTokenizer.from_pretrained(folder, **local)
    length = int(model.config.text_config.max_position_embeddings)

    def encode_images(images: NDArray[np.uint8]) -> Tensor:
        inputs = processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
        with torch.inference_mode():
            return _features(model.get_image_features(pixel_values=inputs["pixel_values"]))

    def encode_texts(texts: Sequence[str]) -> Tensor:
        options = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
        tokens = tokenizer(list(texts), **options)
        with torch.inference_mode():
            return _features(model.get_text_features(**tokens))

    return prove(base, probe, encode_images, encode_texts, "transformers")


def _features(output: Any) -> Tensor:
    """The features of an answer, which is a tensor before release 5."""
    features: Tensor = getattr(output, "pooler_output", output)
    return features


def _text_tower(model: nn.Module) -> nn.Module:
    """The text tower, or the model itself where the tower's parts lie directly in it."""
    tower = getattr(model, "text", model)
    assert isinstance(tower, nn.Module)
    return tower


def _require_clip(visual: VisionTransformer, text: nn.Module, base: BaseModel) -> None:
    pool = getattr(text, "pool_type", None) or getattr(text, "text_pool_type", None)
    required = {
        "its image tower has no first layer norm": isinstance(visual.ln_pre, nn.LayerNorm),
        "the class token is not what its image tower gives": visual.pool_type == "tok" and visual.attn_pool is None,
        "its image tower normalises after pooling": not visual.final_ln_after_pool,
        "its text tower reads in both directions": getattr(text, "attn_mask", None) is not None,
        "its text tower does not give the last token": pool == "argmax" and getattr(text, "cls_emb", None) is None,
        "it has a logit bias": getattr(base.model, "logit_bias", None) is None,
    }
    _require(required, "CLIPModel")


def _is_siglip(visual: nn.Module, text: nn.Module) -> bool:
    trunk = getattr(visual, "trunk", None)
    return (
        type(trunk).__name__ == "VisionTransformer"
        and type(getattr(trunk, "attn_pool", None)).__name__ == "AttentionPoolLatent"
        and isinstance(text, TextTransformer)
        and text.pool_type == "last"
        and text.attn_mask is None
        and isinstance(text.text_projection, nn.Linear)
    )


def _require(required: Mapping[str, bool], model: str) -> None:
    failed = [what for what, holds in required.items() if not holds]
    if failed:
        raise ExportError(f"transformers' {model} is another model ({failed[0]})")


def _require_places(base: BaseModel, rules: tuple[Rule, ...]) -> None:
    left = sorted(unplaced(join_names(base), rules))
    if left:
        raise ExportError(f"transformers has no place for {left[0]}, one of {len(left)} tensors of this model")


def join_names(base: BaseModel) -> list[str]:
    """The names of a model's tensors, with those of an attention pool as `join_pool` joins them."""
    names = []
    for name in base.model.state_dict():
        if name.startswith((f"{_POOL}q.", f"{_POOL}kv.")):
            name = f"{_POOL}in_proj_{name.rpartition('.')[2]}"
        names.append(name)
    return names


def _clip_config(base: BaseModel, visual: VisionTransformer, text: nn.Module, tokenizer: SimpleTokenizer) -> Any:
    width = base.embed_dim
    vision = _blocks(visual.transformer) | {
        "image_size": base.image_size,
        "patch_size": _side(visual.conv1.kernel_size),
        "projection_dim": width,
    }
    reading = _reading(text) | {
        "projection_dim": width,
        "bos_token_id": tokenizer.sot_token_id,
        "eos_token_id": tokenizer.eot_token_id,
        "pad_token_id": tokenizer.eot_token_id,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": width,
        "vision_config": {"model_type": "clip_vision_model", **vision},
        "text_config": {"model_type": "clip_text_model", **reading},
    }


def _siglip_config(base: BaseModel, visual: nn.Module, text: nn.Module, tokenizer: HFTokenizer) -> dict[str, Any]:
    trunk: Any = visual.trunk
    vision = _blocks(trunk) | {
        "image_size": base.image_size,
        "patch_size": _side(trunk.patch_embed.proj.kernel_size),
    }
    special = {f"{name}_token_id": getattr(tokenizer.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    reading = _reading(text) | {"projection_size": base.embed_dim} | special
    return {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "vision_config": {"model_type": "siglip_vision_model", **vision},
        "text_config": {"model_type": "siglip_text_model", **reading},
    }


def _reading(text: Any) -> dict[str, Any]:
    return _blocks(text.transformer) | {
        "vocab_size": int(text.token_embedding.weight.shape[0]),
        "max_position_embeddings": int(text.positional_embedding.shape[0]),
    }


def _blocks(transformer: Any) -> dict[str, Any]:
    """What transformers wants to know of the layers of a transformer, read from the layers themselves."""
    blocks = list(getattr(transformer, "resblocks", None) or transformer.blocks)
    first = blocks[0]
    widen = first.mlp.c_fc if hasattr(first.mlp, "c_fc") else first.mlp.fc1
    return {
        "hidden_size": int(widen.in_features),
        "intermediate_size": int(widen.out_features),
        "num_hidden_layers": len(blocks),
        "num_attention_heads": int(first.attn.num_heads),
        "hidden_act": _only({_activation(block.mlp) for block in blocks}, "activations"),
        "layer_norm_eps": _only(
            {float(each.eps) for block in blocks for each in block.modules() if isinstance(each, nn.LayerNorm)},
            "epsilons of layer norms",
        ),
    }


def _activation(mlp: nn.Module) -> str:
    """The name that transformers has for the activation of a block."""
    for each in mlp.modules():
        kind = type(each).__name__
        if kind == "QuickGELU":
            return "quick_gelu"
        if kind == "GELUTanh" or (kind == "GELU" and getattr(each, "approximate", "none") == "tanh"):
            return "gelu_pytorch_tanh"
        if kind == "GELU":
            return "gelu"
    raise ExportError("transformers has no name for the activation of this model")


def _only(found: set[Any], what: str) -> Any:
    if len(found) != 1:
        raise ExportError(f"the layers of this model have several {what}, and transformers wants one")
    return next(iter(found))


def _side(size: tuple[int, ...]) -> int:
    return int(_only(set(size), "sides of a patch"))


def _preprocessor(base: BaseModel, kind: Literal["clip", "siglip"]) -> dict[str, Any]:
    config, size = base.preprocess.config, base.image_size
    mode = config.get("resize_mode", "shortest")
    if mode not in ("shortest", "squash"):
        raise ExportError(f"transformers' image processor does not resize by the {mode} side and pad")
    square = {"height": size, "width": size}
    crops = mode == "shortest"
    if kind == "siglip" and crops:
        raise ExportError("transformers' SiglipImageProcessor does not crop")
    described = {
        "image_processor_type": "CLIPImageProcessor" if kind == "clip" else "SiglipImageProcessor",
        "processor_class": "CLIPProcessor" if kind == "clip" else "SiglipProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size} if crops else square,
        "resample": _BILINEAR if config.get("interpolation") == "bilinear" else _BICUBIC,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(base.preprocess.mean),
        "image_std": list(base.preprocess.std),
    }
    return described | ({"do_center_crop": crops, "crop_size": square} if kind == "clip" else {})


def _describe(visual: nn.Module) -> str:
    trunk = getattr(visual, "trunk", None)
    return type(visual).__name__ if trunk is None else f"{type(trunk).__name__} (timm)"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
