"""From cosines to scores, by the model's own scale and bias."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.inference_mode()
def scores(cosines: Tensor, scale: float, bias: float, *, multi_label: bool) -> Tensor:
    """Return how likely each label is.

    Args:
        cosines: [B, C], of B images and C labels.
        scale: The model's factor on cosines.
        bias: The model's summand on logits; it matters for `multi_label` only, because a softmax does not see it.
        multi_label: Whether each label is judged by itself (a sigmoid, as SigLIP is trained), not against the others.

    Returns:
        [B, C] in [0, 1]; rows sum to 1 unless `multi_label`.
    """
    logits = scale * cosines + bias
    return logits.sigmoid() if multi_label else logits.softmax(dim=1)
