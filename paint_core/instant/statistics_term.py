"""A head term that holds statistics of its classes and no image's features.

With G the posterior of class Gaussians (`gaussian.py`), n(z) says how near an image is to the classes: with d the
squared distance to the nearest one, and r the largest such distance of an image of the term that its statistics do not
hold, n = sigmoid(20 (1 - d / r)). An image as near as those is judged among the term's names; others keep their answer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from paint_core.errors import DatasetError, WeightsMismatchError
from paint_core.instant.correction import CorrectingTerm
from paint_core.instant.gaussian import ClassStatistics
from paint_core.instant.nearness import nearness, squared_distances

MAX_STATISTICS_BYTES = 256 << 20
"""Largest size of the statistics of a term; with D = 512, they are 0.5 MiB a class."""

MAX_LEFT_OUT = 4096
"""Most images that leave-one-out judges; of more, some are drawn."""


@dataclass(frozen=True)
class StatisticsFit:
    """How well statistics tell images apart.

    Attributes:
        num_left_out: images that leave-one-out judged: new ones of classes with several.
        num_right: of these, the ones that the statistics of all other images classify correctly.
    """

    num_left_out: int
    num_right: int

    @property
    def accuracy(self) -> float | None:
        """The leave-one-out accuracy in [0, 1]; None if no image was judged."""
        return self.num_right / self.num_left_out if self.num_left_out else None


@dataclass(frozen=True, eq=False, repr=False)
class StatisticsTerm(CorrectingTerm):
    """A fitted correction without features of images.

    Attributes:
        names: C different classnames.
        statistics: of their images; None in a term that only computes (`to`).
        counts: int64 [C], images by class.
        means: float32 [C, D].
        precision: float32 [D, D], Sigma^-1.
        reaches: float32 [C], the largest squared distance of an image of the class, left out, to the nearest class; 0
            where none was judged.
        tower: fingerprint of the image tower whose features they describe.
    """

    names: tuple[str, ...]
    statistics: ClassStatistics | None
    counts: Tensor
    means: Tensor
    precision: Tensor
    reaches: Tensor
    tower: str

    def __repr__(self) -> str:
        return f"StatisticsTerm({len(self.names)} names, {self.num_images} images)"

    @classmethod
    def fit(
        cls,
        names: Sequence[str],
        features: Tensor,
        labels: Tensor,
        tower: str,
        start: StatisticsTerm | None = None,
    ) -> tuple[StatisticsTerm, StatisticsFit]:
        """The term of these images and those that `start` has seen, and how well it tells the new ones apart.

        Args:
            names: C different classnames, those of `start` among them.
            features: [n, D], unit rows; n may be 0 with `start`.
            labels: int64 [n], indices of `names`.
            tower: as the attribute.
            start: an earlier term.

        Raises:
            DatasetError: a class has no image, all images of each class are equal, or the statistics are too large.
        """
        width = features.shape[1]
        if 4 * len(names) * width * (width + 1) // 2 > MAX_STATISTICS_BYTES:
            raise DatasetError(
                f"statistics of {len(names)} classes in {width} dimensions are more than {MAX_STATISTICS_BYTES >> 20} "
                "MiB: patch fewer classes, or keep features"
            )
        statistics = ClassStatistics.of(features, labels, len(names))
        reaches = torch.zeros(len(names))
        if start is not None:
            assert start.statistics is not None  # as a stored term has it
            places = torch.tensor([list(names).index(name) for name in start.names])
            statistics = start.statistics.at(places, len(names)) + statistics
            reaches[places] = start.reaches
        fit, found = _leave_out(statistics, features, labels)
        return cls._of(tuple(names), statistics, torch.maximum(reaches, found), tower), fit

    @classmethod
    def _of(cls, names: tuple[str, ...], statistics: ClassStatistics, reaches: Tensor, tower: str) -> StatisticsTerm:
        precision = statistics.precision().float()
        return cls(names, statistics, statistics.counts, statistics.means, precision, reaches, tower)

    @property
    def width(self) -> int:
        """D, the number of dimensions of its features."""
        return self.means.shape[1]

    @property
    def num_images(self) -> int:
        """How many images it has seen."""
        return int(self.counts.sum())

    @property
    def num_bytes(self) -> int:
        """The memory of what it computes with."""
        return self.means.nbytes + self.precision.nbytes

    def without_classes(self, names: Collection[str]) -> StatisticsTerm:
        """The term without these classes: nothing of their images is left in it.

        Raises:
            DatasetError: no class would be left, or only images that are equal.
        """
        assert self.statistics is not None  # as a stored term has it
        kept = torch.tensor([name not in names for name in self.names])
        if not bool(kept.any()):
            raise DatasetError("no image would be left: remove the whole term instead")
        left = tuple(name for name in self.names if name not in names)
        return self._of(left, self.statistics.of_classes(kept), self.reaches[kept], self.tower)

    def to(self, device: torch.device | str) -> StatisticsTerm:
        """The same term, computing on a device; it cannot be continued, because it leaves its scatters behind."""
        moved = {name: getattr(self, name).to(device) for name in ("counts", "means", "precision", "reaches")}
        return replace(self, statistics=None, **moved)

    def _fitted(self, features: Tensor) -> Tensor:
        """N G, float32 [B, C]."""
        distances = squared_distances(features, self.means, self.precision)
        posterior = (self._log_shares - distances / 2).softmax(dim=1)
        return nearness(distances, self.reaches.max()) * posterior

    @cached_property
    def _log_shares(self) -> Tensor:
        return (self.counts.float() / self.counts.sum()).log()


def require_whole(term: StatisticsTerm) -> None:
    """Refuses a term whose parts do not fit each other.

    Raises:
        WeightsMismatchError: they do not.
    """
    assert term.statistics is not None  # the reader gives it
    classes, width = len(term.names), term.means.shape[-1]
    shapes = [
        tuple(each.shape) for each in (term.counts, term.means, term.precision, term.reaches, term.statistics.scatters)
    ]
    wanted = [(classes,), (classes, width), (width, width), (classes,), (classes, width * (width + 1) // 2)]
    if not classes or shapes != wanted or not bool(torch.isfinite(term.precision).all()):
        raise WeightsMismatchError(f"the head term's tensors {shapes} do not fit each other: restore it from a backup")


def _leave_out(statistics: ClassStatistics, features: Tensor, labels: Tensor) -> tuple[StatisticsFit, Tensor]:
    """How well each image is classified by the others, and the largest distance of an image by class [C]."""
    reaches = torch.zeros(len(statistics.counts))
    judged = (statistics.counts[labels] > 1).nonzero()[:, 0]
    judged = judged[:: 1 + (len(judged) - 1) // MAX_LEFT_OUT] if len(judged) else judged
    if not len(judged):
        return StatisticsFit(0, 0), reaches
    logits, distances = statistics.left_out(features[judged], labels[judged])
    reaches.scatter_reduce_(0, labels[judged], distances.min(dim=1).values.float(), "amax")
    right = int((logits.argmax(dim=1) == labels[judged]).sum())
    return StatisticsFit(len(judged), right), reaches
