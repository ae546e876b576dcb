"""How near an image is to the classes of a head term, by the scatter of their images.

With d the squared Mahalanobis distance to the nearest class mean, under the pooled and shrunk covariance, and r the
largest such distance of an image of the term that the statistics do not hold, n = sigmoid(20 (1 - d / r)): 1 where the
term's own images lie, 0 far from them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paint_core.errors import DatasetError
from paint_core.instant.gaussian import ClassStatistics

_STEEPNESS = 20.0
_MOST_NUMBERS = 1_000_000_000
"""Images times classes times dimensions that leave-one-out goes through: seconds."""


@dataclass(frozen=True, eq=False)
class Nearness:
    """Where the images of a term lie.

    Attributes:
        means: float32 [C, D], of the classes.
        precision: float32 [D, D], the inverse of the pooled covariance.
        reach: r, above 0.
    """

    means: Tensor
    precision: Tensor
    reach: float

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, num_classes: int) -> Nearness | None:
        """That of unit features [n, D] with labels int64 [n]; None if no class has images that differ."""
        statistics = ClassStatistics.pooled(features, labels, num_classes)
        judged = (statistics.counts[labels] > 1).nonzero()[:, 0]
        if not len(judged):
            return None
        most = max(1, _MOST_NUMBERS // statistics.means.numel())
        judged = judged[:: 1 + (len(judged) - 1) // most]
        try:
            _, distances = statistics.left_out(features[judged], labels[judged])
            precision = statistics.precision().float()
        except DatasetError:  # all images of each class are equal
            return None
        reach = float(distances.min(dim=1).values.max())
        return cls(statistics.means.float(), precision, reach) if reach > 0 else None

    def of(self, features: Tensor) -> Tensor:
        """The nearness of unit features [B, D], float32 [B, 1]."""
        return nearness(squared_distances(features, self.means, self.precision), self.reach)

    @property
    def num_bytes(self) -> int:
        """The memory of what it computes with."""
        return self.means.nbytes + self.precision.nbytes

    def to(self, device: torch.device | str) -> Nearness:
        """The same, computing on a device."""
        return replace(self, means=self.means.to(device), precision=self.precision.to(device))


def squared_distances(features: Tensor, means: Tensor, precision: Tensor) -> Tensor:
    """The squared Mahalanobis distances float32 [B, C] of features [B, D] to means [C, D], at least 0."""
    pushed = means @ precision
    own = ((features @ precision) * features).sum(dim=1, keepdim=True)
    return (own - 2 * features @ pushed.T + (pushed * means).sum(dim=1)).clamp_(min=0)


def nearness(distances: Tensor, reach: Tensor | float) -> Tensor:
    """n, float32 [B, 1], of squared distances [B, C] to all classes."""
    return torch.sigmoid(_STEEPNESS * (1 - distances.min(dim=1, keepdim=True).values / reach))
