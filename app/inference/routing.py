"""Which weights answer a list of labels, if the version routes by labels."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.inference.scoring import scores
from app.models.served_model import ServedModel
from app.serving.engine import Engine, Scored
from contract.routing import RouteName

_EPSILON = 1e-6
_EVEN = 0.5
"""Share of the patched weights in the score of a name that neither model recognises in any validation image."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Judged:
    """What a version says of images.

    Attributes:
        model: The version.
        scored: By the weights that answer; of a mixed list by the patched ones.
        route: Which weights answer; None: the version does not route.
        by_base: Of a mixed list, what the base says.
        patched_shares: Of a mixed list, the share of the patched weights in the score of each label, [C] in [0, 1].
    """

    model: ServedModel
    scored: Scored
    route: RouteName | None = None
    by_base: Scored | None = None
    patched_shares: Floats | None = None

    def scores(self, *, multi_label: bool) -> Floats:
        """Return the score of each label, [B, C] in [0, 1]; rows sum to 1 unless `multi_label`."""
        base = self.model.base
        both = [
            scores(each.cosines.numpy(), base.logit_scale, base.logit_bias, multi_label=multi_label)
            for each in (self.scored, self.by_base)
            if each is not None
        ]
        if self.patched_shares is None:
            return both[0]
        mixed = self.patched_shares * both[0] + (1 - self.patched_shares) * both[1]
        return mixed if multi_label else mixed / mixed.sum(axis=1, keepdims=True)

    def cosines(self) -> Floats:
        """Return the cosine of each label, [B, C]; of a mixed list the mean of both, weighted like the scores."""
        cosines: Floats = self.scored.cosines.numpy()
        if self.patched_shares is None or self.by_base is None:
            return cosines
        mixed: Floats = self.patched_shares * cosines + (1 - self.patched_shares) * self.by_base.cosines.numpy()
        return mixed


async def judge(
    engine: Engine,
    model: ServedModel,
    images: Sequence[bytes],
    classnames: tuple[str, ...],
    templates: tuple[str, ...],
    *,
    caller: str,
    deadline: float | None,
) -> Judged:
    """Return what a version says of images; errors as for `Engine.score`.

    A list without patched names is answered by the base, as the base's own version answers it; one of patched names
    only by the patched weights. On other lists both answer, and each label's score is their mean,
    weighted by how well they recognise the name: zero for the patched weights if the name was never patched (AnytimeCL,
    Zhu et al., ECCV 2024, of which this keeps the weights by name).
    """

    async def ask(asked: ServedModel) -> Scored:
        correct = asked.correction(classnames)
        return await engine.score(
            asked, images, classnames, templates, correct=correct, caller=caller, deadline=deadline
        )

    if model.routing is None:
        return Judged(model, await ask(model))
    known = [model.routing.names.get(name) for name in classnames]
    if not any(known):
        return Judged(model, await ask(model.routing.base), "base")
    if all(known):
        return Judged(model, await ask(model), "patched")
    patched, by_base = await asyncio.gather(ask(model), ask(model.routing.base))
    shares = [0.0 if each is None else _share(each.base, each.patched) for each in known]
    return Judged(model, patched, "mixed", by_base, np.array(shares, np.float32))


def _share(base: float, patched: float) -> float:
    return patched / (patched + base) if patched + base > _EPSILON else _EVEN
