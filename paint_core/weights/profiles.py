"""Profiles: how the coefficient of a task vector varies with the depth of a parameter in the image tower.

`flat` is one number for all (PAINT, arXiv 2208.05592). The others grow linearly with depth: shallow layers hold what
all tasks share, so they stay near theta_0, and deep layers hold what the patching task needs.

`lines_paper` is LiNeS as published (Wang et al., ICLR 2025, arXiv 2410.17146, section 4, and the authors' code): block
l = 0..L-1 gets a + b l / (L - 1), and every parameter outside the blocks gets a, the smallest. The profile is the
published assignment at a = 0 and b = 1, so a term's coefficient is b. The authors' other mode, b = 1 - a, is a sum of
two terms of one task vector: a times `flat` and 1 - a times `lines_paper` (decision 45).

`lines` is Paintbox's own variant, from before `lines_paper`: 0 in the stem, l / (L + 1) in block l = 1..L, and 1, the
largest, after the blocks. It stays for the versions that are stored with it.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from paint_core.errors import ConfigError, ProfileError

PROFILES = ("flat", "lines", "lines_paper")
STEM, FINAL = "stem", "final"


@dataclass(frozen=True)
class _Family:
    """Where the parameters of one kind of image tower lie; prefixes are regular expressions from the name's start."""

    is_one: Callable[[Sequence[str]], bool]
    stem: re.Pattern[str]
    block: re.Pattern[str]
    final: re.Pattern[str]


def _any_starts(prefix: str) -> Callable[[Sequence[str]], bool]:
    return lambda names: any(name.startswith(prefix) for name in names)


_FAMILIES = (
    _Family(  # the VisionTransformer of open_clip
        _any_starts("transformer.resblocks."),
        stem=re.compile(r"(class_embedding|positional_embedding)$|(conv1|ln_pre)\."),
        block=re.compile(r"transformer\.resblocks\.(\d+)\."),
        final=re.compile(r"proj$|(ln_post|attn_pool|attn_pool_contrastive)\."),
    ),
    _Family(  # the VisionTransformer of timm, EVA and PE among them, in open_clip's wrapper
        _any_starts("trunk.blocks."),
        # Not `patch_embed.backbone`: that is a whole convolutional network before the blocks.
        stem=re.compile(r"trunk\.((cls_token|reg_token|pos_embed)$|patch_embed\.proj\.|norm_pre\.)"),
        block=re.compile(r"trunk\.blocks\.(\d+)\."),
        final=re.compile(r"trunk\.(norm|fc_norm|attn_pool|head)\.|head\."),
    ),
    _Family(  # the ConvNeXt of timm in open_clip's wrapper; FastViT has stages too, but no `conv_dw`
        lambda names: any(re.match(r"trunk\.stages\.\d+\.blocks\.\d+\.conv_dw\.", name) for name in names),
        stem=re.compile(r"trunk\.stem\."),
        block=re.compile(r"trunk\.stages\.(\d+)\.(?:blocks\.(\d+)|downsample)\."),
        final=re.compile(r"trunk\.(norm_pre|head)\.|head\."),
    ),
)


def depth_factors(names: Iterable[str], profile: str) -> dict[str, float]:
    """The factor of each parameter under a profile, to be multiplied by a term's coefficient.

    `flat` is 1 everywhere. `lines` is 0 in the stem, l / (L + 1) in block l of L, and 1 after the blocks. `lines_paper`
    is (l - 1) / (L - 1) in block l of L, 1 in the block of a tower with one, and 0 outside the blocks.

    Args:
        names: of the image tower's parameters, as in `visual.state_dict()`; all of them, because they are counted.
        profile: one of `PROFILES`.

    Returns:
        A factor in [0, 1] for every name, in the order given.

    Raises:
        ProfileError: a profile by depth for a tower other than a ViT or a ConvNeXt.
    """
    require_profile(profile)
    names = list(names)
    if profile == "flat":
        return dict.fromkeys(names, 1.0)
    depths, num_blocks = _depths(names)
    if names and not depths:
        raise ProfileError(
            f"the profile {profile!r} is defined for the ViT and ConvNeXt towers of open_clip and timm, not for one "
            f"with {names[:3]}: use 'flat'"
        )
    if profile == "lines_paper":
        return {name: _published(depth, num_blocks) for name, depth in depths.items()}
    return {name: depth / (num_blocks + 1) for name, depth in depths.items()}


def block_of(names: Iterable[str]) -> dict[str, str]:
    """The block that each parameter belongs to, in the order of depth.

    Returns:
        Name to `stem`, `block 1` to `block L`, or `final`. Of other towers than a ViT or a ConvNeXt: name to its first
        part (`layer1`, say), in the order given.
    """
    names = list(names)
    depths, num_blocks = _depths(names)
    if not depths:
        return {name: name.split(".")[0] for name in names}
    labels = {0: STEM, num_blocks + 1: FINAL}
    ordered = sorted(names, key=lambda name: depths[name])
    return {name: labels.get(depths[name], f"block {depths[name]}") for name in ordered}


def require_profile(profile: str) -> None:
    """Refuses an unknown profile.

    Raises:
        ConfigError: it is not one of `PROFILES`.
    """
    if profile not in PROFILES:
        raise ConfigError(f"unknown profile {profile!r}: use one of {', '.join(map(repr, PROFILES))}")


def _published(depth: int, num_blocks: int) -> float:
    """The factor of LiNeS with a = 0 and b = 1 at a depth as `_depths` counts it."""
    if not 1 <= depth <= num_blocks:
        return 0.0
    return 1.0 if num_blocks == 1 else (depth - 1) / (num_blocks - 1)


def _depths(names: Sequence[str]) -> tuple[dict[str, int], int]:
    """The depth of every name (0 in the stem, l in block l of L, L + 1 after the blocks), and L; none of others."""
    family = next((family for family in _FAMILIES if family.is_one(names)), None)
    if family is None:
        return {}, 0
    blocks = {name: _position(match) for name in names if (match := family.block.match(name))}
    order = {position: depth for depth, position in enumerate(sorted(set(blocks.values())), start=1)}
    depths: dict[str, int] = {}
    for name in names:
        if name in blocks:
            depths[name] = order[blocks[name]]
        elif family.stem.match(name):
            depths[name] = 0
        elif family.final.match(name):
            depths[name] = len(order) + 1
        else:  # a guess could leave a layer of the input at full strength
            return {}, 0
    return depths, len(order)


def _position(match: re.Match[str]) -> tuple[int, ...]:
    """Where a block stands; a stage's `downsample` comes before its blocks and counts as the first of them."""
    return tuple(int(group or 0) for group in match.groups())
