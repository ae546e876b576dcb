"""The images of one request on their way through the engine, and the answer that they become."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.http.errors import ImageRefusedError
from app.serving.model import Model
from paint_core.errors import ImageDecodeError
from paint_core.images.decoding import DEFAULT_MAX_PIXELS

Correction = Callable[[Tensor, Tensor], Tensor]
"""From unit features [B, D] and cosines [B, C] with the labels of a request to corrected ones."""


class Answer(NamedTuple):
    """The result of one request.

    Attributes:
        features: float32 [B, D], unit rows.
        cosines: float32 [B, C], with the labels of the request's head; None: the request has no head.
    """

    features: Tensor
    cosines: Tensor | None


@dataclass(eq=False)
class InferenceRequest:
    """The images of one request. Several workers may process images of the same request.

    Attributes:
        model: The model that answers.
        pixels: uint8 [B, S, S, 3]; rows of encoded images are written as they are decoded.
        images: B encoded images; empty: `pixels` are given.
        head: Head of the labels to compare with, possibly still being built; None: only features are wanted.
        correct: What a version with head terms makes of the cosines; None: nothing.
        deadline: Time of `time.monotonic()` after which the request is abandoned; None: no deadline.
        low_priority: Whether the request is processed only while no other waits.
        caller: For fair turns; empty: nobody in particular.
        costs: Decoding cost of each image in megapixels; empty: negligible.
        max_pixels: Largest image that is decoded, in pixels.
        answer: The result. Cancel it to abandon the request.
        began_at: When a worker took its first images, by `time.perf_counter()`, as the following.
        decoded_at: When its last image was decoded.
        forwarded_at: When the features of its last image were there.
    """

    model: Model
    pixels: NDArray[np.uint8]
    images: Sequence[bytes] = ()
    head: Future[Tensor] | None = None
    correct: Correction | None = None
    deadline: float | None = None
    low_priority: bool = False
    caller: str = ""
    costs: Sequence[float] = ()
    max_pixels: int = DEFAULT_MAX_PIXELS
    answer: Future[Answer] = field(default_factory=Future)
    began_at: float = 0.0
    decoded_at: float = 0.0
    forwarded_at: float = 0.0
    _num_decoding: int = 0
    _num_decoded: int = 0
    _num_forwarded: int = 0
    _errors: dict[int, Exception] = field(default_factory=dict)
    _features: NDArray[np.float32] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        # Rows are copied by memory views: numpy and torch release the GIL for each row and have to wait for it again.
        self._bytes = np.ascontiguousarray(self.pixels).data.cast("B")
        self._row_bytes = self.pixels.nbytes // max(1, len(self.pixels))

    @classmethod
    def of_images(cls, model: Model, images: Sequence[bytes], **options: Any) -> Self:
        """Return the request for encoded images; `options` are further fields."""
        side = model.base.image_size
        pixels = np.empty((len(images), side, side, 3), np.uint8)  # torch.empty would release the GIL
        return cls(model, pixels, images, **options)

    @property
    def num_images(self) -> int:
        """B."""
        return len(self.pixels)

    def is_abandoned(self) -> bool:
        """Return whether nobody waits for the answer any more."""
        return self.answer.done() or (self.deadline is not None and time.monotonic() >= self.deadline)

    def waits_for(self) -> str:
        """Return what the request waits for, as the error of a missed deadline says it."""
        if self._num_decoded < self.num_images and self.images:
            return f"{self.num_images - self._num_decoded} of {self.num_images} images were waiting to be decoded"
        if self._num_forwarded < self.num_images:
            return f"{self.num_images - self._num_forwarded} of {self.num_images} images were waiting for the model"
        return "the labels were still being encoded"

    def begin_decoding(self, num_images: int) -> None:
        """Note that a worker has taken images; it calls `decode`."""
        with self._lock:
            self.began_at = self.began_at or time.perf_counter()
            self._num_decoding += num_images

    def decode(self, indices: Sequence[int]) -> list[int]:
        """Decode images, in ascending order, into their rows; return their indices.

        The request fails with the error of its first image that cannot be decoded: once one has failed, images before
        it are still tried and those after it are skipped. Nothing is returned of a request that fails or is abandoned.
        """
        num_decoded = 0
        for index in indices if self.images else ():
            if self.is_abandoned() or (self._errors and min(self._errors) < index):
                break
            try:
                self.decode_image(index)
                num_decoded += 1
            except Exception as error:  # propagate to the waiting request; keep the worker alive
                self._errors[index] = error
                break
        with self._lock:
            self._num_decoding -= len(indices)
            self._num_decoded += num_decoded
            self.decoded_at = time.perf_counter()
            has_failed = bool(self._errors) and not self._num_decoding
        if has_failed:
            index = min(self._errors)
            self.fail(_refusal_of(index, self._errors[index]))
        return [] if self._errors or self.is_abandoned() else list(indices)

    def decode_image(self, index: int) -> None:
        """Decode one image into its row; `ImageDecodeError` if it cannot be decoded."""
        decoded = self.model.base.preprocess.decode(self.images[index], max_pixels=self.max_pixels, reduced=True)
        self._bytes[self._row(index)] = decoded.data.cast("B")

    def copy_pixels(self, indices: Sequence[int], out: memoryview) -> memoryview:
        """Copy the pixels of images to the front of a batch; return the rest of the batch."""
        for index in indices:
            out[: self._row_bytes] = self._bytes[self._row(index)]
            out = out[self._row_bytes :]
        return out

    def put_features(self, indices: Sequence[int], features: NDArray[np.float32]) -> bool:
        """Store the unit features of images; return whether those of all images are there now."""
        with self._lock:
            if self._features is None:
                self._features = np.empty((self.num_images, features.shape[1]), np.float32)
            self._features[list(indices)] = features
            self._num_forwarded += len(indices)
            self.forwarded_at = time.perf_counter()
            return self._num_forwarded == self.num_images

    @property
    def features(self) -> Tensor:
        """The features, once all are there."""
        assert self._features is not None
        return torch.from_numpy(self._features)

    def fail(self, error: Exception) -> None:
        """Fail the request, unless it is answered already."""
        with suppress(InvalidStateError):
            self.answer.set_exception(error)

    def succeed(self, answer: Answer) -> None:
        """Answer the request, unless it is answered already."""
        with suppress(InvalidStateError):
            self.answer.set_result(answer)

    def _row(self, index: int) -> slice:
        return slice(index * self._row_bytes, (index + 1) * self._row_bytes)


Batch = list[tuple[InferenceRequest, list[int]]]
"""Images of one model: requests, and the indices of their images."""


def _refusal_of(index: int, error: Exception) -> Exception:
    if not isinstance(error, ImageDecodeError):
        return error
    reason, _, advice = str(error).partition(": ")
    return ImageRefusedError(error.code, index, f"cannot be decoded ({reason})", f"{advice.capitalize()}.")
