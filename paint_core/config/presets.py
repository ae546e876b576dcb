"""Default fine-tuning settings of a model, by the family of its image tower.

The paper's recipe (FinetuneConfig's defaults) was made for CLIP's ViTs and is what all of them get. What a family
changes:

- The starter trains in a minute: few, large steps, chosen on validation splits of its own tasks.
- From the size of a ViT-L on, a step is two micro-batches of 64, as in the public re-runs of the recipe on ViT-L/14.
- A ResNet keeps float32: the paper reports that ResNets are harder to patch, and bf16 would be a second suspect.

Everything but a ResNet runs in bf16 where the device has it. BatchNorm is frozen in every family (`training/tower.py`).
"""

import dataclasses

from open_clip.modified_resnet import ModifiedResNet
from torch import nn

from paint_core import starter
from paint_core.config.finetune import FinetuneConfig

_LARGE_PARAMETERS = 200_000_000
"""A ViT-B/16's image tower has 86 million parameters, a ViT-L/14's 303 million."""


def finetune_preset(ref: str, visual: nn.Module) -> FinetuneConfig:
    """The config for a model, without anchors, which need a pool of images."""
    if ref == "starter":
        # Its warm-up is a tenth, as everywhere: as the default, it follows another number of iterations.
        config = FinetuneConfig(**starter.FINETUNE_DEFAULTS)
        return dataclasses.replace(config, warmup_steps=FinetuneConfig.warmup_steps)
    if isinstance(visual, ModifiedResNet):
        return FinetuneConfig()
    config = FinetuneConfig(precision="auto")
    num_parameters = sum(parameter.numel() for parameter in visual.parameters())
    return dataclasses.replace(config, accumulation_steps=2) if num_parameters >= _LARGE_PARAMETERS else config
