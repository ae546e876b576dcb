"""From the stored terms of a version to its head terms, which correct answers, and what identifies its answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from paint_core.errors import WeightsMismatchError
from paint_core.instant import HeadTerm, StatisticsTerm, load_head_term
from paint_core.models import BaseModel
from registry.blobs import BlobStore
from registry.versions import TermSpec


@dataclass(frozen=True, eq=False)
class Heads:
    """The head terms of a version, in their order.

    Attributes:
        scale: The base's logit scale.
        terms: Each with its coefficient.
    """

    scale: float
    terms: tuple[tuple[HeadTerm | StatisticsTerm, float], ...] = ()
    _names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        names = frozenset(name for term, _ in self.terms for name in term.names)
        object.__setattr__(self, "_names", names)

    @property
    def num_bytes(self) -> int:
        """The memory of what they compute with."""
        return sum(term.num_bytes for term, _ in self.terms)

    def concern(self, classnames: Sequence[str]) -> bool:
        """Return whether any of these labels is corrected."""
        return not self._names.isdisjoint(classnames)

    def correct(self, features: Tensor, logits: Tensor, classnames: Sequence[str]) -> Tensor:
        """Return the corrected logits [B, C] of unit features [B, D]."""
        for term, coefficient in self.terms:
            logits = term.apply(features, logits, classnames, coefficient)
        return logits

    def correct_cosines(self, features: Tensor, cosines: Tensor, classnames: Sequence[str]) -> Tensor:
        """Return cosines [B, C] from which the base's scale makes the corrected logits."""
        if not self.concern(classnames):
            return cosines
        return self.correct(features, self.scale * cosines, classnames) / self.scale


def load_heads(
    base: BaseModel, terms: Sequence[TermSpec], blobs: BlobStore, device: torch.device | None = None
) -> Heads:
    """Return the head terms among the terms of a version; each file is verified.

    Args:
        device: Where they compute; None: the base's.

    Raises:
        WeightsMismatchError: A file is damaged, or is a term of another base.
    """
    loaded = []
    for spec in terms:
        if not spec.is_head or not spec.coefficient:
            continue
        term = load_head_term(blobs.fetch(spec.task_vector_sha256))
        if term.width != base.embed_dim:
            raise WeightsMismatchError(
                f"the head term {spec.task_vector_sha256[:12]} has features of {term.width} numbers and the "
                f"base of {base.embed_dim}: use it with its own base"
            )
        loaded.append((term.to(device or base.device), spec.coefficient))
    return Heads(base.logit_scale, tuple(loaded))


def require_heads_fit(heads: Heads, tower_fingerprint: str) -> None:
    """Refuse head terms that were fitted to the features of other weights.

    Raises:
        WeightsMismatchError: One was.
    """
    for term, _ in heads.terms:
        if term.tower != tower_fingerprint:
            raise WeightsMismatchError(
                f"the head term for {', '.join(term.names[:3])} was fitted to the features of other weights "
                f"({term.tower[:12]}, not {tower_fingerprint[:12]}): leave it out, or combine it with the "
                "weights that it was fitted on"
            )


def answers_fingerprint(tower_fingerprint: str, terms: Sequence[TermSpec]) -> str:
    """Return what identifies the answers of a version: its tower's fingerprint, and its head terms if it has any."""
    heads = [(each.task_vector_sha256, each.coefficient) for each in terms if each.is_head and each.coefficient]
    if not heads:
        return tower_fingerprint
    return hashlib.sha256(json.dumps([tower_fingerprint, heads]).encode()).hexdigest()
