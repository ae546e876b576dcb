"""Decoded images of a split: in memory, or in a memory-mapped file once they would take too much of it."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paint_core.errors import DatasetError

_FIRST_CAPACITY = 64


@dataclass(frozen=True)
class Scratch:
    """Where to store decoded images that do not fit into memory.

    Attributes:
        folder: on a local disk; its files are unnamed and are freed with the tensors that use them.
        limit_bytes: of one split in memory; a larger one is stored in a file.
    """

    folder: Path
    limit_bytes: int


class ImageStore:
    """Grows image by image to uint8 [N, S, S, 3]."""

    def __init__(self, side: int, expected: int = 0, scratch: Scratch | None = None) -> None:
        """An empty store.

        Args:
            side: S, in pixels.
            expected: N, if known; otherwise the store grows by doubling.
            scratch: used beyond its limit; None keeps everything in memory.
        """
        self._shape = (side, side, 3)
        self._scratch = scratch
        self._num_images = 0
        self._array = self._allocate(max(_FIRST_CAPACITY, expected))

    def append(self, picture: NDArray[np.uint8]) -> None:
        """Adds an image, uint8 [S, S, 3]."""
        if self._num_images == len(self._array):
            larger = self._allocate(2 * len(self._array))
            larger[: self._num_images] = self._array
            self._array = larger
        self._array[self._num_images] = picture
        self._num_images += 1

    def images(self) -> Tensor:
        """The images so far, uint8 [N, S, S, 3], in the store's own memory or file."""
        return torch.from_numpy(self._array[: self._num_images])

    def _allocate(self, capacity: int) -> NDArray[np.uint8]:
        shape = (capacity, *self._shape)
        num_bytes = int(np.prod(shape, dtype=np.int64))
        if self._scratch is None or num_bytes <= self._scratch.limit_bytes:
            return np.empty(shape, dtype=np.uint8)
        return _map_file(self._scratch.folder, shape, num_bytes)


def _map_file(folder: Path, shape: tuple[int, ...], num_bytes: int) -> NDArray[np.uint8]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # Reserved now, because a write into a mapped file on a full disk kills the process.
            os.posix_fallocate(file.fileno(), 0, num_bytes)
            return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
    except OSError as error:
        raise DatasetError(
            f"{folder} has no space for {num_bytes} bytes of decoded images ({error.strerror}): free some space, or "
            "use another scratch folder"
        ) from error
