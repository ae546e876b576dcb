"""Loading a base model: a CLIP of open_clip, frozen, in float32, with its tokenizer and preprocessing."""

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from paint_core import starter
from paint_core.config.finetune import FinetuneConfig
from paint_core.config.presets import finetune_preset
from paint_core.errors import ModelRefError, NonFiniteWeightsError, PaintCoreError
from paint_core.images.preprocess import Preprocess
from paint_core.models import prompts
from paint_core.models.building import build_model, is_mappable
from paint_core.models.checkpoints import (
    Checkpoint,
    Hub,
    find_by_file,
    find_by_tag,
    find_in_dir,
    find_on_hub,
    published_at,
)
from paint_core.models.model_config import one_line
from paint_core.models.tokenizers import build_tokenizer
from paint_core.models.wrapping import adopt
from paint_core.runtime.arguments import require_device, require_type
from paint_core.weights import fingerprint
from paint_core.weights.checks import is_finite

Kind = Literal["starter", "tag", "file", "hub", "dir"]
_HUB, _DIR = "hf-hub:", "local-dir:"
_FORMS = "write starter, NAME:TAG, NAME:FILE.safetensors, hf-hub:ORG/REPO or local-dir:FOLDER"
_ONLINE = Hub()
_FILE_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npz", ".npy")


@dataclass(frozen=True)
class ModelRef:
    """Which model to load; `str()` returns the text that `parse` reads.

    Attributes:
        kind: one of the five forms.
        name: open_clip's model name, for `tag` and `file`; else empty.
        source: the tag, the file, the repository or the folder; empty for the starter.
    """

    kind: Kind
    name: str = ""
    source: str = ""

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """Parses a reference; nothing is looked up yet.

        Args:
            text: `starter`, `NAME:TAG`, `NAME:FILE.safetensors`, `hf-hub:ORG/REPO` or `local-dir:FOLDER`.

        Raises:
            ModelRefError: the text has none of these forms.
        """
        if text == "starter":
            return cls("starter")
        prefix, _, rest = text.partition(":")
        if not prefix or not rest.strip() or "\0" in text:
            raise ModelRefError(f"cannot read the model reference {text!r}: {_FORMS}")
        if text.startswith(_HUB):
            return cls("hub", source=rest)
        if text.startswith(_DIR):
            return cls("dir", source=rest)
        is_file = "/" in rest or "\\" in rest or rest.lower().endswith(_FILE_SUFFIXES)
        return cls("file" if is_file else "tag", name=prefix, source=rest)

    def __str__(self) -> str:
        prefix = {"starter": "starter", "hub": _HUB, "dir": _DIR}.get(self.kind, f"{self.name}:")
        return prefix + self.source


