"""A head term: what a closed-form patch adds to a version. It changes the answer for its names, in any list of labels.

The tower is not changed. A list without any of the names keeps its logits bit for bit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paint_core.errors import DatasetError, WeightsMismatchError
from paint_core.instant.correction import CorrectingTerm
from paint_core.instant.kernel import KernelFit, fit_kernel, squared_distances
from paint_core.instant.nearness import Nearness

MAX_SUPPORT = 4096
"""Most images of a term: the equation takes their number cubed, and each answer one product with all of them."""

MAX_NAMES = 1000


@dataclass(frozen=True, eq=False, repr=False)
class HeadTerm(CorrectingTerm):
    """A fitted correction that holds the features of its images.

    Attributes:
        names: C different classnames.
        support: float32 [n, D], unit features of the images under the tower that the term was fitted on.
        labels: int64 [n], indices of `names`.
        head: float32 [C, D], the zero-shot head of `names`.
        scale: the base's logit scale.
        weights: float32 [n, C + 1], from `KernelFit`.
        gamma: of the kernel.
        ridge: lambda.
        tower: fingerprint of the image tower whose features the support holds.
        near: where the images lie; None: every class has one image, or an earlier release fitted the term.
    """

    names: tuple[str, ...]
    support: Tensor
    labels: Tensor
    head: Tensor
    scale: float
    weights: Tensor
    gamma: float
    ridge: float
    tower: str
    near: Nearness | None = None

    def __repr__(self) -> str:
        return f"HeadTerm({len(self.names)} names, {len(self.support)} images, gamma={self.gamma:.3g})"

    @classmethod
    def fit(
        cls, names: Sequence[str], support: Tensor, labels: Tensor, head: Tensor, scale: float, tower: str
    ) -> tuple[HeadTerm, KernelFit]:
        """The term of these images, and its fit; arguments as the attributes.

        Raises:
            DatasetError: shapes that do not fit, or too many images or names.
        """
        if len(support) > MAX_SUPPORT or len(names) > MAX_NAMES:
            raise DatasetError(
                f"{len(support)} images of {len(names)} classes: give at most {MAX_SUPPORT} and {MAX_NAMES}"
            )
        fit = fit_kernel(support, labels, _prior(support, head, scale))
        term = cls(
            tuple(names),
            support.float(),
            labels,
            head.float().cpu(),
            scale,
            fit.weights.float(),
            fit.gamma,
            fit.ridge,
            tower,
            Nearness.fit(support.float(), labels, len(names)),
        )
        return term, fit

    @property
    def width(self) -> int:
        """D, the number of dimensions of its features."""
        return self.support.shape[1]

    @property
    def num_images(self) -> int:
        """How many images it holds the features of."""
        return len(self.support)

    @property
    def num_bytes(self) -> int:
        """The memory of what it computes with."""
        near = self.near.num_bytes if self.near else 0
        return self.support.nbytes + self.weights.nbytes + self.head.nbytes + near

    def without_classes(self, names: Collection[str]) -> HeadTerm:
        """The term without the images of these classes; errors as for `without`."""
        gone = torch.tensor([name in names for name in self.names])[self.labels]
        return self.without(gone) if bool(gone.any()) else self

    def without(self, rows: Tensor) -> HeadTerm:
        """The term without these images, solved again with the same gamma and lambda; no image is needed.

        Args:
            rows: bool [n], the images to remove; classes that lose all images are removed, too.

        Raises:
            DatasetError: none would be left.
        """
        kept = ~rows
        if not bool(kept.any()):
            raise DatasetError("no image would be left: remove the whole term instead")
        present = torch.bincount(self.labels[kept], minlength=len(self.names)) > 0
        places = present.cumsum(0) - 1
        return self._solved(
            tuple(name for name, stays in zip(self.names, present.tolist(), strict=True) if stays),
            self.support[kept],
            places[self.labels[kept]],
            self.head[present],
        )

    def _solved(self, names: tuple[str, ...], support: Tensor, labels: Tensor, head: Tensor) -> HeadTerm:
        prior = _prior(support, head, self.scale)
        fit = fit_kernel(support, labels, prior, gamma=self.gamma, ridge=self.ridge)
        near = self.near and Nearness.fit(support, labels, len(names))
        weights = fit.weights.float()
        return replace(self, names=names, support=support, labels=labels, head=head, weights=weights, near=near)

    def to(self, device: torch.device | str) -> HeadTerm:
        """The same term, computing on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("support", "head", "weights")}
        return replace(self, **moved, near=self.near and self.near.to(device))

    def _fitted(self, features: Tensor) -> Tensor:
        """G = n (k A + h Q), with Q the zero-shot answer among the names.

        h in [0, 1] says by the kernel how near an image is to the support, n by the scatter of its classes.
        """
        kernel = torch.exp(-self.gamma * squared_distances(features, self.support))
        found = kernel @ self.weights
        answers = found[:, :-1] + found[:, -1:].clamp(0, 1) * _prior(features, self.head, self.scale)
        return answers if self.near is None else self.near.of(features) * answers


def _prior(features: Tensor, head: Tensor, scale: float) -> Tensor:
    """The zero-shot probabilities [B, C] of unit features among the rows of a head."""
    return (scale * features.float() @ head.T).softmax(dim=1)


def require_whole(term: HeadTerm) -> None:
    """Refuses a term whose parts do not fit each other.

    Raises:
        WeightsMismatchError: they do not.
    """
    count, classes = len(term.support), len(term.names)
    shapes = (tuple(term.labels.shape), tuple(term.head.shape), tuple(term.weights.shape))
    width = term.support.shape[-1]
    fits = term.support.ndim == 2 and shapes == ((count,), (classes, width), (count, classes + 1))
    if term.near is not None:
        fits &= (tuple(term.near.means.shape), tuple(term.near.precision.shape)) == ((classes, width), (width, width))
        fits &= bool(torch.isfinite(term.near.precision).all()) and term.near.reach > 0
    if not fits or not 0 < count <= MAX_SUPPORT or not bool(torch.isfinite(term.weights).all()):
        raise WeightsMismatchError(f"the head term's tensors {shapes} do not fit each other: restore it from a backup")
