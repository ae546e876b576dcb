"""Task vectors: measuring, mixing, comparing and storing what fine-tuning changed.

A version is a mix: `theta = theta_base + sum_i coefficient_i * tau_i` (a task vector is `tau = theta_1 - theta_0`,
Ilharco et al., arXiv 2212.04089). Only floating tensors take part; integer buffers stay the base's.
"""

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from paint_core.errors import ConfigError, NonFiniteWeightsError, WeightsMismatchError

TaskVector = dict[str, Tensor]
"""Image-tower names, as in `visual.state_dict()`, to float32 differences; floating tensors only."""

# One key, because safetensors writes several in an order that changes from run to run, and the bytes are
# content-addressed.
_METADATA_KEY = "paintbox_task_vector"


@dataclass(frozen=True, eq=False)
class Term:
    """One summand of a mix.

    Attributes:
        task_vector: the update.
        coefficient: its finite factor; alpha for a single patch, but it may leave [0, 1].
        profile: how the factor varies with depth; only `flat` (not at all) exists.
    """

    task_vector: Mapping[str, Tensor]
    coefficient: float
    profile: str = "flat"

    def __post_init__(self) -> None:
        if not math.isfinite(self.coefficient):
            raise ConfigError(f"a coefficient must be a finite number, not {self.coefficient}: choose another")
        if self.profile != "flat":
            raise ConfigError(f"unknown profile {self.profile!r}: use 'flat'")


def task_vector(theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor]) -> TaskVector:
    """The update tau = theta_1 - theta_0, in float32.

    Args:
        theta_0: weights before, any floating dtype; integer buffers are left out.
        theta_1: weights after, same names and shapes.

    Returns:
        New tensors on theta_0's devices.

    Raises:
        WeightsMismatchError: names or shapes differ.
        NonFiniteWeightsError: a difference is NaN or infinite.
    """
    _require_same_names("theta_1", theta_1.keys(), theta_0.keys())
    tau: TaskVector = {}
    for name, before in theta_0.items():
        after = theta_1[name]
        _require_same_shape(name, after, before)
        if before.is_floating_point():
            tau[name] = after.detach().to(before.device, torch.float32) - before.detach().to(torch.float32)
    _require_finite(tau)
    return tau


def mix(theta_base: Mapping[str, Tensor], terms: Sequence[Term]) -> dict[str, Tensor]:
    """The weights theta_base + sum of coefficient * tau, as fresh tensors.

    A coefficient of zero adds nothing at all, so alpha = 0 gives theta_base bit for bit.

    Args:
        theta_base: image-tower state dict; not changed.
        terms: summands, added in this order; none gives a copy of theta_base.

    Returns:
        A state dict of theta_base's names, shapes, dtypes and devices.

    Raises:
        WeightsMismatchError: a task vector's names or shapes are not the base's floating ones.
    """
    for term in terms:
        _require_fits(term.task_vector, theta_base)
    mixed = {name: tensor.detach().clone() for name, tensor in theta_base.items()}
    _add_terms(mixed, terms)
    return mixed


@torch.no_grad()
def mix_into(module: nn.Module, theta_base: Mapping[str, Tensor], terms: Sequence[Term]) -> None:
    """Writes the mix into the module's own memory; nothing else is allocated for long.

    Args:
        module: an image tower; its parameters and buffers are overwritten, on whatever device they are.
        theta_base: state dict to start from; must not share memory with `module`.
        terms: summands, as in `mix`.

    Raises:
        WeightsMismatchError: names or shapes differ between module, base and task vectors.
    """
    own = module.state_dict()
    _require_same_names("the base", theta_base.keys(), own.keys())
    for name, tensor in own.items():
        _require_same_shape(name, theta_base[name], tensor)
    for term in terms:
        _require_fits(term.task_vector, own)
    for name, tensor in own.items():
        tensor.copy_(theta_base[name])
    _add_terms(own, terms)


