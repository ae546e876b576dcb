"""Algorithms that give the same bits every time, while a context lasts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from paint_core.errors import ConfigError


@contextmanager
def deterministic_algorithms(enabled: bool, device: torch.device) -> Iterator[None]:
    """Only deterministic algorithms of torch and cuDNN inside, and the caller's settings again outside."""
    if not enabled:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn
    cudnn_before = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        _require_deterministic_cublas(device)
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = cudnn_before


def _require_deterministic_cublas(device: torch.device) -> None:
    """Tests cuBLAS by a small product, because the library reads no environment variables."""
    if device.type != "cuda":
        return
    try:
        torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)
    except RuntimeError as error:
        raise ConfigError(
            "deterministic is set, but cuBLAS is not deterministic: start the process with the environment variable "
            "CUBLAS_WORKSPACE_CONFIG=:4096:8"
        ) from error
