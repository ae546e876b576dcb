"""Class statistics that add up, and what they say of an image (GDA, Wang et al., ICLR 2024).

With class means mu_c, the pooled covariance S of n images in D dimensions and the shrinkage of Kubokawa and Srivastava
(2008), Sigma = [(n - 1) S + tr(S) I] / (n - 1 + D), the squared distance of z to class c is
d_c(z) = (z - mu_c)^T Sigma^-1 (z - mu_c), and the logit of the class is log pi_c - d_c(z) / 2. Only the statistics need
to be kept, no image and no feature of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from paint_core.errors import DatasetError

_NUMBERS_A_CHUNK = 1 << 22
_LEAST_SPREAD = 1e-10  # of an image, squared; below it, scatters are rounding errors


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Counts, means and scatters of labelled features; those of two sets of images add up.

    Attributes:
        counts: int64 [C], number of images by class.
        means: float32 [C, D]; zeros where there is no image.
        scatters: float32 [C, D (D + 1) / 2]: the upper triangle, row by row, of the sum of (z - mu_c) (z - mu_c)^T over
            the images of each class.
    """

    counts: Tensor
    means: Tensor
    scatters: Tensor

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, num_classes: int) -> ClassStatistics:
        """The statistics of unit features [n, D] with int64 labels [n]."""
        width = features.shape[1]
        rows, columns = _triangle(width)
        means = torch.zeros(num_classes, width)
        scatters = torch.zeros(num_classes, len(rows))
        for label in sorted(set(labels.tolist())):
            own = features[labels == label].double()
            means[label] = own.mean(dim=0)
            centred = own - means[label]
            scatters[label] = (centred.T @ centred)[rows, columns]
        return cls(torch.bincount(labels, minlength=num_classes), means, scatters)

    @classmethod
    def pooled(cls, features: Tensor, labels: Tensor, num_classes: int) -> ClassStatistics:
        """The same with one scatter for all classes, [1, D (D + 1) / 2]: enough for distances, not to add up."""
        width = features.shape[1]
        counts = torch.bincount(labels, minlength=num_classes)
        sums = torch.zeros(num_classes, width, dtype=torch.float64).index_add_(0, labels, features.double())
        means = sums / counts.clamp(min=1)[:, None]
        centred = features.double() - means[labels]
        rows, columns = _triangle(width)
        return cls(counts, means.float(), (centred.T @ centred)[rows, columns].float()[None])

    def __add__(self, other: ClassStatistics) -> ClassStatistics:
        """Those of both sets of images (Chan, Golub and LeVeque, 1979)."""
        counts = self.counts + other.counts
        first, second = self.counts[:, None].double(), other.counts[:, None].double()
        whole = counts[:, None].double().clamp(min=1)
        step = other.means.double() - self.means.double()
        rows, columns = _triangle(self.means.shape[1])
        between = first * second / whole
        scatters = self.scatters.clone()
        for place in range(len(counts)):  # one class at a time: a triangle may be large
            scatters[place] += other.scatters[place]
            scatters[place] += (between[place] * step[place, rows] * step[place, columns]).float()
        means = (first * self.means + second * other.means) / whole
        return ClassStatistics(counts, means.float(), scatters)

    def at(self, places: Tensor, num_classes: int) -> ClassStatistics:
        """The same classes at other places, int64 [C], among `num_classes`; the others have no image."""
        moved = [
            torch.zeros(num_classes, *each.shape[1:], dtype=each.dtype).index_copy_(0, places, each)
            for each in (self.counts, self.means, self.scatters)
        ]
        return ClassStatistics(*moved)

    def of_classes(self, kept: Tensor) -> ClassStatistics:
        """Those of some classes, bool [C]."""
        return ClassStatistics(self.counts[kept], self.means[kept], self.scatters[kept])

    def precision(self) -> Tensor:
        """Sigma^-1, float64 [D, D].

        Raises:
            DatasetError: a class has no image, or all images of each class are equal.
        """
        if not bool((self.counts > 0).all()):
            raise DatasetError("a class has no image: leave it out, or add one")
        scatter, count, width = self._scatter(), int(self.counts.sum()), self.means.shape[1]
        shrunk = (count - 1) / count * scatter + scatter.trace() / count * torch.eye(width, dtype=torch.float64)
        inverse: Tensor = torch.linalg.inv(shrunk)
        return (count - 1 + width) * inverse

    def left_out(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What the statistics of all other images say of each image, without computing them n times.

        The scatter without an image is a rank-one downdate, and its shrinkage shifts all eigenvalues by the same
        amount, so one eigendecomposition and the formula of Sherman and Morrison give the exact inverse of each.

        Args:
            features: [n, D], unit rows, of images that these statistics hold, each of a class with several.
            labels: int64 [n].

        Returns:
            The logits and the squared distances, both float64 [n, C].

        Raises:
            DatasetError: all images of each class are equal.
        """
        values, basis = torch.linalg.eigh(self._scatter())
        centres, rotated = self.means.double() @ basis, features.double() @ basis
        size = max(1, _NUMBERS_A_CHUNK // centres.numel())
        chunks = zip(torch.split(rotated, size), torch.split(labels, size), strict=True)
        found = [self._left_out(values, centres, *chunk) for chunk in chunks]
        logits, distances = (torch.cat(each) for each in zip(*found, strict=True))
        return logits, distances

    def _left_out(self, values: Tensor, centres: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        counts, places = self.counts.double(), torch.arange(len(labels))
        total, width = float(counts.sum()) - 1, images.shape[1]
        factors = (counts / (counts - 1))[labels][:, None]
        steps = images - centres[labels]
        traces = values.sum() - factors * steps.square().sum(dim=1, keepdim=True)
        diagonal = ((total - 1) / total * values + traces / total) / (total - 1 + width)
        push = (total - 1) / total / (total - 1 + width) * factors
        solved = steps / diagonal
        rest = push / (1 - push * (steps * solved).sum(dim=1, keepdim=True))
        apart = images[:, None] - centres
        apart[places, labels] = factors * steps
        plain = (apart.square() / diagonal[:, None]).sum(dim=2)
        distances = plain + rest * (apart @ solved[:, :, None])[:, :, 0].square()
        others = counts.repeat(len(labels), 1)
        others[places, labels] -= 1
        return (others / total).log() - distances / 2, distances

    def _scatter(self) -> Tensor:
        """The pooled scatter, float64 [D, D]."""
        width = self.means.shape[1]
        rows, columns = _triangle(width)
        scatter = torch.zeros(width, width, dtype=torch.float64)
        scatter[rows, columns] = self.scatters.sum(dim=0, dtype=torch.float64)
        if float(scatter.trace()) < _LEAST_SPREAD * int(self.counts.sum()):
            raise DatasetError("the images of each class are equal, or one: add different ones")
        return scatter + scatter.triu(1).T


def _triangle(width: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.triu_indices(width, width)
    return rows, columns
