"""The device that a process computes on."""

from __future__ import annotations

import torch

from registry.errors import ConfigurationError


def choose_device(setting: str) -> torch.device:
    """Return the device that `PAINTBOX_DEVICE` names.

    Args:
        setting: `auto` is CUDA if there is a CUDA device, else the CPU.

    Raises:
        ConfigurationError: This machine has no such device.
    """
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(setting)
    num_devices = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= num_devices:
        raise ConfigurationError(
            f"PAINTBOX_DEVICE is {setting}, but this process sees {num_devices} CUDA devices.",
            "Correct PAINTBOX_DEVICE or CUDA_VISIBLE_DEVICES.",
        )
    return device
