"""What an `open_clip_config.json` may contain. It comes with an untrusted model, and open_clip obeys all of it.

Among other things that is running code of the folder, fetching models and tokenizers of any name, and building a model
of any size. So every key and value is checked here first, and unknown ones are refused.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import open_clip
from open_clip.hf_configs import arch_dict

from paint_core.errors import ModelRefError

MAX_SIDE = 1024
"""Pixels of an image's side that a model reads; the largest that open_clip has reads 512."""

_MAX_FILE_BYTES = 1 << 20
_MAX_QUOTED = 100
_MAX_WIDTH, _MAX_LAYERS, _MAX_TOKENS = 8192, 256, 8192
_MAX_TEXT_NUMBER = 2_000_000
_TEXT_WORDS = {"model_type", "hidden_act", "activation_function", "feed_forward_proj", "dense_act_fn"}
_TIMM_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,99}(\.[a-z0-9][a-z0-9_]{0,99})?")
_Check = Callable[[Any], bool]
_Rules = Mapping[str, _Check]


def _whole(least: int, most: int) -> _Check:
    return lambda value: type(value) is int and least <= value <= most


def _number(least: float, most: float) -> _Check:
    return lambda value: type(value) in (int, float) and math.isfinite(value) and least <= value <= most


def _one_of(*values: Any) -> _Check:
    return lambda value: any(type(value) is type(each) and value == each for each in values)


def _or_none(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _list_of(check: _Check, length: int) -> _Check:
    return lambda value: isinstance(value, list | tuple) and len(value) == length and all(map(check, value))


def _either(*checks: _Check) -> _Check:
    return lambda value: any(check(value) for check in checks)


def _dict_of(rules: _Rules) -> _Check:
    return lambda value: isinstance(value, dict) and all(key in rules and rules[key](value[key]) for key in value)


@lru_cache(maxsize=2)
def _names_of_open_clip(key: str) -> frozenset[str]:
    configs = (open_clip.get_model_config(name)["text_cfg"] for name in open_clip.list_models())
    return frozenset(config[key] for config in configs if config.get(key))


def _name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


_FLAG = _one_of(True, False)
_WIDTH, _HEADS, _LAYERS = _whole(1, _MAX_WIDTH), _whole(1, 256), _whole(1, _MAX_LAYERS)
_SIZE = _either(_whole(1, MAX_SIDE), _list_of(_whole(1, MAX_SIDE), 2), _list_of(_whole(1, MAX_SIDE), 1))
_BLOCKS: _Rules = {
    "mlp_ratio": _number(0.01, 32),
    "ls_init_value": _or_none(_number(0, 10)),
    "final_ln_after_pool": _FLAG,
    "output_tokens": _one_of(False),
    "act_kwargs": _or_none(_dict_of({"approximate": _one_of("none", "tanh")})),
    "norm_kwargs": _or_none(_dict_of({"eps": _number(0, 1)})),
    "block_type": _or_none(_one_of("default", "custom")),
    **dict.fromkeys(
        ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"), _FLAG
    ),
}
_VISION: _Rules = {
    **_BLOCKS,
    "layers": _either(_LAYERS, _list_of(_whole(1, 64), 4)),
    "width": _WIDTH,
    "head_width": _whole(1, 1024),
    "patch_size": _or_none(_whole(1, 256)),
    "image_size": _SIZE,
    "patch_dropout": _number(0, 0.99),
    "attentional_pool": _either(_FLAG, _one_of("parallel", "cascade")),
    "attn_pooler_queries": _whole(1, 4096),
    "attn_pooler_heads": _HEADS,
    "no_ln_pre": _FLAG,
    "pos_embed_type": _one_of("learnable", "sin_cos_2d"),
    "pool_type": _one_of("tok", "avg"),
    "timm_model_name": lambda value: isinstance(value, str) and _TIMM_NAME.fullmatch(value) is not None,
    "timm_model_pretrained": _one_of(False),
    "timm_pool": _one_of("", "avg", "max", "avgmax", "token", "map", "abs_attn", "rot_attn"),
    "timm_proj": _or_none(_one_of("", "linear", "mlp", "none")),
    "timm_proj_bias": _FLAG,
    "timm_drop": _number(0, 0.99),
    "timm_drop_path": _or_none(_number(0, 0.99)),
}
_TEXT: _Rules = {
    **_BLOCKS,
    "context_length": _whole(1, 2048),
    "vocab_size": _whole(1, 2_000_000),
    "width": _WIDTH,
    "heads": _HEADS,
    "layers": _LAYERS,
    "embed_cls": _FLAG,
    "pad_id": _whole(0, 2_000_000),
    "eos_id": _whole(0, 2_000_000),
    "no_causal_mask": _FLAG,
    "pool_type": _one_of("first", "last", "argmax", "eos"),
    "proj_bias": _FLAG,
    "proj_type": _or_none(_one_of("linear", "none")),
    "hf_model_name": lambda value: _name(value) and value in _names_of_open_clip("hf_model_name"),
    "hf_model_pretrained": _one_of(False),
    "hf_proj_type": _or_none(_one_of("linear", "mlp")),
    "hf_pooler_type": _or_none(_one_of("mean_pooler", "max_pooler", "cls_pooler", "cls_last_hidden_state_pooler")),
    "hf_tokenizer_name": _either(_one_of(""), _name),
    "tokenizer_mode": _or_none(_one_of("clips")),
    "tokenizer_kwargs": _dict_of(
        {
            "clean": _one_of("lower", "whitespace", "canonicalize"),
            "strip_sep_token": _FLAG,
            "language": lambda value: _name(value) and value.isidentifier(),
        }
    ),
}
_MODEL: _Rules = {
    "embed_dim": _WIDTH,
    "vision_cfg": lambda value: isinstance(value, dict),
    "text_cfg": lambda value: isinstance(value, dict),
    "quick_gelu": _FLAG,
    "custom_text": _FLAG,
    "init_logit_scale": _number(-100, 100),
    "init_logit_bias": _or_none(_number(-1000, 1000)),
    "nonscalar_logit_scale": _FLAG,
}
_PREPROCESS: _Rules = {
    "size": _SIZE,
    "mode": _one_of("RGB"),
    "mean": _list_of(_number(-1000, 1000), 3),
    "std": _list_of(_number(1e-6, 1000), 3),
    "interpolation": _one_of("bicubic", "bilinear", "random"),
    "resize_mode": _one_of("shortest", "longest", "squash"),
    "fill_color": _either(_whole(0, 255), _list_of(_whole(0, 255), 3)),
}


def read_json(path: Path) -> Any:
    """The content of a small regular JSON file; a link may lead to it, as in the cache of huggingface_hub.

    Raises:
        ModelRefError: it is not a regular file, too large or not JSON.
    """
    try:
        if not path.is_file() or path.stat().st_size > _MAX_FILE_BYTES:
            raise ModelRefError(f"{path} is not a file of at most {_MAX_FILE_BYTES} bytes: export the model again")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ModelRefError):
            raise
        raise ModelRefError(f"{path} is not valid JSON ({one_line(error)}): export the model again") from error


