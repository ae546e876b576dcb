"""Runs the version of alias `shadow` on what `active` has answered, and counts how often the two agree.

It starts once the answer is sent, its images have low priority, and requests that come while it is busy are dropped. So
a request waits for it no longer than for one forward pass.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog
from numpy.typing import NDArray
from torch import Tensor

from app.models.served_model import ServedModel
from app.serving.engine import Engine
from app.serving.request import InferenceRequest

MAX_UNDER_WAY = 4
"""Requests that may be compared at once; each keeps its decoded images in memory."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Answered:
    """A request that `active` has answered.

    Attributes:
        model: The version that answered.
        images: B encoded images.
        pixels: The same, decoded for that model.
        classnames: C labels.
        templates: Prompt templates.
        top: Index of the best label of each image.
        owner: Name of the key that sent the images.
        may_be_kept: Whether images on which the two disagree may be kept to be labelled.
    """

    model: ServedModel
    images: Sequence[bytes]
    pixels: NDArray[np.uint8]
    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    top: Tensor
    owner: str | None = None
    may_be_kept: bool = False


@dataclass(frozen=True)
class Tally:
    """How often a shadow agreed with the active version; the count starts again with another pair of versions.

    Attributes:
        active: The version that answered.
        shadow: The version in shadow.
        agreed: Images for which both rank the same label first.
        differed: Images for which they do not.
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
    """Runs requests in shadow. To be used on the event loop's thread only.

    Args:
        engine: Runs them.
        find_model: Returns the version in shadow, if there is one.
        share: Share of the requests that run in shadow, in [0, 1].
        on_difference: Called with a request on which the two disagree, the version in shadow, and its best labels.
    """

    def __init__(
        self,
        engine: Engine,
        find_model: Callable[[], ServedModel | None],
        share: float,
        on_difference: Callable[[Answered, int, Sequence[int]], object] = lambda answered, version_id, top: None,
    ) -> None:
        self._engine = engine
        self._on_difference = on_difference
        self._find_model = find_model
        self._share = share
        self._tasks: set[asyncio.Task[None]] = set()
        self.tally: Tally | None = None  # of the present pair of versions

    async def offer(self, answered: Answered) -> None:
        """Compare a request whose answer has been sent, if it falls into the share and not too many are in progress."""
        model = self._find_model()
        if model is None or model is answered.model or random.random() >= self._share:
            return
        if len(self._tasks) >= MAX_UNDER_WAY:
            return self._count(answered, model, dropped=len(answered.images))
        task = asyncio.create_task(self._compare(answered, model))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Cancel what is in progress."""
        for task in self._tasks:
            task.cancel()

    async def _compare(self, answered: Answered, model: ServedModel) -> None:
        try:
            if model.base.fingerprint == answered.model.base.fingerprint:
                request = InferenceRequest(model, answered.pixels, low_priority=True)
            else:
                request = InferenceRequest.of_images(model, answered.images, low_priority=True)
            heads = self._engine.heads
            request.head = heads.get(model.base, answered.classnames, answered.templates, request.answer)
            request.correct = model.correction(answered.classnames)
            answer = await self._engine.answer(request)
            assert answer.cosines is not None
            top = answer.cosines.argmax(dim=1)
        except Exception as error:  # nobody waits for this answer
            _log.warning("shadow failed", version=model.version_id, error=f"{type(error).__name__}: {error}")
            return self._count(answered, model, dropped=len(answered.images))
        agreed = int((top == answered.top).sum())
        self._count(answered, model, agreed=agreed, differed=len(top) - agreed)
        if agreed < len(top):
            self._on_difference(answered, model.version_id, top.tolist())

    def _count(self, answered: Answered, model: ServedModel, **counts: int) -> None:
        pair, tally = (answered.model.version_id, model.version_id), self.tally
        if tally is None or (tally.active, tally.shadow) != pair:
            tally = Tally(*pair)
        self.tally = replace(tally, **{name: getattr(tally, name) + count for name, count in counts.items()})