def save_task_vector(tau: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The task vector as a safetensors file; equal inputs give equal bytes.

    Args:
        tau: float32 tensors.
        metadata: strings to store in the header; read them back with `read_metadata`.

    Returns:
        The file's bytes.

    Raises:
        WeightsMismatchError: a tensor is not float32.
        NonFiniteWeightsError: a tensor holds a NaN or an infinity.
    """
    for name, tensor in tau.items():
        _require_float32(name, tensor)
    _require_finite(tau)
    tensors = {name: tau[name].detach().cpu().contiguous() for name in sorted(tau)}
    header = {_METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)}
    return bytes(safetensors.torch.save(tensors, metadata=header))


def load_task_vector(data: bytes | Path, like: Mapping[str, Tensor]) -> TaskVector:
    """The stored task vector, checked against the weights it will be added to.

    Args:
        data: a safetensors file, as bytes or as a path.
        like: the base's image-tower state dict.

    Returns:
        Float32 tensors on the CPU, one per floating tensor of `like`.

    Raises:
        WeightsMismatchError: not a readable safetensors file, or a key, shape or dtype differs.
        NonFiniteWeightsError: a value is NaN or infinite.
    """
    try:
        loaded = safetensors.torch.load(data) if isinstance(data, bytes) else safetensors.torch.load_file(data)
    except (safetensors.SafetensorError, OSError, KeyError) as error:
        raise WeightsMismatchError(f"not a readable safetensors file ({error}): store the task vector again") from error
    tau: TaskVector = dict(loaded)
    for name, tensor in tau.items():
        _require_float32(name, tensor)
    _require_fits(tau, like)
    _require_finite(tau)
    return tau


def read_metadata(data: bytes) -> dict[str, str]:
    """The strings that `save_task_vector` stored.

    Args:
        data: a file of `save_task_vector`.

    Returns:
        A new dictionary.

    Raises:
        WeightsMismatchError: the bytes are not such a file.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        return {str(key): str(value) for key, value in json.loads(header["__metadata__"][_METADATA_KEY]).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsMismatchError("not a task vector of Paintbox: its header has no metadata of ours") from error


def fingerprint(state_dict: Mapping[str, Tensor]) -> str:
    """The sha256 over name, dtype, shape and bytes of every tensor, in the order of the names.

    Args:
        state_dict: tensors of any dtype on any device.

    Returns:
        64 hexadecimal digits, the same on every little-endian machine.
    """
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def relative_norm(tau: Mapping[str, Tensor], theta_0: Mapping[str, Tensor]) -> float:
    """The ratio ||tau|| / ||theta_0|| over tau's tensors, in float64.

    Args:
        tau: the update.
        theta_0: weights it was measured from; same names and shapes for the floating ones.

    Returns:
        A number >= 0.

    Raises:
        WeightsMismatchError: tau does not fit theta_0.
    """
    _require_fits(tau, theta_0)
    norm_0 = math.sqrt(sum(_dot(theta_0[name], theta_0[name]) for name in tau))
    norm_tau = math.sqrt(sum(_dot(tensor, tensor) for tensor in tau.values()))
    return norm_tau / norm_0 if norm_0 else math.inf


def cosine(theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor]) -> float:
    """The cosine between two weight vectors, in float64 (float32 cannot tell 0.99984 from 1).

    Args:
        theta_0: weights before.
        theta_1: weights after, same names and shapes.

    Returns:
        A number in [-1, 1].

    Raises:
        WeightsMismatchError: names or shapes differ.
    """
    _require_same_names("theta_1", theta_1.keys(), theta_0.keys())
    names = [name for name, tensor in theta_0.items() if tensor.is_floating_point()]
    for name in names:
        _require_same_shape(name, theta_1[name], theta_0[name])
    norms = [math.sqrt(sum(_dot(theta[name], theta[name]) for name in names)) for theta in (theta_0, theta_1)]
    return sum(_dot(theta_0[name], theta_1[name]) for name in names) / (norms[0] * norms[1])


def _add_terms(mixed: dict[str, Tensor], terms: Sequence[Term]) -> None:
    for term in terms:
        if term.coefficient == 0.0:  # adding 0 * tau would turn -0.0 into 0.0
            continue
        for name, update in term.task_vector.items():
            own = mixed[name]
            # Multiply, then add: two roundings, the same on every device and memory layout. `add_(alpha=)` may fuse
            # them in some places and not in others.
            own.add_(update.to(own.device, own.dtype) * term.coefficient)


def _dot(left: Tensor, right: Tensor) -> float:
    return float(torch.dot(left.detach().cpu().double().flatten(), right.detach().cpu().double().flatten()))


def _require_fits(tau: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    floating = {name: tensor for name, tensor in like.items() if tensor.is_floating_point()}
    _require_same_names("the task vector", tau.keys(), floating.keys())
    for name, tensor in tau.items():
        _require_same_shape(name, tensor, floating[name])


def _require_same_names(what: str, names: Collection[str], expected: Collection[str]) -> None:
    missing = sorted(set(expected) - set(names))
    extra = sorted(set(names) - set(expected))
    if missing or extra:
        raise WeightsMismatchError(
            f"{what} does not belong to this model: {len(missing)} missing {missing[:3]}, {len(extra)} extra "
            f"{extra[:3]}; use one that was measured on the same base"
        )


def _require_same_shape(name: str, tensor: Tensor, expected: Tensor) -> None:
    if tensor.shape != expected.shape:
        raise WeightsMismatchError(
            f"{name} has shape {list(tensor.shape)}, the model wants {list(expected.shape)}: use the same base"
        )


def _require_float32(name: str, tensor: Tensor) -> None:
    if tensor.dtype != torch.float32:
        raise WeightsMismatchError(f"{name} is {tensor.dtype}, a task vector is float32: convert it")


def _require_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise NonFiniteWeightsError(f"{name} holds a NaN or an infinity: discard these weights, fine-tune again")
