"""The identity of weights: what a version names as its base."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor


def fingerprint(state_dict: Mapping[str, Tensor]) -> str:
    """The sha256 over name, dtype, shape and bytes of every tensor, in the order of the names.

    Where and how the tensors lie does not matter: the order of the keys, one file or several, contiguous or
    channels_last memory, CPU or GPU.

    Returns:
        64 hexadecimal digits, the same on every little-endian machine.
    """
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(_bytes(tensor).numpy().data)
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Tensor:
    flat = tensor.reshape(-1)
    # A single element may keep any stride and still count as contiguous; bytes want a stride of one.
    return (flat if flat.stride(0) == 1 else flat.clone(memory_format=torch.contiguous_format)).view(torch.uint8)
