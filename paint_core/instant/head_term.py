"""A head term: what a closed-form patch adds to a version. It changes the answer for its names, in any list of labels.

The tower is not changed. A list without any of the names keeps its logits bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from paint_core.errors import DatasetError, WeightsMismatchError
from paint_core.instant.kernel import KernelFit, fit_kernel, squared_distances

MAX_SUPPORT = 4096
"""Most images of a term: the equation takes their number cubed, and each answer one product with all of them."""

MAX_NAMES = 1000
_METADATA = "paintbox_head_term"
_TENSORS = ("support", "labels", "head", "weights")
_LEAST_SHARE = 1e-4
_NEAREST = 1 - 1e-6
_ROWS_A_CHUNK = 4096


@dataclass(frozen=True, eq=False, repr=False)
class HeadTerm:
    """A fitted correction.

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
        )
        return term, fit

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
        return replace(self, names=names, support=support, labels=labels, head=head, weights=fit.weights.float())

    def apply(self, features: Tensor, logits: Tensor, classnames: Sequence[str], coefficient: float = 1.0) -> Tensor:
        """The corrected logits of a list of labels.

        With P the softmax of the list's logits, Q the zero-shot answer among all names of the term, h in [0, 1] how
        near an image is to the support, and a the coefficient, the fitted answer is G = k A + h Q, and m the sum of G
        over the names that the list holds. The probabilities become (1 - a m) P + a G for patched names and (1 - a m) P
        for others: an image like the support is judged among the term's names, and any other one keeps its answer, as
        does one of a patched class that the list does not hold.

        Args:
            features: [B, D], unit rows, of the tower that the term was fitted on.
            logits: [B, C'], zero-shot logits of the list.
            classnames: C' names of the list.
            coefficient: a; 0 changes nothing.

        Returns:
            float32 [B, C'], whose softmax are the probabilities; `logits` itself if nothing changes.
        """
        if coefficient == 0 or not self.concerns(classnames):
            return logits
        return self.blend(logits, self.fitted(features), classnames, coefficient)

    def concerns(self, classnames: Sequence[str]) -> bool:
        """Whether the term has any of these names."""
        return any(name in self._places for name in classnames)

    @torch.no_grad()
    def fitted(self, features: Tensor) -> Tensor:
        """The fitted answers G of `apply`, float32 [B, C], which depend neither on the list nor on the coefficient."""
        return torch.cat([self._fitted(part.float()) for part in torch.split(features, _ROWS_A_CHUNK)])

    @torch.no_grad()
    def blend(self, logits: Tensor, fitted: Tensor, classnames: Sequence[str], coefficient: float) -> Tensor:
        """What `apply` returns, from the fitted answers [B, C]; the list holds a name of the term."""
        known = self._places
        columns = [place for place, name in enumerate(classnames) if name in known]
        fitted, logits = fitted[:, [known[classnames[place]] for place in columns]], logits.float()
        share = (coefficient * fitted.sum(dim=1, keepdim=True)).clamp(0, _NEAREST)
        total = logits.logsumexp(dim=1, keepdim=True)
        before = (logits[:, columns] - total).exp()
        after = (1 - share) * before + coefficient * fitted
        corrected = logits + torch.log1p(-share)
        floor = (_LEAST_SHARE * before).clamp(min=torch.finfo(torch.float32).tiny)
        corrected[:, columns] = torch.maximum(after, floor).log() + total
        return corrected

    def to(self, device: torch.device | str) -> HeadTerm:
        """The same term, computing on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("support", "head", "weights")}
        return replace(self, **moved)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    def _fitted(self, features: Tensor) -> Tensor:
        kernel = torch.exp(-self.gamma * squared_distances(features, self.support))
        found = kernel @ self.weights
        near = found[:, -1:].clamp(0, 1)
        return found[:, :-1] + near * _prior(features, self.head, self.scale)


def save_head_term(term: HeadTerm) -> bytes:
    """The term as a safetensors file; the same term gives the same bytes."""
    tensors = {name: getattr(term, name).cpu().contiguous() for name in _TENSORS}
    numbers = {name: getattr(term, name) for name in ("scale", "gamma", "ridge", "tower")}
    described = {"names": list(term.names), **numbers}
    return save(tensors, {_METADATA: json.dumps(described)})  # one key: the order of several would vary


def load_head_term(path: Path) -> HeadTerm:
    """The term of a file.

    Raises:
        WeightsMismatchError: the file is not a head term, or its parts do not fit each other.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            if _METADATA not in metadata:
                raise WeightsMismatchError(f"{path.name[:12]} is not a head term: use the file that a patch stored")
            tensors = {name: stored.get_tensor(name) for name in _TENSORS}
    except SafetensorError as error:
        raise WeightsMismatchError(f"{path.name[:12]} is not readable: restore it from a backup") from error
    described = json.loads(metadata[_METADATA])
    term = HeadTerm(
        names=tuple(described["names"]),
        scale=float(described["scale"]),
        gamma=float(described["gamma"]),
        ridge=float(described["ridge"]),
        tower=str(described["tower"]),
        **tensors,
    )
    _require_whole(term)
    return term


def _require_whole(term: HeadTerm) -> None:
    count, classes = len(term.support), len(term.names)
    shapes = (tuple(term.labels.shape), tuple(term.head.shape), tuple(term.weights.shape))
    width = term.support.shape[-1]
    fits = term.support.ndim == 2 and shapes == ((count,), (classes, width), (count, classes + 1))
    if not fits or not 0 < count <= MAX_SUPPORT or not bool(torch.isfinite(term.weights).all()):
        raise WeightsMismatchError(f"the head term's tensors {shapes} do not fit each other: restore it from a backup")


def _prior(features: Tensor, head: Tensor, scale: float) -> Tensor:
    """The zero-shot probabilities [B, C] of unit features among the rows of a head."""
    return (scale * features.float() @ head.T).softmax(dim=1)
