import functools
import json
from typing import Any

import open_clip
import pytest
import torch

from paint_core.errors import ConfigError, ProfileError
from paint_core.models import BaseModel
from paint_core.weights.profiles import PROFILES, block_of, depth_factors

TEXT = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}


def names_of(vision: dict[str, Any]) -> list[str]:
    """The names in a real image tower of open_clip; no weights are made."""
    return list(_names_of(json.dumps(vision)))


@functools.cache
def _names_of(vision: str) -> tuple[str, ...]:
    with torch.device("meta"):
        tower = open_clip.CLIP(embed_dim=16, vision_cfg=json.loads(vision), text_cfg=TEXT).visual
    return tuple(tower.state_dict())


def timm(name: str, **more: object) -> dict[str, object]:
    return {"timm_model_name": name, "timm_model_pretrained": False, "timm_proj": "linear", "image_size": 64, **more}


def vit(layers: int) -> dict[str, object]:
    return {"image_size": 32, "layers": layers, "width": 32, "head_width": 16, "patch_size": 16}


RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
TOWERS = {
    "vit": (vit(3), 3),
    "vit with pooling by attention": (vit(2) | {"attentional_pool": True, "attn_pooler_heads": 2}, 2),
    "timm vit": (timm("vit_tiny_patch16_224", timm_pool=""), 12),
    "eva": (timm("eva02_tiny_patch14_224", timm_pool="token", image_size=224), 12),
    "siglip": (timm("vit_base_patch16_siglip_224", timm_proj="none", image_size=224), 12),
    "convnext": (timm("convnext_atto", timm_pool="avg"), 12),
}


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("profile", PROFILES)
def test_every_parameter_has_a_factor_between_zero_and_one(tower: str, profile: str) -> None:
    names = names_of(TOWERS[tower][0])
    factors = depth_factors(names, profile)
    assert list(factors) == names
    assert all(0 <= factor <= 1 for factor in factors.values())


@pytest.mark.parametrize("tower", TOWERS)
def test_lines_takes_each_step_from_stem_to_end_once(tower: str) -> None:
    vision, num_blocks = TOWERS[tower]
    names = names_of(vision)
    factors, blocks = depth_factors(names, "lines"), block_of(names)
    assert labels(names) == ["stem", *(f"block {index + 1}" for index in range(num_blocks)), "final"]
    steps = dict.fromkeys((blocks[name], factors[name]) for name in blocks)  # a block with two factors counts twice
    assert [factor for _, factor in steps] == [index / (num_blocks + 1) for index in range(num_blocks + 2)]


def labels(names: list[str]) -> list[str]:
    return list(dict.fromkeys(block_of(names).values()))


@pytest.mark.parametrize(
    ("tower", "name", "depth"),
    [
        ("vit", "class_embedding", 0),
        ("vit", "conv1.weight", 0),
        ("vit", "ln_pre.bias", 0),
        ("vit", "transformer.resblocks.0.ln_1.weight", 1 / 4),
        ("vit", "transformer.resblocks.2.mlp.c_proj.bias", 3 / 4),
        ("vit", "ln_post.weight", 1),
        ("vit", "proj", 1),
        ("timm vit", "trunk.pos_embed", 0),
        ("timm vit", "trunk.patch_embed.proj.weight", 0),
        ("timm vit", "trunk.blocks.10.attn.qkv.weight", 11 / 13),  # by number, not by letter: after block 2
        ("timm vit", "trunk.norm.bias", 1),
        ("timm vit", "head.proj.weight", 1),
        ("convnext", "trunk.stem.0.weight", 0),
        ("convnext", "trunk.stages.0.blocks.0.gamma", 1 / 13),
        ("convnext", "trunk.stages.1.downsample.1.weight", 3 / 13),
        ("convnext", "trunk.stages.1.blocks.0.conv_dw.weight", 3 / 13),
        ("convnext", "trunk.stages.3.blocks.1.mlp.fc2.weight", 12 / 13),
        ("convnext", "trunk.head.norm.weight", 1),
        ("convnext", "head.proj.weight", 1),
    ],
)
def test_the_depth_of_a_parameter_is_where_it_acts(tower: str, name: str, depth: float) -> None:
    assert depth_factors(names_of(TOWERS[tower][0]), "lines")[name] == pytest.approx(depth)


def published(name: str, a: float, b: float, num_blocks: int) -> float:
    """The coefficient that the authors' code gives a tensor of a ViT (wang-kee/LiNeS, src/eval/eval.py)."""
    if "transformer.resblocks." not in name:
        return a
    return a + b * int(name.split(".")[2]) / (num_blocks - 1)


@pytest.mark.parametrize(("a", "b"), [(0.0, 1.0), (0.0, 0.6), (0.3, 0.7), (1.0, 0.0)])
def test_lines_as_published_is_a_sum_of_flat_and_lines_paper(a: float, b: float) -> None:
    names = names_of(vit(3))
    flat, steep = depth_factors(names, "flat"), depth_factors(names, "lines_paper")
    for name in names:
        assert a * flat[name] + b * steep[name] == pytest.approx(published(name, a, b, 3))


@pytest.mark.parametrize("tower", TOWERS)
def test_lines_paper_rises_from_the_first_block_to_the_last_and_leaves_the_rest(tower: str) -> None:
    vision, num_blocks = TOWERS[tower]
    names = names_of(vision)
    factors, blocks = depth_factors(names, "lines_paper"), block_of(names)
    steps = dict.fromkeys((blocks[name], factors[name]) for name in blocks)
    rising = [(f"block {index + 1}", index / (num_blocks - 1)) for index in range(num_blocks)]
    assert list(steps) == [("stem", 0.0), *rising, ("final", 0.0)]


def test_the_only_block_of_a_tower_moves_fully() -> None:
    factors = depth_factors(names_of(vit(1)), "lines_paper")
    assert {factor for name, factor in factors.items() if "resblocks" in name} == {1.0}
    assert {factor for name, factor in factors.items() if "resblocks" not in name} == {0.0}


def test_without_the_layers_after_the_blocks_the_last_block_is_not_taken_for_them() -> None:
    names = [name for name in names_of(vit(3)) if name.startswith("transformer")]
    assert max(depth_factors(names, "lines").values()) == 3 / 4
    assert labels(names) == ["block 1", "block 2", "block 3"]


def test_the_order_of_the_names_does_not_matter() -> None:
    names = names_of(TOWERS["convnext"][0])
    assert depth_factors(names[::-1], "lines") == depth_factors(names, "lines")


@pytest.mark.parametrize(
    "vision",
    [RESNET, timm("fastvit_mci0", timm_pool="avg"), timm("vitamin_small_224", timm_pool="", image_size=224)],
    ids=["resnet", "fastvit", "vitamin"],
)
def test_lines_is_refused_for_other_towers_but_flat_is_not(vision: dict[str, object]) -> None:
    names = names_of(vision)
    for profile in ("lines", "lines_paper"):
        with pytest.raises(ProfileError, match=names[0]):
            depth_factors(names, profile)
    assert set(depth_factors(names, "flat").values()) == {1.0}
    assert len(set(block_of(names).values())) > 1


def test_a_parameter_of_unknown_place_is_refused_not_guessed() -> None:
    with pytest.raises(ProfileError):
        depth_factors([*names_of(vit(2)), "adapter.weight"], "lines")


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'flat', 'lines'"):
        depth_factors([], "steep")


def test_the_starter_has_a_profile(starter_base: BaseModel) -> None:
    assert len(set(depth_factors(starter_base.visual.state_dict(), "lines").values())) > 3
