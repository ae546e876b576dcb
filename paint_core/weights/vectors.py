"""Task vectors: what fine-tuning changed, `tau = theta_1 - theta_0` (Ilharco et al., arXiv 2212.04089)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from paint_core.runtime.arguments import require_weights
from paint_core.weights.checks import require_finite, require_same_kind

TaskVector = dict[str, Tensor]
"""Image-tower names, as in `visual.state_dict()`, to float32 differences; floating tensors only."""


def task_vector(theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor]) -> TaskVector:
    """The update tau = theta_1 - theta_0, in float32, such that theta_0 + tau rounds to theta_1 if any tau does.

    The rounded difference does not always lead back: where it misses theta_1, its two neighbours are tried. If any
    float32 number leads to theta_1, the difference or a neighbour does: rounding is monotone, so the numbers that lead
    there lie side by side, and they enclose the exact difference. Where none does (theta_0 = 1e8, theta_1 = 1e-3), the
    plain difference stays, and `snap` returns the weights that it leads to.

    BatchNorm's running statistics are floating buffers, so they are in tau as well (see `batch_norm`).

    Args:
        theta_0: weights before, any floating dtype; integer buffers are left out.
        theta_1: weights after, same names, shapes and dtypes.

    Returns:
        New tensors on theta_0's devices.

    Raises:
        WeightsMismatchError: names, shapes or dtypes differ.
        NonFiniteWeightsError: a difference is NaN or infinite.
        ArgumentError: a model instead of its weights.
    """
    require_weights("theta_0", theta_0)
    require_weights("theta_1", theta_1)
    require_same_kind(theta_1, theta_0)
    tau = {
        name: _difference(before.detach(), theta_1[name].detach().to(before.device))
        for name, before in theta_0.items()
        if before.is_floating_point()
    }
    require_finite(tau)
    return tau


def snap(theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights nearest to theta_1 that a mix from theta_0 reaches: theta_0 + tau, as float arithmetic has it.

    For the result, `mix(theta_0, [Term(task_vector(theta_0, result), 1.0)])` is the result, bit for bit. Nothing moves
    by more than one unit in the last place of max(|theta_0|, |theta_1|); almost every number stays.

    Returns:
        New tensors on theta_0's devices; integer buffers are theta_0's, as in every mix.
    """
    tau = task_vector(theta_0, theta_1)
    return {
        name: _add(before.detach(), tau[name]) if name in tau else before.detach().clone()
        for name, before in theta_0.items()
    }


def _difference(before: Tensor, after: Tensor) -> Tensor:
    wide = torch.promote_types(before.dtype, torch.float32)
    difference = (after.to(wide) - before.to(wide)).to(torch.float32)
    # -0.0 + -0.0 is the only sum that gives -0.0, and 0.0 would lose the sign.
    difference[_is_negative_zero(before) & _is_negative_zero(after)] = -0.0
    missed = _add(before, difference) != after
    if bool(missed.any()):
        difference[missed] = _neighbour_that_hits(before[missed], after[missed], difference[missed])
    return difference


def _neighbour_that_hits(before: Tensor, after: Tensor, difference: Tensor) -> Tensor:
    """The difference, replaced by the next float32 number above or below wherever that one gives theta_1."""
    for bound in (torch.inf, -torch.inf):
        neighbour = torch.nextafter(difference, torch.full_like(difference, bound))
        difference = torch.where(_add(before, neighbour) == after, neighbour, difference)
    return difference


def _add(before: Tensor, difference: Tensor) -> Tensor:
    """What a mix at coefficient 1 gives: the sum in float32 or wider, rounded once more to the base's dtype."""
    return (before.to(torch.promote_types(before.dtype, torch.float32)) + difference).to(before.dtype)


def _is_negative_zero(tensor: Tensor) -> Tensor:
    return (tensor == 0) & torch.signbit(tensor)
