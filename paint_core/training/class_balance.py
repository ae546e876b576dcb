"""Classes with different numbers of images: drawing all of them equally often, or weighting their losses.

With either, a training set whose classes have 10 and 1,000 images is learned as if they had equally many. Drawing shows
the few images of a rare class more often, weighting lets each of them count more; the second costs nothing where all
classes have the same number of images, and its steps are noisier where they do not (Kang et al., *Decoupling
representation and classifier for long-tailed recognition*, ICLR 2020, compare both).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from paint_core.runtime.randomness import batch_indices, generator


@dataclass(frozen=True, eq=False)
class ClassSampler:
    """Draws every class that has images equally often, and the images of a class equally often.

    An epoch holds as many images of each class, about as many in all as there are.

    Attributes:
        order: int64 [N], the images, class by class, shuffled within a class.
        starts: int64 [C], where a class begins in `order`.
        sizes: int64 [C], images of a class, >= 1.
    """

    order: Tensor
    starts: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, labels: Tensor, seed: int) -> "ClassSampler":
        """The sampler of labels, int64 [N], N >= 1."""
        labels = labels.cpu()
        shuffled = torch.randperm(len(labels), generator=generator("classes", seed, 0))
        order = shuffled[torch.sort(labels[shuffled], stable=True).indices]
        counts = torch.bincount(labels)
        sizes = counts[counts > 0]
        return cls(order, sizes.cumsum(0) - sizes, sizes)

    def indices(self, step: int, batch_size: int, seed: int) -> Tensor:
        """The images of one step, int64 [B]; a function of (step, seed) as `batch_indices` is."""
        num_classes = len(self.sizes)
        images_each = -(-len(self.order) // num_classes)
        length = num_classes * images_each
        positions = batch_indices(step, length, batch_size, seed)
        epochs = torch.arange(step * batch_size, (step + 1) * batch_size) // length
        classes = positions % num_classes
        turns = epochs * images_each + positions // num_classes
        return self.order[self.starts[classes] + turns % self.sizes[classes]]


def loss_weights(labels: Tensor) -> Tensor:
    """The weight of each image's loss, float32 [N]: classes weigh the same in all, and the mean weight is 1."""
    counts = torch.bincount(labels)
    return (len(labels) / (int((counts > 0).sum()) * counts[labels])).float()
