"""BatchNorm after mixing: the running statistics of a mix fit none of its ends.

Running means and variances are floating buffers, so they are in a task vector and are mixed like weights. Yet what a
mixed layer puts out is not the mix of what its ends put out, so where a task vector moves the statistics they are wrong
in between: features of too little variance (REPAIR, Jordan et al., ICLR 2023, arXiv 2211.08403). The remedy is to
measure them again on images (Izmailov et al., UAI 2018, arXiv 1803.05407, section 3.2).

Fine-tuning here keeps BatchNorm's statistics still: its task vectors are zero there, and theta_0's statistics serve the
whole path. Weights that were fine-tuned elsewhere usually do move them.
"""

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from paint_core.errors import BatchNormError, EmptySplitError
from paint_core.images.preprocess import Preprocess

_STATISTICS = ("running_mean", "running_var")
_SHUFFLE_SEED = 0


def moved_statistics(module: nn.Module, tau: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The sorted names of the running statistics that a task vector changes; none if mixing needs no new statistics."""
    names = {f"{prefix}.{statistic}".lstrip(".") for prefix, _ in _layers(module) for statistic in _STATISTICS}
    return tuple(sorted(name for name in names if name in tau and bool(tau[name].any())))


def require_still_statistics(module: nn.Module, tau: Mapping[str, Tensor]) -> None:
    """Refuses a task vector that changes running statistics; those of our own fine-tuning do not.

    Raises:
        BatchNormError: names the first of the moved statistics.
    """
    if moved := moved_statistics(module, tau):
        raise BatchNormError(
            f"the task vector moves {len(moved)} running statistics of BatchNorm, first {moved[0]!r}: measure them on "
            "training images with reestimate_batch_norm after mixing, or fine-tune with BatchNorm in eval mode"
        )


def reestimate_batch_norm(
    visual: nn.Module,
    images: Tensor,
    preprocess: Preprocess,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 128,
) -> dict[str, Tensor]:
    """The running statistics of the tower on these images, to replace those of a mix.

    The mean over batches, shuffled with a fixed seed so that a sorted data set does not give batches of one class.
    `visual.load_state_dict(statistics, strict=False)` writes them into a tower; `weights | statistics` into a mix.

    Args:
        visual: the mixed tower; not changed.
        images: uint8 [N, S, S, 3], N >= 1; training images of the patching and the supported tasks, never those that
            are evaluated.
        preprocess: the model's.
        device: where to compute.
        batch_size: images at a time, >= 1; the batches are made nearly equal.

    Returns:
        Float tensors on the CPU, one mean and one variance for each BatchNorm layer; none if there is no such layer.

    Raises:
        EmptySplitError: there are no images.
    """
    if not len(images):
        raise EmptySplitError("there are no images to measure BatchNorm's statistics on: give training images")
    tower = copy.deepcopy(visual).to(device).eval()
    layers = dict(_layers(tower))
    for layer in layers.values():
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all batches
        layer.train()
    if layers:
        _run(tower, images, preprocess, torch.device(device), batch_size)
    return {
        f"{prefix}.{statistic}".lstrip("."): getattr(layer, statistic).cpu()
        for prefix, layer in layers.items()
        for statistic in _STATISTICS
    }


def _run(tower: nn.Module, images: Tensor, preprocess: Preprocess, device: torch.device, batch_size: int) -> None:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(_SHUFFLE_SEED))
    num_batches = -(-len(images) // batch_size)
    with torch.no_grad():
        for indices in order.tensor_split(num_batches):
            tower(preprocess.normalise(images[indices], device))


def _layers(module: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    for prefix, layer in module.named_modules():
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None:
            yield prefix, layer
