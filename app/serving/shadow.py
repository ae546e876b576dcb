"""The shadow: a version that is asked what `active` was asked, whose answers nobody sees, and that is only counted.

It costs no request anything but a forward pass that is already under way: it starts once the answer is sent, its images
wait until no other image does, and what comes while it is busy is dropped.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray
from torch import Tensor

from app.serving.engine import Engine
from app.serving.model import ServedModel
from contract.versions import SHADOW_ALIAS

MAX_UNDER_WAY = 4
"""Requests whose comparison may be under way at once; each keeps its decoded images in memory."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Answered:
    """A request that `active` has answered.

    Attributes:
        model: Who answered.
        images: B encoded images.
        pixels: The same, decoded for that model.
        classnames: C labels.
        templates: Prompt templates.
        top: Index of the best label of each image.
    """

    model: ServedModel
    images: Sequence[bytes]
    pixels: NDArray[np.uint8]
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    top: Tensor


@dataclass(frozen=True)
class Tally:
    """How often a shadow and the version that answered said the same; it begins anew with another pair of them.

    Attributes:
        active: The version that answered.
        shadow: The one beside.
        agreed: Images of which both said the same label first.
        differed: Images of which they did not.
        dropped: Images that were not compared, because the shadow was busy or failed.
    """

    active: int
    shadow: int
    agreed: int = 0
    differed: int = 0
    dropped: int = 0

    @property
    def agreement(self) -> float | None:
        """Share of the compared images on which they agree; None before the first."""
        compared = self.agreed + self.differed
        return self.agreed / compared if compared else None


class Shadow:
    """Asks the shadow; used on the event loop's thread only.

    Args:
        engine: Holds it.
        share: Of the requests that are compared, in [0, 1].
    """

    def __init__(self, engine: Engine, share: float) -> None:
        self._engine = engine
        self._share = share
        self._tasks: set[asyncio.Task[None]] = set()
        self._tally: Tally | None = None

    @property
    def tally(self) -> Tally | None:
        """The figures of the present pair; None before anything was compared."""
        return self._tally

    async def offer(self, answered: Answered) -> None:
        """Compare the request, if there is a shadow, it is in the share, and not too many are under way.

        Args:
            answered: What was answered; call this after the answer is sent.
        """
        model = self._engine.secondary(SHADOW_ALIAS)
        if model is None or model is answered.model or random.random() >= self._share:
            return
        if len(self._tasks) >= MAX_UNDER_WAY:
            return self._count(answered, model, dropped=len(answered.images))
        task = asyncio.create_task(self._compare(answered, model))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()

    async def _compare(self, answered: Answered, model: ServedModel) -> None:
        try:
            is_alike = model.base.fingerprint == answered.model.base.fingerprint
            images = answered.pixels if is_alike else answered.images
            top = await self._engine.best_labels(model, images, answered.classnames, answered.templates)
        except Exception as error:  # an edge: nobody waits for this answer
            _log.warning("shadow failed", version=model.version_id, error=f"{type(error).__name__}: {error}")
            return self._count(answered, model, dropped=len(answered.images))
        agreed = int((top == answered.top).sum())
        self._count(answered, model, agreed=agreed, differed=len(top) - agreed)

    def _count(
        self, answered: Answered, model: ServedModel, *, agreed: int = 0, differed: int = 0, dropped: int = 0
    ) -> None:
        pair = (answered.model.version_id, model.version_id)
        before = self._tally
        if before is None or (before.active, before.shadow) != pair:
            before = Tally(*pair)
        self._tally = Tally(*pair, before.agreed + agreed, before.differed + differed, before.dropped + dropped)
