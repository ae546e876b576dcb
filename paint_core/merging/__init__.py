"""Merging: several task vectors of one base as one, without data.

`average` and `task_arithmetic` add; `ties` lets only the large changes vote on each number; `tsv` and `iso` look at the
singular vectors of each weight matrix, where updates of different tasks get in each other's way.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from torch import Tensor

from paint_core.errors import ConfigError
from paint_core.merging.average import average
from paint_core.merging.iso import iso
from paint_core.merging.task_arithmetic import task_arithmetic
from paint_core.merging.ties import ties
from paint_core.merging.tsv import tsv
from paint_core.weights import TaskVector
from paint_core.weights.checks import require_finite, require_float32, require_same_names, require_same_shape, shapes_of

__all__ = ["MERGERS", "average", "iso", "merge", "task_arithmetic", "ties", "tsv"]

MERGERS: Mapping[str, Callable[[Sequence[Mapping[str, Tensor]]], TaskVector]] = MappingProxyType(
    {"average": average, "task_arithmetic": task_arithmetic, "ties": ties, "tsv": tsv, "iso": iso}
)
"""Name to method; each returns a new task vector from at least one, on the devices of the first."""


def merge(method: str, task_vectors: Sequence[Mapping[str, Tensor]]) -> TaskVector:
    """One task vector that stands for several, to be mixed with a coefficient chosen by a search.

    Args:
        method: a key of `MERGERS`.
        task_vectors: at least two, all measured on one base; float32. Lazy mappings are read tensor by tensor.

    Raises:
        ConfigError: an unknown method, or fewer than two task vectors.
        WeightsMismatchError: names, shapes or dtypes differ.
        NonFiniteWeightsError: a NaN or an infinity.
    """
    if method not in MERGERS:
        raise ConfigError(f"unknown merging method {method!r}: use one of {', '.join(map(repr, MERGERS))}")
    if len(task_vectors) < 2:
        raise ConfigError(f"{len(task_vectors)} task vector cannot be merged: give at least two, or use it as it is")
    _require_one_base(task_vectors)
    merged = MERGERS[method](task_vectors)
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
