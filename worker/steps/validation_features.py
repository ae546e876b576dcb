"""The features of validation images before and after a patch, which several things that registration records need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from paint_core.data import Task
from paint_core.evaluation import encode
from paint_core.evaluation.feature_cache import FeatureCache, features_key
from paint_core.models import BaseModel


@dataclass(frozen=True, eq=False)
class ValidationFeatures:
    """Features, each encoded once, when it is first asked for.

    Attributes:
        visual: The patched image tower, on the base's device; None: it is the base's.
        base: Its base.
        tasks: By data set id.
        cache: Has those of the base from the search for alpha, if it has room for them.
    """

    visual: nn.Module | None
    base: BaseModel
    tasks: Mapping[str, Task]
    cache: FeatureCache
    _before: dict[str, Tensor] = field(default_factory=dict)
    _after: dict[str, Tensor] = field(default_factory=dict)

    def before(self, name: str) -> Tensor:
        """Return the base's features of a task's validation images, float32 [N, D], not of unit length."""
        if name not in self._before:
            images, base = self.tasks[name].validation.images, self.base

            def compute() -> Tensor:
                return encode(base.visual, images, base.preprocess, device=base.device)

            key = features_key(base, images, "fp32", base.device)
            self._before[name] = self.cache.features(key, compute).to(base.device)
        return self._before[name]

    def after(self, name: str) -> Tensor:
        """Return the patched tower's features of a task's validation images, as `before` does."""
        if self.visual is None:
            return self.before(name)
        if name not in self._after:
            images, base = self.tasks[name].validation.images, self.base
            self._after[name] = encode(self.visual, images, base.preprocess, device=base.device)
        return self._after[name]
