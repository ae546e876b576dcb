"""From open_clip's names of tensors to those of transformers, for CLIP and SigLIP.

open_clip keeps queries, keys and values of an attention in one tensor, transformers in three. Projections of CLIP are
multiplied from the right in open_clip and are the weights of linear layers, transposed, in transformers.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_WEIGHT_OR_BIAS = r"(weight|bias)"
_QKV = ("q", "k", "v")


@dataclass(frozen=True)
class Rule:
    """How one kind of tensor is renamed.

    Attributes:
        source: regular expression of the whole name in open_clip.
        targets: templates of the names in transformers; the tensor is divided among them along its first dimension.
        change: applied to the tensor before it is divided.
    """

    source: str
    targets: tuple[str, ...]
    change: Callable[[Tensor], Tensor] = Tensor.detach


def rename(weights: Mapping[str, Tensor], rules: Collection[Rule]) -> dict[str, Tensor]:
    """The tensors under their names in transformers; they share memory with the given ones.

    Raises:
        KeyError: no rule has a place for a tensor; the key is its name.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        rule, found = _find(name, rules)
        parts = rule.change(tensor.detach()).chunk(len(rule.targets)) if len(rule.targets) > 1 else None
        for place, target in enumerate(rule.targets):
            renamed[found.expand(target)] = rule.change(tensor.detach()) if parts is None else parts[place]
    return renamed


def unplaced(names: Collection[str], rules: Collection[Rule]) -> Iterator[str]:
    """The names of tensors that no rule has a place for."""
    for name in names:
        try:
            _find(name, rules)
        except KeyError:
            yield name


def join_pool(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights with the query of an attention pool and its keys and values in one tensor, as transformers has it.

    Args:
        prefix: of the pool's names, such as `visual.trunk.attn_pool.`.
    """
    joined = dict(weights)
    for part in ("weight", "bias"):
        names = [f"{prefix}{each}.{part}" for each in ("q", "kv")]
        if all(name in joined for name in names):
            joined[f"{prefix}in_proj_{part}"] = torch.cat([joined.pop(name) for name in names])
    return joined


def _find(name: str, rules: Collection[Rule]) -> tuple[Rule, re.Match[str]]:
    for rule in rules:
        if found := re.fullmatch(rule.source, name):
            return rule, found
    raise KeyError(name)


def _layers(source: str, target: str, renamed: Mapping[str, str], qkv: str) -> list[Rule]:
    """The rules of the blocks of a transformer, whose number is the first group."""
    rules = [
        Rule(rf"{source}{re.escape(theirs)}\.{_WEIGHT_OR_BIAS}", (rf"{target}\1.{ours}.\2",))
        for theirs, ours in renamed.items()
    ]
    return [*rules, Rule(f"{source}{qkv}", tuple(rf"{target}\1.self_attn.{part}_proj.\2" for part in _QKV))]


_BLOCK = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj"}
_BLOCK |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
_TIMM_BLOCK = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj"}
_TIMM_BLOCK |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}


def _text_rules(prefix: str) -> list[Rule]:
    own = re.escape(prefix)
    layers = _layers(
        rf"{own}transformer\.resblocks\.(\d+)\.",
        "text_model.encoder.layers.",
        _BLOCK,
        rf"attn\.in_proj_{_WEIGHT_OR_BIAS}",
    )
    return [
        Rule(rf"{own}token_embedding\.weight", ("text_model.embeddings.token_embedding.weight",)),
        Rule(rf"{own}positional_embedding", ("text_model.embeddings.position_embedding.weight",)),
        Rule(rf"{own}ln_final\.{_WEIGHT_OR_BIAS}", (r"text_model.final_layer_norm.\1",)),
        *layers,
    ]


def clip_rules(text_prefix: str) -> tuple[Rule, ...]:
    """The rules of a CLIP; `text_prefix` is `text.` where the text tower is a module of its own."""
    blocks = _layers(
        r"visual\.transformer\.resblocks\.(\d+)\.",
        "vision_model.encoder.layers.",
        _BLOCK,
        rf"attn\.in_proj_{_WEIGHT_OR_BIAS}",
    )
    return (
        Rule(r"visual\.class_embedding", ("vision_model.embeddings.class_embedding",)),
        Rule(r"visual\.conv1\.weight", ("vision_model.embeddings.patch_embedding.weight",)),
        Rule(r"visual\.positional_embedding", ("vision_model.embeddings.position_embedding.weight",)),
        Rule(rf"visual\.ln_pre\.{_WEIGHT_OR_BIAS}", (r"vision_model.pre_layrnorm.\1",)),  # their spelling
        Rule(rf"visual\.ln_post\.{_WEIGHT_OR_BIAS}", (r"vision_model.post_layernorm.\1",)),
        Rule(r"visual\.proj", ("visual_projection.weight",), Tensor.t),
        *blocks,
        *_text_rules(text_prefix),
        Rule(rf"{re.escape(text_prefix)}text_projection", ("text_projection.weight",), Tensor.t),
        Rule(r"logit_scale", ("logit_scale",), _scalar),
    )


def siglip_rules() -> tuple[Rule, ...]:
    """The rules of a SigLIP whose image tower is timm's, with the pool's tensors joined by `join_pool`."""
    trunk, vision = r"visual\.trunk\.", "vision_model."
    blocks = _layers(
        rf"{trunk}blocks\.(\d+)\.", f"{vision}encoder.layers.", _TIMM_BLOCK, rf"attn\.qkv\.{_WEIGHT_OR_BIAS}"
    )
    pool = {"proj": "attention.out_proj", "norm": "layernorm", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    return (
        Rule(rf"{trunk}patch_embed\.proj\.{_WEIGHT_OR_BIAS}", (rf"{vision}embeddings.patch_embedding.\1",)),
        Rule(rf"{trunk}pos_embed", (f"{vision}embeddings.position_embedding.weight",), _first),
        Rule(rf"{trunk}norm\.{_WEIGHT_OR_BIAS}", (rf"{vision}post_layernorm.\1",)),
        *blocks,
        Rule(rf"{trunk}attn_pool\.latent", (f"{vision}head.probe",)),
        Rule(rf"{trunk}attn_pool\.in_proj_{_WEIGHT_OR_BIAS}", (rf"{vision}head.attention.in_proj_\1",)),
        *(
            Rule(rf"{trunk}attn_pool\.{re.escape(theirs)}\.{_WEIGHT_OR_BIAS}", (rf"{vision}head.{ours}.\1",))
            for theirs, ours in pool.items()
        ),
        *_text_rules("text."),
        Rule(rf"text\.text_projection\.{_WEIGHT_OR_BIAS}", (r"text_model.head.\1",)),
        Rule(r"(logit_scale|logit_bias)", (r"\1",), _single),
    )


def _scalar(tensor: Tensor) -> Tensor:
    return tensor.reshape(())


def _single(tensor: Tensor) -> Tensor:
    return tensor.reshape(1)


def _first(tensor: Tensor) -> Tensor:
    return tensor[0]
