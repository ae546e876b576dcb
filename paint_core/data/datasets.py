"""Labelled images as arrays: decoded once, kept as uint8, read many times."""

import operator
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paint_core.data.image_store import ImageStore, Scratch
from paint_core.data.pairs import PairSource
from paint_core.errors import DatasetError, EmptySplitError, ImageDecodeError
from paint_core.images.decoding import DECODER, DEFAULT_MAX_PIXELS
from paint_core.images.preprocess import Preprocess
from paint_core.models.heads import require_head
from paint_core.runtime.arguments import require_type

_IMAGE_SUFFIXES = {
    *{".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"},
    *{".ppm", ".pgm", ".pbm", ".pnm"},
}
_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"}


@dataclass(frozen=True, eq=False, repr=False)
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
        object.__setattr__(self, "classnames", tuple(self.classnames))
        shape = tuple(self.images.shape)
        if self.images.dtype != torch.uint8 or len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3:
            raise DatasetError(f"images are {self.images.dtype} {list(shape)}: give uint8 [N, S, S, 3]")
        if self.labels.dtype != torch.int64 or tuple(self.labels.shape) != shape[:1]:
            raise DatasetError(f"labels are {self.labels.dtype} {list(self.labels.shape)}: give int64 [{shape[0]}]")
        if shape[0] == 0:
            raise EmptySplitError("the split has no images: add some, or choose another split")
        if not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classnames):
            raise DatasetError(f"a label is outside 0..{len(self.classnames) - 1}: correct labels or classnames")

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def __repr__(self) -> str:
        names = ", ".join(self.classnames[:3]) + (", ..." if len(self.classnames) > 3 else "")
        side = self.images.shape[1]
        return f"LabelledImages({len(self)} images of {side} x {side}, {len(self.classnames)} classes: {names})"

    def subset(self, indices: Tensor | Sequence[int] | Sequence[bool]) -> "LabelledImages":
        """Copies of the images at these positions (integers in 0..N-1) or in a bool mask [N]."""
        chosen = _positions(torch.as_tensor(indices), len(self))
        return LabelledImages(self.images[chosen], self.labels[chosen], self.classnames)

    @classmethod
    def from_pairs(
        cls,
        pairs: Iterable[Any],
        preprocess: Preprocess,
        classnames: Sequence[str] | None = None,
        *,
        columns: tuple[str, str] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> "LabelledImages":
        """The split of labelled images in memory, or from a data set of torchvision or `datasets`.

        Args:
            pairs: (image, label) pairs, or rows with named columns. An image is a PIL image, the bytes or the path
                of a file, or uint8 [H, W] or [H, W, 3]; a label is an index into the classnames or one of them.
            preprocess: the model's; applied here, so the data set must not transform its images.
            classnames: C names; None uses the data set's own, or the sorted labels if these are strings.
            columns: names of the columns of image and label; None detects them if they are unambiguous.
            on_progress: called in this thread with the number of images done; may raise to stop.
        """
        source = PairSource(pairs, classnames, columns)
        # Read at the end, when labels that are texts have all been seen.
        split = decode_all(source.items(), preprocess, source.names, on_progress)
        order = source.sorted_order()
        if order is None:
            return split
        return cls(split.images, torch.tensor(order)[split.labels], tuple(sorted(source.names)))


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """A named classification task: what to improve (patching) or what must not get worse (supported).

    Attributes:
        head: [C, D], from `build_head`.
        train: what to fine-tune on; None for a supported task.
        validation: what alpha is chosen on.
        test: what is reported; never used for a choice.
    """

    name: str
    head: Tensor
    train: LabelledImages | None
    validation: LabelledImages
    test: LabelledImages

    def __post_init__(self) -> None:
        require_head(self.head)
        named = {"test": self.test, "train": self.train, "validation": self.validation}
        for name, split in named.items():
            if split is None and name == "train":
                continue
            require_type(f"the split {name}", split, LabelledImages, "pass a split, such as load_image_folder gives")
            assert split is not None
            _require_classes(self.name, name, split, self.test.classnames, len(self.head))

    def __repr__(self) -> str:
        sizes = [0 if split is None else len(split) for split in (self.train, self.validation, self.test)]
        return f"Task({self.name!r}, {len(self.head)} classes, train/validation/test {'/'.join(map(str, sizes))})"


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
    """The decoded images, in the order of the items.

    Args:
        items: (file bytes, label) pairs; read lazily, slightly ahead of the decoders.
        classnames: C names that the labels index.
        on_progress: called in this thread with the number of images done; may raise to stop.
        scratch: where a split too large for memory is stored; None keeps it in memory.
        names: of the items, for errors; None uses their numbers.

    Raises:
        ImageDecodeError: an image is not readable; says which.
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
        fraction: share of validation, in (0, 1); at least one item.
        maximum: maximum number of validation items.

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


def load_image_folder(
    path: Path | str, preprocess: Preprocess, classnames: Sequence[str] | None = None
) -> LabelledImages:
    """The images of a folder with one sub-folder for each class, in the order of the file names.

    Args:
        path: the folder. Hidden files, and files without an image suffix, are skipped.
        classnames: names of the sub-folders in the order of the labels; a class may have no folder. None uses the
            sorted names of the sub-folders; load all splits of a task with the classnames of the first one.

    Raises:
        DatasetError: the folder does not exist or has no sub-folders, a sub-folder is not among the classnames or
            contains folders, or the sub-folders look like splits.
        EmptySplitError: no images.
        ImageDecodeError: an image is not readable.
    """
    root = Path(path)
    if not root.is_dir():
        raise DatasetError(f"the folder {root} does not exist: check the path")
    found = sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    _require_folders(root, found, classnames)
    names = found if classnames is None else list(classnames)
    files = [(file, label) for label, name in enumerate(names) for file in _pictures(root / name)]
    if not files:
        raise EmptySplitError(f"the subfolders of {root} contain no images: add some, or check the path")
    items = ((file.read_bytes(), label) for file, label in files)
    return decode_all(items, preprocess, names, names=[str(file.relative_to(root)) for file, _ in files])


def require_size(images: Tensor, side: int) -> None:
    """Refuses images that were decoded for another model: a tower that accepts any size would give other features.

    Args:
        images: to be uint8 [N, S, S, 3] with N >= 1, or a batch of floats of that shape.
        side: S of the model, in pixels.

    Raises:
        DatasetError: another shape.
        EmptySplitError: no image.
    """
    require_type("images", images, Tensor, "pass uint8 [N, S, S, 3], such as the images of a split")
    if images.ndim != 4 or tuple(images.shape[1:]) != (side, side, 3):
        raise DatasetError(
            f"images are {list(images.shape)}, the model reads [N, {side}, {side}, 3]: decode them for it"
        )
    if len(images) == 0:
        raise EmptySplitError("there are no images: add some, or choose another split")


def _positions(indices: Tensor, num_images: int) -> Tensor:
    if indices.dtype == torch.bool:
        if tuple(indices.shape) != (num_images,):
            raise DatasetError(f"the mask is {list(indices.shape)}: give one bool for each of {num_images} images")
        return indices.nonzero().flatten()
    if indices.numel() and (indices.is_floating_point() or indices.ndim != 1):
        raise DatasetError(f"indices are {indices.dtype} {list(indices.shape)}: give a list of integers, or a mask")
    chosen = indices.flatten().to(torch.int64)
    if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < num_images:
        raise DatasetError(f"an index is outside 0..{num_images - 1}: correct it")
    return chosen


def _require_classes(task: str, name: str, split: LabelledImages, classnames: tuple[str, ...], num_rows: int) -> None:
    """Refuses a split whose labels would mean other classes than the head's rows."""
    if len(split.classnames) != num_rows:
        raise DatasetError(
            f"the split {name} of the task {task!r} has {len(split.classnames)} classes and the head {num_rows} rows: "
            "build the head from the split's classnames"
        )
    if split.classnames != classnames:
        index = next(
            index for index, pair in enumerate(zip(split.classnames, classnames, strict=True)) if len(set(pair)) > 1
        )
        raise DatasetError(
            f"label {index} of the task {task!r} is {split.classnames[index]!r} in the split {name} and "
            f"{classnames[index]!r} in test: load all splits with the same classnames"
        )


def _require_folders(root: Path, found: Sequence[str], classnames: Sequence[str] | None) -> None:
    if not found:
        raise DatasetError(f"{root} has no subfolders: put the images of each class into a folder with its name")
    if classnames is None and all(name.lower() in _SPLIT_NAMES for name in found):
        raise DatasetError(
            f"the subfolders of {root} look like splits ({', '.join(found)}): load each of them, such as "
            f"{root / found[0]}, or list the classes in classnames"
        )
    if classnames is None:
        return
    if isinstance(classnames, str) or len(set(classnames)) < len(classnames):
        raise DatasetError("classnames must be a list of different names: correct them")
    unknown = [name for name in found if name not in classnames]
    if unknown:
        raise DatasetError(f"{root} has folders that are not in classnames, {unknown[:3]}: add or remove them")


def _pictures(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            raise DatasetError(f"{folder} contains the folder {path.name}: put the images of a class into one folder")
        if path.suffix.lower() in _IMAGE_SUFFIXES:
            yield path
