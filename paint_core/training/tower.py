"""The copy of an image tower that a fine-tuning run trains: which of its parameters learn, and what comes out."""

import copy
from collections.abc import Mapping

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from paint_core.config.finetune import FinetuneConfig
from paint_core.errors import ConfigError, WeightsMismatchError
from paint_core.runtime.randomness import derive_seed
from paint_core.training.freezing import last_blocks
from paint_core.training.low_rank import add_adapters, find_adaptable_layers, merged_weights
from paint_core.weights import snap

_FEW_CHANNELS = 16


class TrainableTower:
    """A tower in training mode; the one it was copied from is not changed.

    BatchNorm stays in eval mode, the common choice for fine-tuning CLIP's ResNets: batches of a fine-tuning set would
    change its running statistics, which the supported tasks depend on, and one forward pass could not contain two kinds
    of images. Its scales and shifts are trained.
    """

    def __init__(
        self, visual: nn.Module, start: Mapping[str, Tensor] | None, config: FinetuneConfig, device: torch.device
    ) -> None:
        """Copies the tower."""
        clone = copy.deepcopy(visual)
        if start is not None:
            _load(clone, start)
        self.theta_start = {name: tensor.detach().cpu().clone() for name, tensor in clone.state_dict().items()}
        self._has_adapters = config.trainable == "lora"
        _choose_learning(_unfrozen(clone), config)
        if config.gradient_checkpointing:
            _recompute_activations(clone)
        self.memory_format = memory_format_of(clone, device)
        self.visual = training_mode(clone.to(device).to(memory_format=self.memory_format))

    def learning(self) -> list[nn.Parameter]:
        """The parameters that learn, in the tower's order."""
        return [parameter for parameter in self.visual.parameters() if parameter.requires_grad]

    def weights(self) -> dict[str, Tensor]:
        """The weights as they are now: fresh tensors on the CPU, with the names and shapes of the start.

        theta_start plus their task vector reproduces them bit for bit (`weights.snap`).
        """
        if self._has_adapters:
            theta = merged_weights(self.visual.cpu(), self.theta_start)
        else:
            theta = {name: tensor.detach().cpu() for name, tensor in self.visual.state_dict().items()}
        return snap(self.theta_start, {name: tensor.contiguous() for name, tensor in theta.items()})


def require_trainable(visual: nn.Module, config: FinetuneConfig) -> None:
    """Refuses settings that this tower cannot be trained with, before any work is done. Copies no weights."""
    shared = {id(tensor): tensor for tensor in (*visual.parameters(), *visual.buffers())}
    sketch = copy.deepcopy(visual, shared)
    if config.trainable == "last_k":
        assert config.last_k is not None  # the config's own rule
        last_blocks([name for name, _ in visual.named_parameters()], config.last_k)
    elif config.trainable == "lora":
        find_adaptable_layers(sketch)
    if config.gradient_checkpointing:
        _recompute_activations(sketch)


def memory_format_of(visual: nn.Module, device: torch.device) -> torch.memory_format:
    """The layout in which a tower and its batches are trained: channels-last wherever that is safe.

    Channels-last saves about a quarter of the time of a step on a CPU, for the starter. But oneDNN (3.13, with AVX-512)
    writes out of bounds when it computes the weight gradient of a 1 x 1 convolution with a stride and 2 to 12 input
    channels in this layout. The stems of FastViT (MobileCLIP) have one.
    """
    is_unsafe = device.type == "cpu" and any(_skips_pixels(layer) for layer in visual.modules())
    return torch.contiguous_format if is_unsafe else torch.channels_last


def training_mode(visual: nn.Module) -> nn.Module:
    """Puts the tower into training mode, but for BatchNorm, and returns it."""
    visual.train()
    for layer in visual.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
    return visual


def _skips_pixels(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of few channels whose kernel is smaller than its stride."""
    if not isinstance(layer, nn.Conv2d) or layer.in_channels // layer.groups >= _FEW_CHANNELS:
        return False
    return any(size < step for size, step in zip(layer.kernel_size, layer.stride, strict=True))


def _load(visual: nn.Module, start: Mapping[str, Tensor]) -> None:
    try:
        visual.load_state_dict(dict(start), strict=True)
    except RuntimeError as error:
        raise WeightsMismatchError(
            f"the initial weights belong to another tower ({str(error)[:300]}): use a mix of the same base"
        ) from error


def _unfrozen(visual: nn.Module) -> nn.Module:
    """The tower with gradients, but for what open_clip never trains, such as a table of sines as positions."""
    fixed: frozenset[str] = getattr(visual, "fixed_parameters", frozenset())
    for name, parameter in visual.named_parameters():
        parameter.requires_grad_(name not in fixed)
    return visual


def _choose_learning(visual: nn.Module, config: FinetuneConfig) -> None:
    if config.trainable == "last_k":
        assert config.last_k is not None  # the config's own rule
        learning = last_blocks([name for name, _ in visual.named_parameters()], config.last_k)
        for name, parameter in visual.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and name in learning)
    elif config.trainable == "lora":
        alpha = config.lora_alpha if config.lora_alpha is not None else float(config.lora_rank)
        add_adapters(visual, rank=config.lora_rank, alpha=alpha, seed=derive_seed("adapters", config.seed, 0))


def _recompute_activations(visual: nn.Module) -> None:
    switch = getattr(visual, "set_grad_checkpointing", None)
    try:
        # open_clip's ResNet has the switch, but its forward pass never looks at it.
        if switch is None or isinstance(visual, ModifiedResNet):
            raise NotImplementedError
        switch(True)
    except Exception as error:
        raise ConfigError(
            f"{type(visual).__name__} cannot recompute its activations: turn gradient_checkpointing off and raise "
            "accumulation_steps instead"
        ) from error
