"""What this machine computes with: instructions of its processor, memory, GPUs; and its base models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from app.settings import num_cores
from paint_core.config.precision import has_bf16, has_int8
from paint_core.errors import PaintCoreError
from paint_core.models import load_base
from paintbox_client.checks import Check
from pipeline.devices import choose_device
from registry.errors import ConfigurationError

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_LEAST_GPU_BYTES = 4 << 30


@dataclass(frozen=True)
class Memory:
    """Memory of this machine, or of the container that it is limited to.

    Attributes:
        limit_bytes: What this process and its neighbours may use in all.
        available_bytes: What is left of it now.
    """

    limit_bytes: int
    available_bytes: int


def read_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> Memory:
    """Return the memory, as Linux tells it.

    Args:
        meminfo: In the format of `/proc/meminfo`.
        cgroup: Folder of the control group (version 2) that limits this container.
    """
    lines = [line.split() for line in meminfo.read_text(encoding="ascii").splitlines()]
    kilobytes = {line[0].rstrip(":"): int(line[1]) for line in lines if len(line) > 1}
    total, available = 1024 * kilobytes["MemTotal"], 1024 * kilobytes["MemAvailable"]
    limit = _read_number(cgroup / "memory.max")
    if limit is None or limit >= total:
        return Memory(total, available)
    used = _read_number(cgroup / "memory.current") or 0
    return Memory(limit, min(available, max(limit - used, 0)))


def _read_number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # `max`: no limit


def check_devices(setting: str) -> Iterator[Check]:
    """Yield checks of the processor and of the device that `PAINTBOX_DEVICE` names."""
    cpu = torch.device("cpu")
    formats = [name for name, has in (("bf16", has_bf16(cpu)), ("int8", has_int8(cpu))) if has]
    told = f"{num_cores()} cores, {torch.backends.cpu.get_cpu_capability()}"
    if formats:
        yield Check("processor", "ok", f"{told}, instructions for {' and '.join(formats)}")
    else:
        yield Check("processor", "ok", f"{told}; no instructions for bf16 or int8, so images run in fp32")
    try:
        device = choose_device(setting)
    except ConfigurationError as error:
        yield Check("device", "error", error.detail, error.advice)
        return
    if device.type == "cuda":
        yield from _check_gpus(device)
    elif _has_driver() and setting != "cpu":
        advice = "Install PyTorch's CUDA build; in a container, pass the GPU in (docs/deployment.md)."
        detail = f"an NVIDIA driver is loaded, but torch {torch.__version__} sees no GPU"
        yield Check("device", "warning", detail, advice)
    else:
        yield Check("device", "ok", "cpu")


def _check_gpus(device: torch.device) -> Iterator[Check]:
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    told = f"{name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free; torch sees {torch.cuda.device_count()} GPUs"
    torch.ones(8, device=device).sum().item()  # raises where the build has no kernels for this GPU
    if free < _LEAST_GPU_BYTES:
        yield Check("device", "warning", told, "Stop what else uses it, or choose another one with PAINTBOX_DEVICE.")
    else:
        yield Check("device", "ok", told)


def _has_driver() -> bool:
    return os.path.exists("/proc/driver/nvidia/version")


def load_fingerprint(ref: str) -> tuple[str | None, str]:
    """Return the fingerprint of a base model's weights, or None and why it cannot be loaded."""
    try:
        return load_base(ref).fingerprint, ""
    except (PaintCoreError, OSError) as error:
        return None, str(error)
