"""Task vectors as safetensors files: written with equal bytes for equal content, read whole or tensor by tensor."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
from torch import Tensor, nn

from paint_core.errors import WeightsMismatchError
from paint_core.weights.checks import require_finite, require_fits, require_float32
from paint_core.weights.vectors import TaskVector

# One key, because safetensors writes several in an order that changes from run to run, and the bytes are
# content-addressed.
_METADATA_KEY = "paintbox_task_vector"
_MAX_HEADER_BYTES = 100 << 20  # safetensors' own limit

BASE_KEY = "base"
"""Where the metadata names the fingerprint of the base that tau was measured on."""


class Base(Protocol):
    """A base model, as far as a task vector has to do with it."""

    @property
    def fingerprint(self) -> str:
        """The identity of its weights."""

    @property
    def visual(self) -> nn.Module:
        """Its image tower."""


def save_task_vector(tau: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The task vector as a safetensors file; equal inputs give equal bytes.

    Args:
        metadata: strings to store in the header; read them back with `read_metadata`. Under `BASE_KEY` the base's
            fingerprint, which reading can compare.

    Raises:
        WeightsMismatchError: a tensor is not float32.
        NonFiniteWeightsError: a tensor holds a NaN or an infinity.
    """
    for name, tensor in tau.items():
        require_float32(name, tensor.dtype)
    require_finite(tau)
    tensors = {name: tau[name].detach().cpu().contiguous() for name in sorted(tau)}
    header = {_METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)}
    return bytes(safetensors.torch.save(tensors, metadata=header))


def load_task_vector(
    data: bytes | Path, like: Mapping[str, Tensor] | Base, *, base_fingerprint: str | None = None
) -> TaskVector:
    """The stored task vector, checked against the weights it will be added to.

    Args:
        data: a safetensors file, as bytes or as a path.
        like: the base model, or its image-tower state dict.
        base_fingerprint: of the base; compared with the one in the file's metadata, if that has one. None takes that of
            `like`, and compares nothing if `like` is a state dict: two models of one architecture then pass for one.

    Returns:
        Float32 tensors on the CPU, one per floating tensor of `like`.

    Raises:
        WeightsMismatchError: not a readable safetensors file, or a key, shape, dtype or the base's fingerprint differs.
        NonFiniteWeightsError: a value is NaN or infinite.
    """
    like, base_fingerprint = _expected(like, base_fingerprint)
    try:
        loaded = safetensors.torch.load(data) if isinstance(data, bytes) else safetensors.torch.load_file(data)
    except (safetensors.SafetensorError, OSError, KeyError) as error:
        raise _unreadable(error) from error
    tau: TaskVector = dict(loaded)
    for name, tensor in tau.items():
        require_float32(name, tensor.dtype)
    require_fits(tau, like)
    require_finite(tau)
    if base_fingerprint is not None:
        _require_base(_header(data).get("__metadata__"), base_fingerprint)
    return tau


class StoredTaskVector(Mapping[str, Tensor]):
    """A task vector that stays in its file: each tensor is mapped into memory on access.

    Names, shapes, dtypes and the base are checked at once; values only where they are used (`mix` and `combine` refuse
    a sum that is not finite), because looking at them would read the file twice. The tensors are float32, on the CPU
    and must not be changed; nor must the file during this object's lifetime.

    Args:
        like: the base model, or its image-tower state dict.
        base_fingerprint: of the base; compared with the one in the file's metadata, if that has one. None takes that of
            `like`, and compares nothing if `like` is a state dict: two models of one architecture then pass for one.

    Raises:
        WeightsMismatchError: not a readable safetensors file, or a key, shape, dtype or the base's fingerprint differs.
    """

    def __init__(self, path: Path, like: Mapping[str, Tensor] | Base, *, base_fingerprint: str | None = None) -> None:
        like, base_fingerprint = _expected(like, base_fingerprint)
        self._file = _open(path)
        names = list(self._file.keys())
        entries = {name: self._file.get_slice(name) for name in names}
        for name, entry in entries.items():
            if entry.get_dtype() != "F32":
                raise WeightsMismatchError(f"{name} is {entry.get_dtype()}, a task vector is float32: convert it")
        self.shapes = {name: tuple(entry.get_shape()) for name, entry in entries.items()}
        require_fits(self, like)
        if base_fingerprint is not None:
            _require_base(self._file.metadata(), base_fingerprint)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.shapes:
            raise KeyError(name)
        tensor: Tensor = self._file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def read_metadata(data: bytes | Path) -> dict[str, str]:
    """The strings that `save_task_vector` stored.

    Raises:
        WeightsMismatchError: it is no such file.
    """
    try:
        return _strings(_header(data)["__metadata__"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsMismatchError("not a task vector of Paintbox: the metadata is missing") from error


def _header(data: bytes | Path) -> dict[str, Any]:
    """The JSON at the start of a safetensors file, after its length in eight little-endian bytes."""
    with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(min(length, _MAX_HEADER_BYTES)))
    return header


def _strings(metadata: Mapping[str, str]) -> dict[str, str]:
    return {str(key): str(value) for key, value in json.loads(metadata[_METADATA_KEY]).items()}


def _open(path: Path) -> Any:
    try:
        return safetensors.safe_open(path, framework="pt")
    except (safetensors.SafetensorError, OSError) as error:
        raise _unreadable(error) from error


def _expected(
    like: Mapping[str, Tensor] | Base, base_fingerprint: str | None
) -> tuple[Mapping[str, Tensor], str | None]:
    """The weights that a task vector is to fit, and the fingerprint of its base, if it is known."""
    if isinstance(like, Mapping):
        return like, base_fingerprint
    return like.visual.state_dict(), base_fingerprint or like.fingerprint


def _require_base(metadata: Mapping[str, str] | None, base_fingerprint: str) -> None:
    stored = _strings(metadata).get(BASE_KEY) if metadata and _METADATA_KEY in metadata else None
    if stored is not None and stored != base_fingerprint:
        raise WeightsMismatchError(
            f"the task vector belongs to the base {stored[:12]}, not to {base_fingerprint[:12]}: use its own base"
        )


def _unreadable(error: Exception) -> WeightsMismatchError:
    return WeightsMismatchError(f"not a readable safetensors file ({error}): store the task vector again")
