"""Labelled images as arrays: decoded once, kept as uint8, read many times."""

import operator
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paint_core.errors import DatasetError, EmptySplitError, ImageDecodeError
from paint_core.image_store import ImageStore, Scratch
from paint_core.pictures import DECODER, DEFAULT_MAX_PIXELS
from paint_core.preprocess import Preprocess

_IMAGE_SUFFIXES = {
    *{".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"},
    *{".ppm", ".pgm", ".pbm", ".pnm"},
}


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """One split of one task, as the model sees it before normalisation.

    Attributes:
        images: uint8 [N, S, S, 3] on the CPU, N >= 1; in memory, or in a mapped file (`image_store.py`).
        labels: int64 [N], indices into `classnames`.
        classnames: C names.
    """

    images: Tensor
    labels: Tensor
    classnames: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
            raise DatasetError(f"images are {self.images.dtype} {list(shape)}: give uint8 [N, S, S, 3]")
        if self.labels.dtype != torch.int64 or tuple(self.labels.shape) != shape[:1]:
            raise DatasetError(f"labels are {self.labels.dtype} {list(self.labels.shape)}: give int64 [{shape[0]}]")
        if shape[0] == 0:
            raise EmptySplitError("the split has no images: add some, or choose another split")
        if not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classnames):
            raise DatasetError(f"a label lies outside 0..{len(self.classnames) - 1}: correct labels or classnames")

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def subset(self, indices: Tensor | Sequence[int]) -> "LabelledImages":
        """The images at these positions, copied, with the same classnames."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return LabelledImages(self.images[chosen], self.labels[chosen], self.classnames)


@dataclass(frozen=True, eq=False)
class Task:
    """A named classification task: what to improve (patching) or what must not get worse (supported).

    Attributes:
        name: unique among the tasks of a patch.
        head: [C, D], from `build_head`.
        train: what to fine-tune on; None for a supported task.
        validation: what alpha is chosen on.
        test: what is reported, and never used to choose anything.
    """

    name: str
    head: Tensor
    train: LabelledImages | None
    validation: LabelledImages
    test: LabelledImages


def decode_all(
    items: Iterable[tuple[bytes, int]],
    preprocess: Preprocess,
    classnames: Sequence[str],
    on_progress: Callable[[int], None] | None = None,
    scratch: Scratch | None = None,
    *,
    names: Sequence[str] | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    decoder: int = DECODER,
) -> LabelledImages:
    """The decoded pictures, in the order of the items.

    Args:
        items: (file bytes, label) pairs; read lazily, a few ahead of the decoders.
        preprocess: the model's.
        classnames: C names that the labels index.
        on_progress: called in this thread with the number of pictures done; may raise to stop.
        scratch: where a split goes that is too large for memory; None keeps it there.
        names: what errors call the items; None counts them.
        max_pixels: limit on a picture's width times height.
        decoder: of `Preprocess.decode`.

    Returns:
        The split.

    Raises:
        ImageDecodeError: a picture is not readable; says which.
        EmptySplitError: no items.
        DatasetError: a label is out of range, or the scratch folder is full.
    """
    store = ImageStore(preprocess.size, operator.length_hint(items), scratch)
    labels: list[int] = []
    decode = partial(preprocess.decode, max_pixels=max_pixels, decoder=decoder)
    for picture, label in _decode_in_order(items, decode, names):
        store.append(picture)
        labels.append(label)
        if on_progress is not None:
            on_progress(len(labels))
    return LabelledImages(store.images(), torch.tensor(labels, dtype=torch.int64), tuple(classnames))


def _decode_in_order(
    items: Iterable[tuple[bytes, int]], decode: Callable[[bytes], NDArray[np.uint8]], names: Sequence[str] | None
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    num_threads = os.cpu_count() or 1
    waiting: deque[tuple[Future[NDArray[np.uint8]], int]] = deque()
    num_done = 0

    def take() -> tuple[NDArray[np.uint8], int]:
        nonlocal num_done
        future, label = waiting.popleft()
        try:
            picture = future.result()
        except ImageDecodeError as error:
            name = f"item {num_done}" if names is None else names[num_done]
            raise ImageDecodeError(f"{name}: {error}") from error
        num_done += 1
        return picture, label

    with ThreadPoolExecutor(num_threads, thread_name_prefix="decode") as pool:
        for image_bytes, label in items:
            waiting.append((pool.submit(decode, image_bytes), label))
            if len(waiting) >= 4 * num_threads:
                yield take()
        while waiting:
            yield take()


def split_off_validation(
    num_items: int, fraction: float = 0.1, maximum: int = 5000, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """The positions for training and validation: a random tenth, at most 5000 (PAINT's rule, seed 0).

    Args:
        num_items: N, at least 2.
        fraction: share of validation, in (0, 1); at least one item goes there.
        maximum: most items of validation.
        seed: of the permutation.

    Returns:
        Two disjoint int64 tensors that together hold 0..N-1.

    Raises:
        EmptySplitError: fewer than two items.
        DatasetError: the fraction is not in (0, 1).
    """
    if num_items < 2:
        raise EmptySplitError(f"{num_items} images cannot be split into training and validation: add images")
    if not 0 < fraction < 1:
        raise DatasetError(f"the validation fraction is {fraction}: choose one between 0 and 1")
    num_validation = max(1, min(int(num_items * fraction), maximum))
    order = torch.randperm(num_items, generator=torch.Generator().manual_seed(seed))
    return order[: num_items - num_validation], order[num_items - num_validation :]


def load_image_folder(path: Path | str, preprocess: Preprocess) -> LabelledImages:
    """The pictures of a folder with one sub-folder per class, both in the order of their names.

    Args:
        path: the folder; the sub-folders' names are the classnames; hidden ones and files without a picture's suffix
            are passed over.
        preprocess: the model's.

    Returns:
        The split.

    Raises:
        DatasetError: no such folder, or no sub-folders.
        EmptySplitError: no pictures.
        ImageDecodeError: a picture is not readable.
    """
    root = Path(path)
    if not root.is_dir():
        raise DatasetError(f"there is no folder {root}: check the path")
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not folders:
        raise DatasetError(f"{root} has no sub-folders: put the pictures of each class into a folder of its name")
    files = [
        (file, label)
        for label, folder in enumerate(folders)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in _IMAGE_SUFFIXES
    ]
    items = ((file.read_bytes(), label) for file, label in files)
    names = [str(file.relative_to(root)) for file, _ in files]
    return decode_all(items, preprocess, [folder.name for folder in folders], names=names)
