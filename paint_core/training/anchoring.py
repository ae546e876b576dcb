"""Anchored fine-tuning: unlabelled images hold the features in place while the head is fitted.

loss = cross-entropy + anchor_weight * mean over anchor images of (1 - cos(f_theta(x), f_theta_0(x))).

The interpolation of PAINT repairs forgetting afterwards; anchors prevent it, and both go together. Learning without
forgetting (Li and Hoiem, arXiv 1606.09282) holds the outputs of the old model on images of the new task; ZSCL (Zheng et
al., ICCV 2023, arXiv 2303.06628) holds CLIP's softmax over a list of texts on a pool of reference images. Holding the
image features themselves needs no texts.

theta_0's features are computed once, from whole images. So the anchors of a step are whole images too: a crop would
not have the features that it is compared with.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from paint_core.data import LabelledImages
from paint_core.errors import DatasetError, EmptySplitError


class AnchorLoss(Protocol):
    """What holds the tower in place, as a loss on the features of anchor images."""

    def targets(self, features: Tensor) -> Tensor:
        """The targets of the loss, [M, ...]: one row per anchor image.

        Args:
            features: [M, D] of theta_0, not of unit length.
        """

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """How far the features have moved.

        Args:
            features: [B, D] of theta, not of unit length.
            targets: the rows of `targets` of the same images.

        Returns:
            A scalar >= 0, the mean over the images; 0 for theta_0.
        """


class FeatureAnchor:
    """Holds the direction of each image's features: mean(1 - cosine)."""

    def targets(self, features: Tensor) -> Tensor:
        """The unit features [M, D]."""
        return F.normalize(features, dim=-1)

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """The mean of 1 - cosine, in [0, 2]."""
        return 1 - (F.normalize(features.to(targets.dtype), dim=-1) * targets).sum(dim=-1).mean()


FEATURE_ANCHOR = FeatureAnchor()


def require_anchors(anchors: Tensor, image_size: int) -> None:
    """Refuses a pool that the tower cannot read.

    Raises:
        DatasetError: another dtype or shape.
        EmptySplitError: no image.
    """
    if anchors.dtype != torch.uint8 or anchors.ndim != 4 or tuple(anchors.shape[1:]) != (image_size, image_size, 3):
        raise DatasetError(
            f"anchors are {anchors.dtype} {list(anchors.shape)}: give uint8 [M, {image_size}, {image_size}, 3], "
            "decoded by the base's preprocessing"
        )
    if len(anchors) == 0:
        raise EmptySplitError("the pool of anchor images is empty: add images, or set anchor_weight to 0")


def drop_evaluation_images(anchors: Tensor, *splits: LabelledImages) -> Tensor:
    """The pool without the images that are in one of the splits, pixel for pixel.

    Anchoring on an evaluation image is training on it, and makes its score meaningless. Pool and splits must be decoded
    by the same preprocessing. The result keeps the order and may be empty.
    """
    evaluated = {digest for split in splits for digest in _digests(split.images)}
    keep = [index for index, digest in enumerate(_digests(anchors)) if digest not in evaluated]
    return anchors[torch.tensor(keep, dtype=torch.int64)]


def _digests(images: Tensor) -> Sequence[bytes]:
    return [hashlib.blake2b(image.contiguous().numpy().data, digest_size=16).digest() for image in images.cpu()]
