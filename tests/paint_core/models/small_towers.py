"""Small towers of timm's own classes, under names that timm and open_clip then know: `small_siglip` and so on.

The published towers of these families have 20 to 90 million weights, which makes a walk through them take many minutes.
"""

from collections.abc import Callable
from typing import Any

from timm.models import (
    eva,
    fastvit,
    register_model,
    swin_transformer,
    vision_transformer,
    vision_transformer_hybrid,
    vitamin,
)
from torch import nn

_VIT = {"img_size": 64, "embed_dim": 64, "depth": 2, "num_heads": 4}


def _register(name: str, published: Callable[..., nn.Module], **smaller: Any) -> None:
    def build(pretrained: bool = False, **options: Any) -> nn.Module:
        return published(pretrained, **{**smaller, **options})

    build.__name__ = name
    register_model(build)


def _vitamin(pretrained: bool = False, **options: Any) -> nn.Module:
    stages = vitamin.VitCfg(
        embed_dim=(16, 32, 64),
        depths=(1, 1, 1),
        stem_width=16,
        conv_cfg=vitamin.VitConvCfg(norm_layer="layernorm2d", norm_eps=1e-6),
        head_type="1d",
    )
    tower: nn.Module = vitamin.vitamin_small_224(pretrained, embed_cfg=stages, **options)
    return tower


def _mobileclip_b(pretrained: bool = False, **options: Any) -> nn.Module:
    stem = vision_transformer_hybrid.ConvStem(
        channels=(16, 16, 64), stride=(4, 2, 2), kernel_size=(4, 2, 2), padding=0, act_layer=nn.GELU
    )
    hybrid: Callable[..., nn.Module] = vision_transformer_hybrid._create_vision_transformer_hybrid
    return hybrid(
        "vit_base_mci_224", stem, embed_args={"proj": False}, pretrained=pretrained, no_embed_class=True, **options
    )


_register("small_eva", eva.eva02_tiny_patch14_224, **{**_VIT, "img_size": 56})
_register("small_pe", eva.vit_pe_core_tiny_patch16_384, **_VIT, attn_pool_num_heads=4)
_register("small_siglip", vision_transformer.vit_base_patch16_siglip_224, **_VIT)
_register("small_gap", vision_transformer.vit_medium_patch16_gap_256, **_VIT)
_register("small_vitamin", _vitamin, **_VIT)
_register("small_mobileclip_b", _mobileclip_b, **_VIT)
_register("small_fastvit", fastvit.fastvit_mci0, layers=(1, 1, 1, 1), embed_dims=(16, 32, 64, 128))
_register(
    "small_swin",
    swin_transformer.swin_tiny_patch4_window7_224,
    img_size=64,
    embed_dim=24,
    depths=(1, 1, 2, 1),
    num_heads=(1, 2, 2, 4),
    window_size=4,
)
