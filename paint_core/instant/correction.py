"""What head terms of every form do with the logits of a list of labels, once they know what they say of their names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

_LEAST_SHARE = 1e-4
_NEAREST = 1 - 1e-6
_ROWS_A_CHUNK = 4096


class CorrectingTerm(ABC):
    """A fitted correction, which changes the answer for its names in any list of labels.

    Attributes:
        names: C different classnames.
        tower: fingerprint of the image tower on whose features the term was fitted.
    """

    names: tuple[str, ...]
    tower: str

    def apply(self, features: Tensor, logits: Tensor, classnames: Sequence[str], coefficient: float = 1.0) -> Tensor:
        """The corrected logits of a list of labels.

        With P the softmax of the list's logits, G the fitted answer, whose sum over all names is 1 near the images of
        the term and 0 far from them, a the coefficient, and m the sum of G over the names that the list holds, the
        probabilities become (1 - a m) P + a G for patched names and (1 - a m) P for others: an image like those of the
        term is judged among the term's names, and any other one keeps its answer, as does one of a patched class that
        the list does not hold.

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

    @abstractmethod
    def _fitted(self, features: Tensor) -> Tensor:
        """G of float32 features [b, D], float32 [b, C]."""

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {name: place for place, name in enumerate(self.names)}
