"""A version in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn

from app.models.runner import TowerRunner, build_runner
from app.serving.model import MAX_BATCH_IMAGES
from app.serving.request import Correction
from contract.routing import NameAccuracy
from paint_core.config.precision import ServingPrecision, WantedPrecision
from paint_core.models import BaseModel
from paint_core.programs import Program
from pipeline.heads import Heads


@dataclass(frozen=True)
class ServedPrecision:
    """What a tower computes in.

    Attributes:
        precision: Of its matrices.
        reason: Why it is not in the one that was asked for; empty: it is.
    """

    precision: ServingPrecision = "fp32"
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Routing:
    """Which names a version was patched on, and what answers for others.

    Attributes:
        names: Accuracies by name.
        base: The unpatched base.
    """

    names: Mapping[str, NameAccuracy]
    base: ServedModel


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A version that can answer. It is never changed: another version is another object.

    Attributes:
        version_id: The version.
        base: Its base.
        visual: Its image tower, on the device of the base.
        routing: If it routes by labels; None: it answers every list itself.
        heads: Its head terms, on the CPU; None: it has none.
        precision: What its tower computes in, and why not in the one that was asked for.
        program: Of its base's tower; None: PyTorch runs it.
        num_cores: CPU cores that a long forward pass may take.
        wanted: The precision that was chosen for it; None: the installation's.
    """

    version_id: int
    base: BaseModel
    visual: nn.Module
    routing: Routing | None = None
    heads: Heads | None = None
    precision: ServedPrecision = ServedPrecision()
    program: Program | None = None
    num_cores: int = 1
    wanted: WantedPrecision | None = None

    def correction(self, classnames: tuple[str, ...]) -> Correction | None:
        """Return what head terms make of features and cosines of these labels; None: they do not concern them."""
        if self.heads is None or not self.heads.concern(classnames):
            return None
        return partial(self.heads.correct_cosines, classnames=classnames)

    @cached_property
    def runner(self) -> TowerRunner:
        """What runs the tower; built when first used, which must be before the model serves."""
        return build_runner(self.visual, self.base, self.precision.precision, self.program, self.num_cores)

    @cached_property
    def own_bytes(self) -> int:
        """The memory of tower and runner that no other version of the base shares."""
        shared = {tensor.untyped_storage().data_ptr() for tensor in _tensors(self.base.model)}
        storages = {
            each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in _tensors(self.visual)
        }
        routed = self.routing.base.own_bytes if self.routing else 0
        corrections = self.heads.num_bytes if self.heads else 0
        return (
            self.runner.num_bytes
            + routed
            + corrections
            + sum(size for address, size in storages.items() if address not in shared)
        )

    def encode(self, images: Tensor) -> Tensor:
        """Return the unit features of uint8 images [B, S, S, 3] as float32 [B, D]; not while the model serves."""
        parts = []
        for part in torch.split(images, MAX_BATCH_IMAGES):
            staged = self.runner.stage(len(part))
            staged.copy_(part)
            parts.append(self.runner.submit(staged)())
        return torch.from_numpy(np.concatenate(parts))


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
