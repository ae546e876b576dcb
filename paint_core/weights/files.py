"""Task vectors as safetensors files: written with equal bytes for equal content, read whole or tensor by tensor.

A tensor NAME lies there as float32 under its name, or packed (see `packing`) as `codes:NAME` and `scales:NAME`.
"""

import io
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from paint_core.errors import WeightsMismatchError
from paint_core.weights.checks import floating, require_finite, require_fits, require_float32, require_same_names
from paint_core.weights.packing import Bits, is_packed, pack, require_packed, unpack
from paint_core.weights.vectors import TaskVector

# One key, because safetensors writes several in an order that changes from run to run, and the bytes are
# content-addressed.
_METADATA_KEY = "paintbox_task_vector"
_CODES, _SCALES = "codes:", "scales:"
_DTYPES = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}
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


def save_task_vector(tau: Mapping[str, Tensor], metadata: Mapping[str, str], bits: Bits = 32) -> bytes:
    """The task vector as a safetensors file; equal inputs give equal bytes.

    With fewer than 32 bits what is read back is `rounded(tau, bits)`, bit for bit.

    Args:
        metadata: strings to store in the header; read them back with `read_metadata`. Under `BASE_KEY` the base's
            fingerprint, which reading can compare.
        bits: of each number in tensors of two dimensions and more: 32, 16, 8 or 4.

    Raises:
        WeightsMismatchError: a tensor is not float32.
        NonFiniteWeightsError: a tensor holds a NaN or an infinity.
    """
    for name, tensor in tau.items():
        require_float32(name, tensor.dtype)
    require_finite(tau)
    tensors: dict[str, Tensor] = {}
    for name in sorted(tau):
        if bits != 32 and is_packed(tau[name].shape, bits):
            tensors[_CODES + name], tensors[_SCALES + name] = pack(tau[name], bits)
        else:
            tensors[name] = tau[name].detach().cpu().contiguous()
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
    shapes = _shapes(like)
    names = _names(loaded)
    for name in names:
        if name in loaded:
            require_float32(name, loaded[name].dtype)
    require_same_names("the task vector", names, shapes)
    tau: TaskVector = {
        name: unpack(name, loaded[_CODES + name], loaded[_SCALES + name], shapes[name])
        if _CODES + name in loaded
        else loaded[name]
        for name in names
    }
    require_fits(tau, like)
    require_finite(tau)
    if base_fingerprint is not None:
        _require_base(_header(data).get("__metadata__"), base_fingerprint)
    return tau


class StoredTaskVector(Mapping[str, Tensor]):
    """A task vector that stays in its file: each tensor is mapped into memory, or unpacked, on access.

    Names, shapes, dtypes and the base are checked at once; values only where they are used (`mix` and `combine` refuse
    a sum that is not finite, unpacking refuses codes that packing does not give), because looking at them would read
    the file twice. The tensors are float32, on the CPU and must not be changed; nor must the file during this object's
    lifetime.

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
        entries = {key: self._file.get_slice(key) for key in self._file.keys()}  # noqa: SIM118  # it has no iterator
        shapes = _shapes(like)
        names = _names(entries)
        self._packed = {name for name in names if _CODES + name in entries}
        for name in set(names) - self._packed:
            if entries[name].get_dtype() != "F32":
                raise WeightsMismatchError(
                    f"{name} is {entries[name].get_dtype()}, a task vector is float32: convert it"
                )
        require_same_names("the task vector", names, shapes)
        for name in self._packed:
            _require_packed_entries(name, entries[_CODES + name], entries[_SCALES + name], shapes[name])
        self.shapes = {
            name: shapes[name] if name in self._packed else tuple(entries[name].get_shape()) for name in names
        }
        require_fits(self, like)
        if base_fingerprint is not None:
            _require_base(self._file.metadata(), base_fingerprint)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.shapes:
            raise KeyError(name)
        if name in self._packed:
            codes, scales = (self._file.get_tensor(kind + name) for kind in (_CODES, _SCALES))
            return unpack(name, codes, scales, self.shapes[name])
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


def _shapes(like: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in floating(like).items()}


def _names(keys: Collection[str]) -> list[str]:
    """The names of the tensors in a file, each once, of keys that come in pairs where a tensor is packed."""
    packed = {key.removeprefix(_CODES) for key in keys if key.startswith(_CODES)}
    scaled = {key.removeprefix(_SCALES) for key in keys if key.startswith(_SCALES)}
    plain = {key for key in keys if not key.startswith((_CODES, _SCALES))}
    odd = sorted((packed ^ scaled) | (packed & plain))
    if odd:
        raise WeightsMismatchError(
            f"{odd[0]} is not stored once, with codes and scales or without both: store the task vector again"
        )
    return sorted(packed | plain)


def _require_packed_entries(name: str, codes: Any, scales: Any, shape: tuple[int, ...]) -> None:
    """Refuses entries of a header that are no packed tensor of this shape."""
    kinds = [_DTYPES.get(entry.get_dtype(), torch.bool) for entry in (codes, scales)]
    require_packed(name, kinds[0], codes.get_shape(), kinds[1], scales.get_shape(), shape)


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
