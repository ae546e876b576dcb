"""Checks of argument types, with messages that say what to pass instead."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from paint_core.errors import ArgumentError, ConfigError


def require_type(name: str, value: object, expected: type | tuple[type, ...], instead: str) -> None:
    """Refuses a value of another type.

    Args:
        instead: what to pass, for the message.

    Raises:
        ArgumentError: the value is not an instance of what is expected.
    """
    if not isinstance(value, expected):
        raise ArgumentError(f"{name} is {_an(type(value).__name__)}: {instead}")


def require_weights(name: str, value: object) -> None:
    """Refuses anything that is not a state dict, such as a model.

    Raises:
        ArgumentError: it is not a mapping of names to tensors.
    """
    if isinstance(value, nn.Module):
        raise ArgumentError(f"{name} is {_an(type(value).__name__)}: pass its state_dict()")
    if not isinstance(value, Mapping):
        raise ArgumentError(
            f"{name} is {_an(type(value).__name__)}: pass the state dict of an image tower, such as "
            "base.visual.state_dict()"
        )
    if isinstance(value, dict):
        odd = next((key for key, each in value.items() if not isinstance(each, Tensor)), None)
        if odd is not None:
            raise ArgumentError(f"{name}[{odd!r}] is {_an(type(value[odd]).__name__)}: pass tensors only")


def require_names(name: str, value: Iterable[str]) -> None:
    """Refuses a string where names are expected: it would be read letter by letter.

    Raises:
        ArgumentError: it is a string.
    """
    if isinstance(value, str):
        raise ArgumentError(f"{name} is the text {value!r}: pass a list of names, [{value!r}]")


def require_device(device: torch.device | str) -> torch.device:
    """The device, if this machine has it.

    Raises:
        ConfigError: an unknown name, or a CUDA device that does not exist.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device is {device!r}: use 'cpu', 'cuda' or 'cuda:N'") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"device is {str(found)!r}, but torch sees {count} CUDA devices: use 'cpu'")
    return found


def _an(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