@dataclass(frozen=True, eq=False, repr=False)
class BaseModel:
    """A loaded base model. It is shared, so it must not be changed.

    Attributes:
        ref: where it came from, as text.
        model: open_clip's CLIP or CustomTextCLIP: float32, eval mode, no gradients.
        tokenizer: prompts to int64 tokens [B, context].
        preprocess: bytes to pixels to the tower's input.
        fingerprint: sha256 over all weights and the preprocessing; what a version names as its base.
        config: `model_cfg` and `preprocess_cfg`, for `open_clip_config.json` on export.
        is_mapped: whether the weights are mapped from the file and shared by all processes, not memory of this one.
    """

    ref: str
    model: nn.Module
    tokenizer: Callable[[list[str]], Tensor]
    preprocess: Preprocess
    fingerprint: str
    config: Mapping[str, Any] = field(repr=False)
    is_mapped: bool = False

    def __repr__(self) -> str:
        towers = f"{type(self.visual).__name__} reading {self.image_size} x {self.image_size}, D={self.embed_dim}"
        return f"BaseModel({self.ref!r}, {towers}, fingerprint={self.fingerprint[:12]})"

    @classmethod
    def from_open_clip(
        cls,
        model: nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        preprocess: Preprocess | Mapping[str, Any] | Callable[..., Any] | None = None,
        *,
        model_cfg: Mapping[str, Any] | str | None = None,
        ref: str = "in memory",
    ) -> "BaseModel":
        """A base from an open_clip model, with its current weights.

        Args:
            model: open_clip's CLIP or CustomTextCLIP, on any device; it is copied.
            tokenizer: from `open_clip.get_tokenizer`.
            preprocess: a configuration as open_clip's `preprocess_cfg`, or the evaluation transform that
                `create_model_and_transforms` returns with the model; None takes the configuration in the model.
            model_cfg: open_clip's configuration of the model, or its name; only `write_model` needs it.
            ref: its name.
        """
        own, prepared, config = adopt(model, preprocess, model_cfg)
        require_finite(own)
        base = cls(ref, own, tokenizer, prepared, base_fingerprint(own, prepared), config)
        require_usable(base)
        return base

    def with_tower(self, visual: nn.Module) -> "BaseModel":
        """The same model with another image tower of the same shapes, which is not copied."""
        model = copy.copy(self.model)
        model._modules = {**self.model._modules, "visual": visual}
        identity = base_fingerprint(model, self.preprocess)
        return replace(self, model=model, ref=f"{self.ref}, patched", fingerprint=identity, is_mapped=False)

    @property
    def visual(self) -> nn.Module:
        """The image tower: normalised pixels [B, 3, S, S] to features [B, D], not of unit length."""
        return _submodule(self.model, "visual")

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return _logit_scale(self.model).device

    @property
    def logit_scale(self) -> float:
        """The factor on cosines, exponential already taken."""
        return float(_logit_scale(self.model).exp())

    @property
    def logit_bias(self) -> float:
        """The summand on logits (SigLIP); 0.0 if the model has none."""
        bias = getattr(self.model, "logit_bias", None)
        return 0.0 if bias is None else float(bias)

    @property
    def embed_dim(self) -> int:
        """D, the length of a feature."""
        return int(self.config["model_cfg"]["embed_dim"])

    @property
    def image_size(self) -> int:
        """S, the side of the square image that the tower reads, in pixels."""
        return self.preprocess.size

    @property
    def finetune_defaults(self) -> FinetuneConfig:
        """Default fine-tuning settings of this model (`config/presets.py`)."""
        return finetune_preset(self.ref, self.visual)

    @property
    def default_templates(self) -> tuple[str, ...]:
        """Default prompt templates."""
        return prompts.STARTER if self.ref == "starter" else prompts.DEFAULT_TEMPLATES


def load_base(
    ref: ModelRef | Path | str,
    *,
    device: torch.device | str = "cpu",
    hub: Hub = _ONLINE,
    preprocess_cfg: Mapping[str, Any] | None = None,
) -> BaseModel:
    """The base model of a reference, ready to encode.

    Only safetensors is read; anything else is refused before it is opened. A configuration is untrusted data
    (`model_config.py`): nothing in a folder is executed, and loading a folder never uses the network. The file must
    contain every tensor of the model. On the CPU, float32 weights are mapped from the file into memory (`building.py`),
    so the file must not be changed during the model's lifetime. Only huggingface_hub uses the network, for `NAME:TAG`
    and `hf-hub:` that are not yet in its cache.

    Args:
        ref: the reference, its text, or the path of a folder.
        hub: the Hub's cache, and whether the network may be used.
        preprocess_cfg: for `NAME:FILE` only: differences from open_clip's default preprocessing ({} for none); None
            uses that of the name's published weights.

    Raises:
        ArgumentError: the reference has another type.
        ConfigError: this machine has no such device.
        ModelRefError: it cannot be parsed, found or used.
        UnsafeWeightsError: the weights are not a safetensors file.
        WeightsMismatchError: the weights do not fit the configuration.
        NonFiniteWeightsError: the weights hold a NaN or an infinity.
    """
    require_type("ref", ref, (ModelRef, Path, str), f"{_FORMS}, or pass the path of a folder")
    ref = ModelRef("dir", source=str(ref)) if isinstance(ref, Path) else ref
    parsed = ModelRef.parse(ref) if isinstance(ref, str) else ref
    device = require_device(device)
    if preprocess_cfg is not None and parsed.kind != "file":
        raise ModelRefError(f"{parsed} has its own preprocessing: omit preprocess_cfg")
    try:
        return _load(parsed, device, hub, preprocess_cfg)
    except PaintCoreError:
        raise
    except Exception as error:  # what open_clip, timm and transformers raise of a strange model is anything
        raise ModelRefError(f"{parsed} cannot be loaded ({one_line(error)}): use another model") from error


