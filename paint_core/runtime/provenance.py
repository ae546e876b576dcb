"""What weights depend on besides data and settings: code, libraries and hardware."""

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

_LIBRARIES = ("paintbox", "torch", "torchvision", "open_clip_torch", "timm", "safetensors", "numpy", "pillow")
_PACKAGE = Path(__file__).parents[1]


def describe_environment(device: torch.device) -> dict[str, Any]:
    """The code, libraries and hardware in use, as plain data; if all are equal, a computation gives the same bits."""
    on_cuda = device.type == "cuda"
    return {
        "code_sha256": code_sha256(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if on_cuda else "cpu",
        "cuda": torch.version.cuda if on_cuda else None,
        "cudnn": torch.backends.cudnn.version() if on_cuda else None,  # type: ignore[no-untyped-call]
        "num_threads": torch.get_num_threads(),
    }


@cache
def code_sha256() -> str:
    """The sha256 over the names and sources of the library's modules: a version number may stand for several."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
