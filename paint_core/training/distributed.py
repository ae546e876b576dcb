"""One fine-tuning run in several processes: each computes its share of every batch, and all take the same step.

The caller starts the processes (`torchrun`) and initialises `torch.distributed`; without that, a run is alone. The
global batch, with its crops, is the one that a single process would draw, so the loss is the same up to rounding.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from paint_core.errors import ConfigError


@dataclass(frozen=True)
class World:
    """The processes of one run.

    Attributes:
        rank: this one's number, 0..size-1; rank 0 reports and makes checkpoints.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "World":
        """The initialised process group, or this process alone."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, count: int, what: str, pieces: int = 1) -> slice:
        """This process's part of a global batch; the slices of all ranks are disjoint and of one length.

        Args:
            pieces: micro-batches into which the part is divided.

        Raises:
            ConfigError: the processes cannot share the batch evenly.
        """
        unit = self.size * pieces
        if count % unit:
            raise ConfigError(
                f"{what} {count} cannot be shared by {self.size} processes in {pieces} micro-batches each: make it a "
                f"multiple of {unit}"
            )
        own = count // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def wrap(self, module: nn.Module, loss: Callable[[], Tensor], device: torch.device) -> nn.Module:
        """The module, whose backward pass averages gradients over the processes.

        Args:
            module: the trained module; parameters that the loss does not reach are frozen, because averaging waits for
                every gradient.
        """
        if self.size == 1:
            return module
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            loss().backward()  # type: ignore[no-untyped-call]
        for parameter in module.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        return DistributedDataParallel(
            module, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
        )

    def averaging(self, module: nn.Module, now: bool) -> AbstractContextManager[None]:
        """The context of one micro-batch: gradients are averaged with the last one only."""
        return nullcontext() if now or not isinstance(module, DistributedDataParallel) else module.no_sync()

    def mean(self, values: Tensor) -> Tensor:
        """The mean of the ranks' values, the same on every rank; `values` is overwritten."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites the tensors by those of rank 0."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)