def _load(ref: ModelRef, device: torch.device | str, hub: Hub, preprocess_cfg: Mapping[str, Any] | None) -> BaseModel:
    checkpoint = _find(ref, hub, preprocess_cfg)
    model = build_model(checkpoint)
    require_finite(model)
    preprocess = Preprocess(_submodule(model, "visual").preprocess_cfg)  # type: ignore[arg-type]
    identity = base_fingerprint(model, preprocess)
    config = {"model_cfg": dict(checkpoint.config["model_cfg"]), "preprocess_cfg": preprocess.config}
    is_mapped = torch.device(device).type == "cpu" and is_mappable(checkpoint.weights)
    tokenizer = build_tokenizer(config["model_cfg"]["text_cfg"], checkpoint.tokenizer_source, hub)
    base = BaseModel(str(ref), model.to(device), tokenizer, preprocess, identity, config, is_mapped)
    if ref.kind in ("dir", "hub", "file"):
        require_usable(base)
    return base


def base_fingerprint(model: nn.Module, preprocess: Preprocess) -> str:
    """The identity of a base as its weights are now; equal to `BaseModel.fingerprint` unless they have changed."""
    return hashlib.sha256(f"{fingerprint(model.state_dict())}\n{preprocess.config_json}".encode()).hexdigest()


def _find(ref: ModelRef, hub: Hub, preprocess_cfg: Mapping[str, Any] | None) -> Checkpoint:
    match ref.kind:
        case "starter":
            return find_in_dir(starter.model_dir())
        case "tag":
            return find_by_tag(ref.name, ref.source, hub)
        case "file":
            return find_by_file(ref.name, Path(ref.source), hub, preprocess_cfg)
        case "hub":
            return find_on_hub(ref.source, hub)
        case "dir":
            return find_in_dir(Path(ref.source))


def find_repository(ref: str) -> str | None:
    """The Hub's repository of a reference; None: it has none, or the reference cannot be read."""
    try:
        parsed = ModelRef.parse(ref)
    except ModelRefError:
        return None
    if parsed.kind == "hub":
        return parsed.source
    return published_at(parsed.name, parsed.source) if parsed.kind == "tag" else None


def require_usable(base: BaseModel) -> None:
    """Refuses a model whose towers do not return one feature of the model's width each.

    Raises:
        ModelRefError: they do not.
    """
    size = base.image_size
    pixels = base.preprocess.normalise(torch.zeros(1, size, size, 3, dtype=torch.uint8), base.device)
    with torch.inference_mode():
        features = base.visual(pixels), base.model.encode_text(base.tokenizer(["a"]).to(base.device))  # type: ignore[operator]
    for tower, found in zip(("image", "text"), features, strict=True):
        if not isinstance(found, Tensor) or list(found.shape) != [1, base.embed_dim] or not is_finite(found):
            raise ModelRefError(
                f"the {tower} tower of {base.ref} gives no feature of {base.embed_dim} numbers: correct it"
            )


def require_finite(model: nn.Module) -> None:
    """Refuses weights that hold a NaN or an infinity.

    Raises:
        NonFiniteWeightsError: naming the first tensor that holds one.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not is_finite(tensor):
            raise NonFiniteWeightsError(f"{name} contains NaN or infinity: download or export the model again")


def _submodule(model: nn.Module, name: str) -> nn.Module:
    module = getattr(model, name)
    assert isinstance(module, nn.Module)
    return module


def _logit_scale(model: nn.Module) -> Tensor:
    scale = model.logit_scale
    assert isinstance(scale, Tensor)
    return scale
