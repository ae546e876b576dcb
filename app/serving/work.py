"""The images of one request on their way through the engine, and the answer that they become."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.errors import ImageRefusedError
from app.serving.model import ServedModel
from paint_core.errors import ImageDecodeError
from paint_core.images.decoding import DEFAULT_MAX_PIXELS


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says about the images of one request.

    Attributes:
        features: float32 [B, D], unit rows.
        cosines: float32 [B, C] with the labels of the work's head; None: it has no head.
    """

    features: Tensor
    cosines: Tensor | None


@dataclass(eq=False)
class Work:
    """The images of one request. What it counts of decoding, the line that it stands in guards by its lock.

    Attributes:
        model: What answers.
        pixels: uint8 [B, S, S, 3]; of encoded images, rows are written as they are decoded.
        images: B encoded images; none, if the pixels are there already.
        head: Of the labels to compare with, once it is built.
        deadline: When the answer is worth nothing any more, as `time.monotonic()` tells time; None: never.
        is_spare: Whether nobody waits for it, so that it is done when nothing else is.
        caller: Who asks, for fair turns; empty: nobody in particular.
        costs: What decoding each image costs, in megapixels; empty: next to nothing.
        max_pixels: Of an image.
        answer: What comes out. Whoever cancels it wants no more.
    """

    model: ServedModel
    pixels: NDArray[np.uint8]
    images: Sequence[bytes] = ()
    head: Future[Tensor] | None = None
    deadline: float | None = None
    is_spare: bool = False
    caller: str = ""
    costs: Sequence[float] = ()
    max_pixels: int = DEFAULT_MAX_PIXELS
    answer: Future[Answer] = field(default_factory=Future)
    started: float = field(default_factory=time.perf_counter)
    decoded: float = 0.0
    forwarded: float = 0.0
    num_decoding: int = 0
    num_decoded: int = 0
    num_forwarded: int = 0
    broken: dict[int, Exception] = field(default_factory=dict)
    _bytes: memoryview = field(init=False)  # of the pixels
    _row_bytes: int = field(init=False)
    _features: NDArray[np.float32] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)  # of features: several cores may bring some at once

    def __post_init__(self) -> None:
        # Not numpy, nor torch: both let go of Python's lock for each row, to stand in line for it again.
        self._bytes = np.ascontiguousarray(self.pixels).data.cast("B")
        self._row_bytes = self.pixels.nbytes // max(1, len(self.pixels))

    @classmethod
    def of_images(
        cls,
        model: ServedModel,
        images: Sequence[bytes],
        head: Future[Tensor] | None,
        deadline: float | None,
        **options: Any,
    ) -> Self:
        """Return the work that encoded images make; `options` are further fields."""
        side = model.base.image_size
        # Not torch.empty: that lets go of Python's lock, for which the event loop would stand in line again.
        pixels = np.empty((len(images), side, side, 3), np.uint8)
        return cls(model, pixels, images, head, deadline, **options)

    def is_dead(self) -> bool:
        """Return whether nobody wants the answer any more."""
        return self.answer.done() or (self.deadline is not None and time.monotonic() >= self.deadline)

    def where(self) -> str:
        """Return what the images wait for, for whoever asks why there is no answer yet."""
        total = len(self.pixels)
        if self.num_decoded < total and self.images:
            return f"{total - self.num_decoded} of {total} images waited to be decoded"
        if self.num_forwarded < total:
            return f"{total - self.num_forwarded} of {total} images waited for the model"
        return "the labels were still being encoded"

    def decode(self, index: int) -> None:
        """Decode one image into its row.

        Args:
            index: Which image.

        Raises:
            ImageDecodeError: It is no picture that can be used.
        """
        decoded = self.model.base.preprocess.decode(self.images[index], max_pixels=self.max_pixels, reduced=True)
        self._bytes[self._place(index)] = decoded.data.cast("B")

    def copy_rows(self, indices: Sequence[int], out: memoryview) -> memoryview:
        """Copy the pixels of some images to where a batch is put together; return what is left of that."""
        for index in indices:
            out[: self._row_bytes] = self._bytes[self._place(index)]
            out = out[self._row_bytes :]
        return out

    def _place(self, index: int) -> slice:
        return slice(index * self._row_bytes, (index + 1) * self._row_bytes)

    def put_features(self, indices: Sequence[int], rows: NDArray[np.float32]) -> bool:
        """Take unit features of some images; return whether those of all are there now."""
        with self._lock:
            if self._features is None:
                self._features = np.empty((len(self.pixels), rows.shape[1]), np.float32)
            self._features[list(indices)] = rows
            self.num_forwarded += len(indices)
            self.forwarded = time.perf_counter()
            return self.num_forwarded == len(self.pixels)

    @property
    def features(self) -> Tensor:
        """The features, once all are there."""
        assert self._features is not None
        return torch.from_numpy(self._features)

    def refuse_broken(self) -> None:
        """Answer that an image cannot be decoded; the first such is named."""
        index = min(self.broken)
        error = self.broken[index]
        if isinstance(error, ImageDecodeError):
            reason, _, advice = str(error).partition(": ")
            error = ImageRefusedError(error.code, index, f"cannot be decoded ({reason})", f"{advice.capitalize()}.")
        self.fail(error)

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless nobody wants an answer."""
        with suppress(InvalidStateError):
            self.answer.set_exception(error)

    def succeed(self, answer: Answer) -> None:
        """Give the answer, unless nobody wants one."""
        with suppress(InvalidStateError):
            self.answer.set_result(answer)


def finish(works: Iterable[Work]) -> None:
    """Compare the features of works with their heads and answer; those of one head together.

    A head that is not built yet finishes its works when it is.

    Args:
        works: All of their features are there.
    """
    by_head: dict[Future[Tensor] | None, list[Work]] = {}
    for work in works:
        by_head.setdefault(work.head, []).append(work)
    for head, group in by_head.items():
        if head is None:
            for work in group:
                work.succeed(Answer(work.features, None))
        elif head.done():
            _compare(head, group)
        else:
            head.add_done_callback(partial(_compare, works=group))


def _compare(head: Future[Tensor], works: Sequence[Work]) -> None:
    try:
        features = [work.features for work in works]
        with torch.no_grad():
            cosines = torch.cat(features) @ head.result().T
        parts = torch.split(cosines, [len(rows) for rows in features])
    except Exception as error:  # an edge: whoever waits gets it
        for work in works:
            work.fail(RuntimeError("the engine is closed") if head.cancelled() else error)
        return
    for work, rows, part in zip(works, features, parts, strict=True):
        work.succeed(Answer(rows, part))
