"""Low-rank fine-tuning: a weight matrix learns a product B A of small rank on top of itself (LoRA, arXiv 2106.09685).

The adapters are `peft`'s, and are merged at the end, so that theta_1 has theta_0's names and shapes.

`peft` adds its update to an `nn.MultiheadAttention` before each forward pass and subtracts it afterwards, which moves
the frozen weights by rounding. So attention is written as two linear layers first, on the same weights.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor, nn

from paint_core.errors import ConfigError

_ADAPTER = "default"


def add_adapters(visual: nn.Module, *, rank: int, alpha: float, seed: int) -> None:
    """Adds adapters to linear layers, 1 x 1 convolutions and attention; nothing else is trained afterwards.

    Args:
        visual: the tower, on the CPU; changed in place.
        alpha: the updates are multiplied by alpha / rank.
    """
    peft = _peft()
    targets = find_adaptable_layers(visual)
    visual.requires_grad_(False)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, visual, adapter_name=_ADAPTER)


def find_adaptable_layers(visual: nn.Module) -> list[str]:
    """The names of the layers that can have an adapter; rewrites the tower's attention as linear layers in place.

    Raises:
        ConfigError: the tower has no such layer.
    """
    _split_attention(visual)
    names = [name for name, layer in _reachable_layers(visual) if _takes_adapter(layer)]
    if not names:
        raise ConfigError("the image tower has no layer for low-rank updates: use trainable 'all'")
    return names


def merged_weights(visual: nn.Module, theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the adapters' products added, under the names from before."""
    merged = {name: tensor.detach().clone() for name, tensor in theta.items()}
    for path, layer in visual.named_modules():
        if hasattr(layer, "get_delta_weight"):
            name = f"{path}.weight" if f"{path}.weight" in merged else f"{path}_weight"
            merged[name] += layer.get_delta_weight(_ADAPTER).detach().to(merged[name])
    return merged


class _SplitAttention(nn.Module):
    """What `nn.MultiheadAttention` computes, from linear layers that share its weights; no attention weights."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.batch_first = attention.num_heads, attention.batch_first
        self.dropout = attention.dropout
        self.in_proj = nn.Linear(attention.embed_dim, 3 * attention.embed_dim)
        self.in_proj.weight, self.in_proj.bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj = nn.Linear(attention.embed_dim, attention.embed_dim)
        self.out_proj.weight, self.out_proj.bias = attention.out_proj.weight, attention.out_proj.bias

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, None]:
        if not self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        if query is key is value:
            projected = self.in_proj(query).chunk(3, dim=-1)
        else:
            projected = tuple(self.in_proj(each).chunk(3, dim=-1)[i] for i, each in enumerate((query, key, value)))
        q, k, v = (each.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for each in projected)
        rate = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, dropout_p=rate)
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return (output if self.batch_first else output.transpose(0, 1)), None


def _split_attention(visual: nn.Module) -> None:
    for parent in list(visual.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MultiheadAttention) and child.in_proj_weight is not None:
                setattr(parent, name, _SplitAttention(child))


def _reachable_layers(visual: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers whose own forward runs; some poolings read the weights of theirs, past any adapter."""
    readers = (AttentionPool2d, nn.MultiheadAttention)
    hidden = {id(child) for reader in visual.modules() if isinstance(reader, readers) for child in reader.children()}
    return ((name, layer) for name, layer in visual.named_modules() if id(layer) not in hidden)


def _takes_adapter(layer: nn.Module) -> bool:
    pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
    return pointwise or isinstance(layer, nn.Linear)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            "trainable 'lora' needs the package `peft`: install `paintbox[lora]`, or use trainable 'all' or 'last_k'"
        ) from error
    return peft