def check_config(model_cfg: Any, preprocess_cfg: Any) -> None:
    """Refuses a configuration that asks for more than a model of ordinary size, built from what is installed."""
    _check("model_cfg", model_cfg, _MODEL, ("embed_dim", "vision_cfg", "text_cfg"))
    _check("model_cfg.vision_cfg", model_cfg["vision_cfg"], _VISION)
    _check("model_cfg.text_cfg", model_cfg["text_cfg"], _TEXT)
    _check("preprocess_cfg", preprocess_cfg, _PREPROCESS)
    _check_tokens(model_cfg["vision_cfg"])


def without_decoder(model_cfg: Any) -> Any:
    """The configuration of a CoCa without its captioning decoder, as one of two towers; any other as it is."""
    decoder = model_cfg.get("multimodal_cfg") if isinstance(model_cfg, dict) else None
    if not isinstance(decoder, dict) or not decoder:
        return model_cfg
    kept = {key: value for key, value in model_cfg.items() if key != "multimodal_cfg"}
    for tower in ("vision_cfg", "text_cfg"):
        if isinstance(kept.get(tower), dict):
            kept[tower] = {key: value for key, value in kept[tower].items() if key != "output_tokens"}
    return {**kept, "custom_text": True}


def plain_text_config(config: Any) -> dict[str, Any]:
    """The safe configuration of a transformers text model: numbers, flags and a few words, and nothing that names code.

    Raises:
        ModelRefError: it is of a kind that open_clip does not use, or asks for more than a model of ordinary size.
    """
    if not isinstance(config, dict) or config.get("model_type") not in arch_dict:
        raise ModelRefError(f"the text model is not one of {', '.join(arch_dict)}: use another model")
    plain = {
        key: value
        for key, value in config.items()
        if not key.startswith("_") and (key in _TEXT_WORDS if isinstance(value, str) else _is_plain(value))
    }
    for key, value in plain.items():
        most = _MAX_LAYERS if "layers" in key else _MAX_TEXT_NUMBER
        if isinstance(value, int | float) and not -most <= value <= most:
            raise ModelRefError(f"{_quote(key)} of the text model is {_quote(value)}: correct it, or use another model")
    return plain


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float)


def names_of_tokenizers() -> Collection[str]:
    """The repositories whose tokenizers open_clip's own configurations name."""
    return _names_of_open_clip("hf_tokenizer_name")


def one_line(error: BaseException) -> str:
    """An error's class and the beginning of its message, for our own message."""
    message = "".join(char if char.isprintable() else " " for char in str(error)[:1000])
    return f"{type(error).__name__}: {' '.join(message.split())[:300]}"


def _check(where: str, config: Any, rules: _Rules, required: Collection[str] = ()) -> None:
    if not isinstance(config, dict):
        raise ModelRefError(f"{where} is not an object: export the model again")
    missing = [key for key in required if key not in config]
    if missing:
        raise ModelRefError(f"{where} has no {missing[0]}: export the model again")
    for key, value in config.items():
        if key not in rules:
            raise ModelRefError(f"{where} has the unknown key {_quote(key)}: remove it, or use another model")
        if not rules[key](value):
            raise ModelRefError(f"{where}.{key} may not be {_quote(value)}: correct it, or use another model")


def _check_tokens(vision_cfg: Mapping[str, Any]) -> None:
    """Refuses patches that are so small that the image tower reads too many of them."""
    size, patch = vision_cfg.get("image_size", 224), vision_cfg.get("patch_size", 16)
    sides = size if isinstance(size, list | tuple) else [size]
    if "timm_model_name" not in vision_cfg and patch is not None and (max(sides) // patch) ** 2 > _MAX_TOKENS:
        raise ModelRefError(f"model_cfg.vision_cfg has more than {_MAX_TOKENS} patches: use a larger patch_size")


def _quote(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_QUOTED else f"{text[: _MAX_QUOTED - 1]}…"
