"""Sizes and angles of updates, in total and per block."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from paint_core.weights.checks import floating, require_fits, require_same_kind
from paint_core.weights.profiles import block_of


def relative_norm(tau: Mapping[str, Tensor], theta_0: Mapping[str, Tensor]) -> float:
    """The ratio ||tau|| / ||theta_0|| over tau's tensors, in float64."""
    require_fits(tau, theta_0)
    return _ratio(tau, theta_0, tau)


def cosine(theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor]) -> float:
    """The cosine between two weight vectors, in float64 (float32 cannot tell 0.99984 from 1); NaN where one is 0."""
    require_same_kind(theta_1, theta_0)
    return _cosine(theta_0, theta_1, floating(theta_0))


def block_norms(tau: Mapping[str, Tensor], theta_0: Mapping[str, Tensor]) -> dict[str, float]:
    """The ratio ||tau|| / ||theta_0|| of every block, in float64: where in the tower an update lies.

    Returns:
        The block's label (see `profiles.block_of`) to a number >= 0, in the order of depth; infinite where theta_0 is 0
        and tau is not.
    """
    require_fits(tau, theta_0)
    return {block: _ratio(tau, theta_0, names) for block, names in _blocks(tau).items()}


def block_cosines(theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor]) -> dict[str, float]:
    """The cosine between two weight vectors (or two task vectors) in every block, in float64.

    Returns:
        The block's label to a number in [-1, 1], in the order of depth; NaN where one of them is 0.
    """
    require_same_kind(theta_1, theta_0)
    return {block: _cosine(theta_0, theta_1, names) for block, names in _blocks(floating(theta_0)).items()}


def _blocks(names: Iterable[str]) -> dict[str, list[str]]:
    blocks: dict[str, list[str]] = {}
    for name, block in block_of(names).items():
        blocks.setdefault(block, []).append(name)
    return blocks


def _ratio(tau: Mapping[str, Tensor], theta_0: Mapping[str, Tensor], names: Iterable[str]) -> float:
    norm_tau, norm_0 = _dot(tau, tau, names), _dot(theta_0, theta_0, names)
    if not norm_0:
        return math.inf if norm_tau else 0.0
    return math.sqrt(norm_tau) / math.sqrt(norm_0)


def _cosine(left: Mapping[str, Tensor], right: Mapping[str, Tensor], names: Iterable[str]) -> float:
    norms = math.sqrt(_dot(left, left, names)) * math.sqrt(_dot(right, right, names))
    # Clamped, because rounding may lead a hair past 1.
    return max(-1.0, min(1.0, _dot(left, right, names) / norms)) if norms else math.nan


def _dot(left: Mapping[str, Tensor], right: Mapping[str, Tensor], names: Iterable[str]) -> float:
    return sum(float(torch.dot(_flat(left[name]), _flat(right[name]))) for name in names)


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double().flatten()
