"""From cosines to scores, by the model's own scale and bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def scores(cosines: NDArray[np.float32], scale: float, bias: float, *, multi_label: bool) -> NDArray[np.float32]:
    """Return how likely each label is.

    This uses numpy, which keeps the GIL for small arrays: torch releases it at each operation, and the event loop,
    which calls this, would wait for it behind the workers.

    Args:
        cosines: [B, C], of B images and C labels.
        scale: The model's factor on cosines.
        bias: The model's summand on logits; a softmax does not depend on it.
        multi_label: Whether each label is judged on its own (a sigmoid, as SigLIP is trained), not against the others.

    Returns:
        [B, C] in [0, 1]; rows sum to 1 unless `multi_label`.
    """
    logits = np.float32(scale) * cosines + np.float32(bias)
    if multi_label:
        sigmoids: NDArray[np.float32] = np.exp(-np.logaddexp(np.float32(0), -logits))  # never overflows
        return sigmoids
    weights: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
