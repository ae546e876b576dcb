"""CLIP's loss, with the features of the last batches as further negatives, for machines on which a batch must be small.

The idea of a memory of slightly old features is from Wang et al., "Cross-Batch Memory for Embedding Learning" (CVPR
2020, arXiv 1912.06798).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_NOBODY = -1


@dataclass(frozen=True, eq=False)
class Said:
    """What the pictures of a batch show, and what was said of them.

    Attributes:
        tokens: int64 [B, L], of the captions.
        names: int64 [B], whose pictures they are.
        is_general: bool [B], captions such as "an animal", which are true of many pictures.
    """

    tokens: Tensor
    names: Tensor
    is_general: Tensor


class Memory:
    """The features of the last batches, at first of none."""

    def __init__(self, num_batches: int, batch_size: int, dim: int, device: str) -> None:
        """Make room.

        Args:
            num_batches: how many to keep, >= 0.
            batch_size: B.
            dim: D.
            device: where the features are.
        """
        size = num_batches * batch_size
        self.images = torch.zeros(size, dim, device=device)
        self.texts = torch.zeros(size, dim, device=device)
        self.names = torch.full((size,), _NOBODY, device=device)
        self.is_general = torch.zeros(size, dtype=torch.bool, device=device)

    def state(self) -> dict[str, Tensor]:
        """The tensors, by name; what is copied into them is taken up."""
        return vars(self)

    def put(self, images: Tensor, texts: Tensor, said: Said) -> None:
        """Keep a batch's features, unit rows [B, D], in place of the oldest batch's."""
        for kept, new in (
            (self.images, images.detach()),
            (self.texts, texts.detach()),
            (self.names, said.names),
            (self.is_general, said.is_general),
        ):
            if len(kept):
                kept.copy_(torch.cat([new, kept[: -len(new)]]))


def contrast(images: Tensor, texts: Tensor, scale: Tensor, said: Said, memory: Memory) -> Tensor:
    """CLIP's symmetric loss over a batch and the memory.

    A caption that two pictures of the batch share is a positive of both. What the memory holds of the same name is no
    negative, nor is a general caption, of whatever picture.

    Args:
        images: unit rows [B, D].
        texts: unit rows [B, D].
        scale: the logit scale.
        said: of the batch.
        memory: not changed.

    Returns:
        The loss in nats.
    """
    same = (said.tokens.unsqueeze(0) == said.tokens.unsqueeze(1)).all(dim=-1).float()
    targets = F.pad(same / same.sum(dim=1, keepdim=True), (0, len(memory.names)))
    hidden = (said.names.unsqueeze(1) == memory.names) | (memory.names == _NOBODY)
    no_texts = hidden | memory.is_general
    no_images = hidden | said.is_general.unsqueeze(1)
    # Masked last: a gradient of nothing times minus infinity would be no number.
    further = (scale * images @ memory.texts.T).masked_fill(no_texts, -torch.inf)
    of_images = torch.cat([scale * images @ texts.T, further], dim=1)
    further = (scale * texts @ memory.images.T).masked_fill(no_images, -torch.inf)
    of_texts = torch.cat([scale * texts @ images.T, further], dim=1)
    return (_soft_cross_entropy(of_images, targets) + _soft_cross_entropy(of_texts, targets)) / 2


def _soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over rows; a target of 0 at a logit of minus infinity counts nothing."""
    losses = -logits.log_softmax(dim=1)
    return losses.masked_fill(targets == 0, 0).mul(targets).sum(dim=1).mean()
