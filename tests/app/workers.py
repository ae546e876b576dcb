"""Workers as the engine has them, for requests that come without an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from torch import Tensor

from app.models.served_model import ServedModel
from app.serving.batch import BatchRunner
from app.serving.batch_policy import BatchPolicy
from app.serving.cpu_workers import CpuWorkers
from app.serving.gpu_workers import GpuWorkers
from app.serving.request import Answer, InferenceRequest

Workers = CpuWorkers | GpuWorkers


def submit(workers: Workers, model: ServedModel, images: Tensor, *, low_priority: bool = False) -> Future[Answer]:
    """What will hold the features of images [B, S, S, 3]."""
    request = InferenceRequest(model, images.numpy(), low_priority=low_priority)
    workers.put(request)
    return request.answer


@contextmanager
def open_workers(policy: BatchPolicy) -> Iterator[Workers]:
    """One thread for each core that forwards, or two for a GPU: one decodes, one forwards."""
    workers = CpuWorkers(policy, BatchRunner()) if policy.num_cores else GpuWorkers(policy, 1, BatchRunner())
    try:
        yield workers
    finally:
        workers.close()
