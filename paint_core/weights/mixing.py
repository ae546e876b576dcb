"""Mixing: `theta = theta_base + sum_i coefficient_i * profile_i * tau_i`, which is what a version is.

Only floating tensors take part; integer and boolean buffers stay the base's.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from paint_core.errors import ArgumentError, ConfigError
from paint_core.runtime.arguments import require_type, require_weights
from paint_core.weights.checks import floating, require_fits, require_same_names, require_same_shape
from paint_core.weights.profiles import depth_factors
from paint_core.weights.summing import Update, write_sum
from paint_core.weights.vectors import TaskVector

_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True, eq=False, repr=False)
class Term:
    """One summand of a mix.

    Attributes:
        task_vector: the update; may be a lazy mapping such as `StoredTaskVector`.
        coefficient: its finite factor; alpha for a single patch, but it may leave [0, 1]. A negative one subtracts the
            update: forgetting by negation (arXiv 2212.04089, section 3).
        profile: how the factor varies with depth, one of `profiles.PROFILES`.
    """

    task_vector: Mapping[str, Tensor]
    coefficient: float
    profile: str = "flat"

    def __post_init__(self) -> None:
        require_weights("task_vector", self.task_vector)
        if not math.isfinite(self.coefficient):
            raise ConfigError(f"a coefficient must be a finite number, not {self.coefficient}: choose another")
        self.factors()

    def __repr__(self) -> str:
        return f"Term({len(self.task_vector)} tensors, coefficient={self.coefficient:g}, profile={self.profile!r})"

    def factors(self) -> dict[str, float]:
        """The coefficient times the profile's factor, for every name of the task vector."""
        profile = depth_factors(self.task_vector, self.profile)
        return {name: self.coefficient * factor for name, factor in profile.items()}


def mix(theta_base: Mapping[str, Tensor], terms: Sequence[Term]) -> dict[str, Tensor]:
    """The weights theta_base + sum of coefficient * profile * tau, as fresh tensors.

    Summed in float32, then rounded to the base's dtype. A factor of zero adds nothing at all, so alpha = 0 gives
    theta_base bit for bit; alpha = 1 gives theta_1 bit for bit if theta_1 was snapped (see `snap`). Needs no more
    memory than the result and, of lazy task vectors, one tensor each at a time; reads every tensor at most once.

    Args:
        theta_base: image-tower state dict; not changed.
        terms: summands, added in this order; none gives a copy of theta_base.

    Raises:
        WeightsMismatchError: a task vector's names, shapes or dtypes are not the base's floating ones.
        NonFiniteWeightsError: the sum holds a NaN or an infinity.
    """
    require_weights("theta_base", theta_base)
    _require_terms(terms)
    for term in terms:
        require_fits(term.task_vector, theta_base)
    addends = _Addends(terms)
    mixed: dict[str, Tensor] = {}
    for name, tensor in theta_base.items():
        mixed[name] = torch.empty_like(tensor, requires_grad=False)
        _write(mixed[name], tensor.detach(), addends, name)
    return mixed


@torch.no_grad()
def mix_into(module: nn.Module, theta_base: Mapping[str, Tensor], terms: Sequence[Term]) -> None:
    """Writes the mix into the module's own memory; otherwise as `mix`.

    Args:
        module: an image tower; its parameters and buffers are overwritten, on whatever device and in whatever dtype
            they are.
        theta_base: state dict to start from; shares no memory with `module`, which would change it.
        terms: summands, as in `mix`.

    Raises:
        WeightsMismatchError: names or shapes differ between module, base and task vectors; nothing is written unless a
            lazy mapping hides its shapes until it is read.
        NonFiniteWeightsError: the sum holds a NaN or an infinity; the module is unusable then.
        ArgumentError: module and theta_base share memory, or an argument is of another type.
    """
    require_type("module", module, nn.Module, "pass an image tower, such as copy.deepcopy(base.visual)")
    require_weights("theta_base", theta_base)
    _require_terms(terms)
    own = module.state_dict()
    _require_apart(own, theta_base)
    require_same_names("the base", theta_base.keys(), own.keys())
    require_same_names("the base", floating(theta_base).keys(), floating(own).keys())
    for name, tensor in own.items():
        require_same_shape(name, theta_base[name].shape, tensor.shape)
    for term in terms:
        require_fits(term.task_vector, own)
    addends = _Addends(terms)
    for name, tensor in own.items():
        _write(tensor, theta_base[name].detach(), addends, name)


