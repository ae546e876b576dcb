"""Merging: several task vectors of one base as one.

Without data: `average` and `task_arithmetic` add; `ties` lets only the large changes vote on each number; `tsv` and
`iso` look at the singular vectors of each weight matrix, where updates of different tasks get in each other's way;
`ace` weighs each task's update by the inputs that it reveals. With a few unlabelled images of each task: `esm` keeps
what matters for a layer's outputs, `regmean` what a layer does to its inputs.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from torch import Tensor

from paint_core.errors import ConfigError
from paint_core.merging.ace import ace
from paint_core.merging.average import average
from paint_core.merging.esm import esm
from paint_core.merging.iso import iso
from paint_core.merging.moments import Moments, input_moments
from paint_core.merging.regmean import regmean
from paint_core.merging.task_arithmetic import task_arithmetic
from paint_core.merging.ties import ties
from paint_core.merging.tsv import tsv
from paint_core.weights import TaskVector
from paint_core.weights.checks import require_finite, require_float32, require_same_names, require_same_shape, shapes_of

__all__ = [
    "MERGERS",
    "WITH_IMAGES",
    "Moments",
    "ace",
    "average",
    "esm",
    "input_moments",
    "iso",
    "merge",
    "regmean",
    "task_arithmetic",
    "ties",
    "tsv",
]

MERGERS: Mapping[str, Callable[[Sequence[Mapping[str, Tensor]]], TaskVector]] = MappingProxyType(
    {
        "average": average,
        "task_arithmetic": task_arithmetic,
        "ties": ties,
        "tsv": tsv,
        "iso": iso,
        "ace": ace,
    }
)
"""Name to method without data; each returns a new task vector from at least one, on the devices of the first."""

WITH_IMAGES: Mapping[str, Callable[[Sequence[Mapping[str, Tensor]], Sequence[Moments]], TaskVector]] = MappingProxyType(
    {"esm": esm, "regmean": regmean}
)
"""The same for methods that need the moments of each task's inputs, from `input_moments`."""


def merge(
    method: str, task_vectors: Sequence[Mapping[str, Tensor]], moments: Sequence[Moments] | None = None
) -> TaskVector:
    """One task vector that stands for several, to be mixed with a coefficient chosen by a search.

    Args:
        method: a key of `MERGERS` or of `WITH_IMAGES`.
        task_vectors: at least two, all measured on one base; float32. Lazy mappings are read tensor by tensor.
        moments: for a method of `WITH_IMAGES`, one for each task vector; of the task's own tower on its own images.

    Raises:
        ConfigError: an unknown method, fewer than two task vectors, or moments that the method needs are missing.
        WeightsMismatchError: names, shapes or dtypes differ.
        NonFiniteWeightsError: a NaN or an infinity.
    """
    if method not in MERGERS and method not in WITH_IMAGES:
        known = ", ".join(map(repr, (*MERGERS, *WITH_IMAGES)))
        raise ConfigError(f"unknown merging method {method!r}: use one of {known}")
    if len(task_vectors) < 2:
        raise ConfigError(f"{len(task_vectors)} task vector cannot be merged: give at least two, or use it as it is")
    _require_one_base(task_vectors)
    if method in MERGERS:
        merged = MERGERS[method](task_vectors)
    elif moments is None or len(moments) != len(task_vectors):
        raise ConfigError(f"merging method {method!r} needs moments for each task vector: give input_moments of each")
    else:
        merged = WITH_IMAGES[method](task_vectors, moments)
    require_finite(merged)
    return merged


def _require_one_base(task_vectors: Sequence[Mapping[str, Tensor]]) -> None:
    first = task_vectors[0]
    shapes = shapes_of(first)
    for tau in task_vectors:
        require_same_names("a task vector", tau.keys(), first.keys())
        for name, shape in shapes_of(tau).items():
            require_same_shape(name, shape, shapes.get(name, shape))
        if isinstance(tau, dict):
            require_finite(tau)
            for name, tensor in tau.items():
                require_float32(name, tensor.dtype)
