"""What must hold before weights are used; every refusal names the first offender and what to do."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from paint_core.errors import NonFiniteWeightsError, WeightsMismatchError


def floating(theta: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that take part in mixing: all but integer and boolean buffers."""
    return {name: tensor for name, tensor in theta.items() if tensor.is_floating_point()}


def shapes_of(tau: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes that are known without reading tensors: all of a dict's, those in a file's header, else none."""
    header: Any = getattr(tau, "shapes", None)
    if isinstance(header, Mapping):
        return dict(header)
    return {name: tuple(tensor.shape) for name, tensor in tau.items()} if isinstance(tau, dict) else {}


def require_fits(tau: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    """Refuses a task vector of another model; of a lazy mapping only the names and the shapes in its header."""
    expected = floating(like)
    require_same_names("the task vector", tau.keys(), expected.keys())
    for name, shape in shapes_of(tau).items():
        require_same_shape(name, shape, expected[name].shape)
    if isinstance(tau, dict):
        for name, tensor in tau.items():
            require_float32(name, tensor.dtype)


def require_same_kind(theta_1: Mapping[str, Tensor], theta_0: Mapping[str, Tensor]) -> None:
    """Refuses weights whose names, shapes or dtypes differ from those of theta_0."""
    require_same_names("theta_1", theta_1.keys(), theta_0.keys())
    for name, before in theta_0.items():
        after = theta_1[name]
        require_same_shape(name, after.shape, before.shape)
        if after.dtype != before.dtype:
            raise WeightsMismatchError(
                f"{name} is {after.dtype} in theta_1 and {before.dtype} in theta_0: convert one to the other's"
            )


def require_same_names(what: str, names: Collection[str], expected: Collection[str]) -> None:
    """Refuses missing and extra names.

    Args:
        what: whose names they are, for the message.

    Raises:
        WeightsMismatchError: naming the first three of each.
    """
    missing = sorted(set(expected) - set(names))
    extra = sorted(set(names) - set(expected))
    if missing and all(f"visual.{name}" in names for name in expected):
        raise WeightsMismatchError(
            f"{what} belongs to a whole CLIP model: keep only names with the prefix 'visual.', and strip the prefix"
        )
    if missing or extra:
        raise WeightsMismatchError(
            f"{what} does not belong to this model: {len(missing)} missing {missing[:3]}, {len(extra)} extra "
            f"{extra[:3]}; use one of the same base"
        )


def require_same_shape(name: str, shape: Collection[int], expected: Collection[int]) -> None:
    """Refuses another shape, with a `WeightsMismatchError`.

    Raises:
        WeightsMismatchError: they differ.
    """
    if tuple(shape) != tuple(expected):
        raise WeightsMismatchError(
            f"{name} has shape {list(shape)}, but the model needs {list(expected)}: use the same base"
        )


def require_float32(name: str, dtype: torch.dtype) -> None:
    """Refuses any other dtype: what a task vector loses in half precision cannot be got back.

    Raises:
        WeightsMismatchError: it is not float32.
    """
    if dtype != torch.float32:
        raise WeightsMismatchError(f"{name} is {dtype}, a task vector is float32: convert it")


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuses a NaN and an infinity.

    Raises:
        NonFiniteWeightsError: naming the first tensor that holds one.
    """
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise NonFiniteWeightsError(f"{name} contains NaN or infinity: discard these weights and fine-tune again")


def is_finite(tensor: Tensor) -> bool:
    """Whether a floating tensor holds neither a NaN nor an infinity; one pass, and no memory if it does not."""
    # A non-finite value makes the sum non-finite. A sum of finite values may overflow too: only then check each.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())