@torch.no_grad()
def mixed_copy(module: _Module, terms: Sequence[Term]) -> _Module:
    """A module of its own that holds module's weights + sum of coefficient * profile * tau, which shares what is equal.

    The mix is written straight into the new module's memory. Whatever does not change by a bit stays the
    module's own tensor, and so do buffers that no state dict names: neither module may be written into afterwards.
    Needs no more memory than what differs, and one tensor.

    Args:
        module: an image tower; not changed.
        terms: summands, as in `mix`.

    Returns:
        A module of the same class, mode and devices, without gradients.

    Raises:
        WeightsMismatchError: a task vector's names, shapes or dtypes are not the module's floating ones.
        NonFiniteWeightsError: the sum holds a NaN or an infinity.
    """
    require_type("module", module, nn.Module, "pass an image tower, such as base.visual")
    _require_terms(terms)
    own = module.state_dict(keep_vars=True)
    for term in terms:
        require_fits(term.task_vector, own)
    addends = _Addends(terms)
    replaced: dict[int, Any] = {id(tensor): tensor.detach() for tensor in module.buffers()}
    for name, tensor in own.items():
        mixed = _mixed_or_same(tensor.detach(), addends, name)
        is_parameter = isinstance(tensor, nn.Parameter)
        replaced[id(tensor)] = nn.Parameter(mixed, requires_grad=False) if is_parameter else mixed
    return copy.deepcopy(module, replaced)  # what the memo holds is taken instead of being copied


def combine(terms: Sequence[Term]) -> TaskVector:
    """The sum of coefficient * profile * tau as one task vector: terms folded into one.

    Raises:
        ConfigError: there is no term.
    """
    _require_terms(terms)
    if not terms:
        raise ConfigError("there are no terms: give at least one")
    for term in terms[1:]:
        require_same_names("a task vector", term.task_vector.keys(), terms[0].task_vector.keys())
    addends = _Addends(terms)
    combined: TaskVector = {}
    for name in terms[0].task_vector:
        updates = addends.of(name)
        like = updates[0][0] if updates else terms[0].task_vector[name]
        # Not 0.0: every number stays as it is when -0.0 is added, so a lone tau comes back bit for bit.
        combined[name] = torch.full_like(like, -0.0 if updates else 0.0)
        write_sum(combined[name], combined[name], updates, name)
    return combined


def _require_terms(terms: Sequence[Term]) -> None:
    for term in [terms] if isinstance(terms, Term) else terms:
        require_type("a term", term, Term, "write Term(task_vector, coefficient)")
    if isinstance(terms, Term):
        raise ArgumentError("terms is a Term: pass a list of terms, [term]")


def _require_apart(own: Mapping[str, Tensor], theta_base: Mapping[str, Tensor]) -> None:
    """Refuses a module that holds some of the base's own memory: writing into it would change the base."""
    kept = {_address(tensor) for tensor in theta_base.values() if tensor.numel()}
    shared = next((name for name, each in own.items() if each.numel() and _address(each) in kept), None)
    if shared is not None:
        raise ArgumentError(
            f"{shared} shares memory with theta_base, which must not change: write into a copy, "
            "copy.deepcopy(base.visual), or use mixed_copy"
        )


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Addends:
    """What the terms add to one tensor; a factor of zero adds nothing, since 0 * tau would turn -0.0 into 0.0."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = [(term.task_vector, term.factors()) for term in terms]

    def of(self, name: str) -> list[Update]:
        return [(tau[name].detach(), factors[name]) for tau, factors in self._terms if factors[name] != 0.0]


def _mixed_or_same(base: Tensor, addends: _Addends, name: str) -> Tensor:
    """The sum in a fresh tensor, or the base itself if every bit of the sum is the base's."""
    updates = addends.of(name) if base.is_floating_point() else []
    if not updates:
        return base
    mixed = torch.empty_like(base)
    write_sum(mixed, base, updates, name)
    return base if _has_same_bits(mixed, base) else mixed


def _has_same_bits(mixed: Tensor, base: Tensor) -> bool:
    """Whether not even the sign of a zero differs; for most tensors the first row already differs."""
    if mixed.ndim and not torch.equal(mixed[:1], base[:1]):
        return False
    return torch.equal(mixed, base) and torch.equal(mixed.signbit(), base.signbit())


def _write(out: Tensor, base: Tensor, addends: _Addends, name: str) -> None:
    if out.is_floating_point():
        write_sum(out, base, addends.of(name), name)
    else:
        out.copy_(base)
