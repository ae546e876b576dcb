from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor, nn

from paint_core.errors import BatchNormError, EmptySplitError
from paint_core.models import BaseModel, load_base
from paint_core.models.batch_norm import moved_statistics, reestimate_batch_norm, require_still_statistics
from paint_core.weights import Term, mix, task_vector
from tests.paint_core import tiny

RESNET_CFG: dict[str, Any] = tiny.MODEL_CFG | {
    "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
}


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = {name: tensor.clone() for name, tensor in open_clip.CLIP(**RESNET_CFG).state_dict().items()}
    folder = tiny.write_model(tmp_path_factory.mktemp("models") / "resnet", weights)
    tiny.write_config(Path(folder), RESNET_CFG)
    return load_base(f"local-dir:{folder}")


def pictures(num_images: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num_images, 32, 32, 3), generator=generator, dtype=torch.uint8)


def moments(visual: nn.Module, layer: str, images: Tensor, base: BaseModel) -> tuple[Tensor, Tensor]:
    """The mean and variance of what reaches a BatchNorm layer, per channel, with all the images as one batch."""
    seen: list[Tensor] = []
    handle = visual.get_submodule(layer).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    visual.train()
    with torch.no_grad():
        visual(base.preprocess.normalise(images))
    handle.remove()
    flat = seen[0].transpose(0, 1).flatten(1).double()
    return flat.mean(dim=1), flat.var(dim=1)


def loaded(weights: Mapping[str, Tensor]) -> nn.Module:
    visual: nn.Module = open_clip.CLIP(**RESNET_CFG).visual
    visual.load_state_dict(dict(weights))
    return visual


def moved_mix(base: BaseModel) -> dict[str, Tensor]:
    """A mix with a task vector of weights that were fine-tuned elsewhere, statistics and all."""
    theta_0 = base.visual.state_dict()
    generator = torch.Generator().manual_seed(1)
    tau = {
        name: 0.3 * torch.rand(tensor.shape, generator=generator)
        for name, tensor in theta_0.items()
        if tensor.is_floating_point()
    }
    return mix(theta_0, [Term(tau, 0.5)])


def test_statistics_are_in_the_task_vector_and_counters_are_not(resnet: BaseModel) -> None:
    theta_0 = resnet.visual.state_dict()
    tau = task_vector(theta_0, theta_0 | {"bn2.running_var": theta_0["bn2.running_var"] + 1})
    assert "bn2.running_var" in tau
    assert "bn2.num_batches_tracked" not in tau
    assert moved_statistics(resnet.visual, tau) == ("bn2.running_var",)
    with pytest.raises(BatchNormError, match=r"bn2\.running_var"):
        require_still_statistics(resnet.visual, tau)


def test_weights_that_keep_the_statistics_are_not_refused(resnet: BaseModel) -> None:
    theta_0 = resnet.visual.state_dict()
    tau = task_vector(theta_0, theta_0 | {"bn2.weight": theta_0["bn2.weight"] + 1})
    assert moved_statistics(resnet.visual, tau) == ()
    require_still_statistics(resnet.visual, tau)


@pytest.mark.parametrize("layer", ["bn1", "layer1.0.bn2", "layer4.0.downsample.1"])
def test_one_batch_gives_the_moments_of_what_reaches_the_layer(resnet: BaseModel, layer: str) -> None:
    visual, images = loaded(moved_mix(resnet)), pictures(12)
    statistics = reestimate_batch_norm(visual, images, resnet.preprocess, batch_size=12)
    mean, variance = moments(visual, layer, images, resnet)
    torch.testing.assert_close(statistics[f"{layer}.running_mean"].double(), mean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(statistics[f"{layer}.running_var"].double(), variance, rtol=1e-3, atol=1e-4)


def test_several_batches_weigh_alike_whatever_the_layers_momentum(resnet: BaseModel) -> None:
    visual, images = loaded(moved_mix(resnet)), pictures(20)
    whole = reestimate_batch_norm(visual, images, resnet.preprocess, batch_size=20)
    parts = reestimate_batch_norm(visual, images, resnet.preprocess, batch_size=8)
    # The first layer's input does not depend on how images are batched, so its mean over batches is the mean.
    torch.testing.assert_close(parts["bn1.running_mean"], whole["bn1.running_mean"], rtol=0.05, atol=0.01)
    bn1 = visual.get_submodule("bn1")
    assert isinstance(bn1, nn.BatchNorm2d)
    bn1.momentum = 0.9
    assert torch.equal(
        reestimate_batch_norm(visual, images, resnet.preprocess, batch_size=8)["bn1.running_mean"],
        parts["bn1.running_mean"],
    )


def test_images_sorted_by_class_give_the_statistics_of_all(resnet: BaseModel) -> None:
    dark, bright = pictures(32) // 8, 255 - pictures(32, seed=1) // 8
    images = torch.cat([dark, bright])
    whole = reestimate_batch_norm(resnet.visual, images, resnet.preprocess, batch_size=64)
    halves = reestimate_batch_norm(resnet.visual, images, resnet.preprocess, batch_size=32)
    ratio = halves["bn1.running_var"] / whole["bn1.running_var"]
    assert bool((ratio > 0.5).all())  # batches of one brightness would see next to no variance


def test_new_statistics_bring_a_mixs_activations_back_to_scale(resnet: BaseModel) -> None:
    weights, images = moved_mix(resnet), pictures(32)
    statistics = reestimate_batch_norm(loaded(weights), images, resnet.preprocess)
    theta = weights | statistics
    assert variance_error(resnet, theta, images) < 0.05 < 0.2 < variance_error(resnet, weights, images)


def variance_error(base: BaseModel, theta: Mapping[str, Tensor], images: Tensor) -> float:
    """How far a layer's normalised output is from variance 1, in the worst channel."""
    visual = loaded(theta).eval()
    seen: list[Tensor] = []  # cloned, because the ReLU that follows works in place
    visual.get_submodule("layer1.0.bn1").register_forward_hook(lambda *call: seen.append(call[-1].clone()))
    with torch.no_grad():
        visual(base.preprocess.normalise(images))
    normalised = seen[0].transpose(0, 1).flatten(1) / theta["layer1.0.bn1.weight"][:, None]
    return (normalised.var(dim=1) - 1).abs().max().item()


def test_the_tower_and_its_mode_are_left_alone(resnet: BaseModel) -> None:
    visual = loaded(resnet.visual.state_dict()).eval()
    before = {name: tensor.clone() for name, tensor in visual.state_dict().items()}
    statistics = reestimate_batch_norm(visual, pictures(4), resnet.preprocess)
    assert all(torch.equal(tensor, before[name]) for name, tensor in visual.state_dict().items())
    assert not any(module.training for module in visual.modules())
    assert set(statistics) == {name for name in before if "running" in name}


def test_towers_without_batch_norm_have_no_statistics(tiny_base: BaseModel) -> None:
    assert reestimate_batch_norm(tiny_base.visual, pictures(2), tiny_base.preprocess) == {}


def test_without_images_nothing_can_be_measured(resnet: BaseModel) -> None:
    with pytest.raises(EmptySplitError, match="training images"):
        reestimate_batch_norm(resnet.visual, pictures(0), resnet.preprocess)
