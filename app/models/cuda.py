"""A GPU for `ShapedRunner`: forward passes captured as CUDA graphs, and a stream of its own for pixels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

_WARM_UPS = 3


class CudaDevice:
    """Captures and replays graphs, which share the memory of the largest, since no two run at the same time.

    Args:
        device: A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.where = device
        self._computing, self._copying = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, forward: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """Return what replays the graph of a forward pass, and its output."""
        torch.cuda.synchronize(self.where)  # the copy of the tower was made on another stream
        with torch.cuda.device(self.where):
            with torch.cuda.stream(self._computing):
                for _ in range(_WARM_UPS):  # libraries choose their kernels and allocate what they keep
                    forward()
            self._computing.synchronize()
            graph = torch.cuda.CUDAGraph()
            # "thread_local": other threads go on using the device meanwhile, for the version that is served.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._computing, capture_error_mode="thread_local"):
                output = forward()
        return graph.replay, output

    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return pinned memory."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def event(self) -> torch.cuda.Event:
        """Return an event for which the host waits asleep."""
        return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]

    def copying(self) -> AbstractContextManager[object]:
        """Return the context of the stream for pixels."""
        return torch.cuda.stream(self._copying)

    def computing(self) -> AbstractContextManager[object]:
        """Return the context of the stream for graphs."""
        return torch.cuda.stream(self._computing)
