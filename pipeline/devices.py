"""The device that a process computes on."""

from __future__ import annotations

import torch

from registry.errors import ConfigurationError


def choose_device(setting: str, num_processes: int = 1) -> torch.device:
    """Return the device that `PAINTBOX_DEVICE` names.

    Args:
        setting: `auto` is CUDA if there is a CUDA device, else the CPU.
        num_processes: That are to use it; several share a CPU only.

    Raises:
        ConfigurationError: This machine has no such device, or several processes would share a GPU.
    """
    found = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(found if setting == "auto" else setting)
    if num_processes > 1 and device.type != "cpu":
        raise ConfigurationError(
            f"PAINTBOX_PROCESSES={num_processes}: several processes share a CPU, not a GPU.",
            "Set it to 1, or PAINTBOX_DEVICE=cpu.",
        )
    num_devices = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= num_devices:
        raise ConfigurationError(
            f"PAINTBOX_DEVICE is {setting}, but this process sees {num_devices} CUDA devices.",
            "Correct PAINTBOX_DEVICE or CUDA_VISIBLE_DEVICES.",
        )
    return device
