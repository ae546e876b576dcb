"""A version in memory: building it from its base and terms, warming it, checking it against its stored probe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from app.serving.runner import SHAPES, Runner, build_runner
from paint_core.evaluation import check_probe, probe_features, probe_images
from paint_core.models import BaseModel
from pipeline.towers import mix_tower
from registry.blobs import BlobStore
from registry.versions import TermSpec

MAX_BATCH_IMAGES = SHAPES[-1]
_EXACT_MIN_COSINE = 0.999
_ROUNDED_MIN_COSINE = 0.99  # bfloat16 keeps 8 bits: a runner must say the same picture, not the same digits


@dataclass(frozen=True)
class VersionRecipe:
    """What a version is made of, as the registry tells it.

    Attributes:
        version_id: The version.
        base_fingerprint: Its base.
        terms: What is added to the base's image tower.
        probe: Features [N, D] of the probe images when the version was registered.
    """

    version_id: int
    base_fingerprint: str
    terms: tuple[TermSpec, ...]
    probe: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A version that is ready to answer. Never changed: another version is another object.

    Attributes:
        version_id: The version.
        base: Its base; the text tower is shared by all versions of the base.
        visual: Its image tower, on `device`.
        device: Where the tower is.
        scale: The model's own factor on cosines.
        bias: The model's own summand on logits.
    """

    version_id: int
    base: BaseModel
    visual: nn.Module
    device: torch.device
    scale: float
    bias: float

    @cached_property
    def runner(self) -> Runner:
        """What runs the tower on its device, made when it is first asked for: before the model serves, if it must."""
        return build_runner(self.visual, self.base.visual, self.base.preprocess, self.device)

    def encode(self, images: Tensor) -> Tensor:
        """Return the unit features of uint8 images [B, S, S, 3] as float32 [B, D]; not while the model is served."""
        parts = []
        for part in torch.split(images, MAX_BATCH_IMAGES):
            staged = self.runner.stage(len(part))
            staged.copy_(part)
            parts.append(self.runner.submit(staged)())
        return torch.from_numpy(np.concatenate(parts))


def own_bytes(model: ServedModel) -> int:
    """Return the memory that the version takes and shares with no other version of its base: tower and runner."""
    shared = {tensor.untyped_storage().data_ptr() for tensor in _tensors(model.base.model)}
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in _tensors(model.visual)}
    return model.runner.num_bytes + sum(size for address, size in storages.items() if address not in shared)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def build_served_model(
    recipe: VersionRecipe, base: BaseModel, blobs: BlobStore, yield_cpu: Callable[[], object] = int
) -> ServedModel:
    """Return the version, mixed, warm and proven to give the features that it gave when it was registered.

    Args:
        recipe: What to build.
        base: The base of that fingerprint.
        blobs: Holds the task vectors.
        yield_cpu: Called every few milliseconds of work; may wait.

    Returns:
        A model that may be served at once.
    """
    assert base.fingerprint == recipe.base_fingerprint
    visual = mix_tower(base, recipe.terms, blobs, yield_cpu)
    yield_cpu()
    model = ServedModel(recipe.version_id, base, visual, base.device, base.logit_scale, base.logit_bias)
    expected = torch.tensor(recipe.probe)
    if not model.runner.is_exact:
        check_probe(probe_features(visual, base), expected)
    yield_cpu()
    # What runs is checked; it is traced or captured here, so that no request waits for that.
    features = model.encode(probe_images(base.image_size))
    check_probe(features, expected, _EXACT_MIN_COSINE if model.runner.is_exact else _ROUNDED_MIN_COSINE)
    yield_cpu()
    return model
