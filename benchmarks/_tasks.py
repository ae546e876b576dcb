"""The tasks that benchmarks patch and support, built from what is at hand and decoded once.

    base = load_base("starter")
    tasks = patching(base)                 # name -> Task, with train, validation and test
    held = supported(base, limit=120)      # name -> Task, without train

`read_files` gives the same pictures as encoded files, for whoever wants to decode them again and again. Decoded
splits lie in `.benchmarks/tasks/` at the top of the checkout; deleting the folder costs a minute.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from _cache import CACHE, write_whole
from _fashion import CLASSNAMES as FASHION_CLASSNAMES
from _fashion import FashionMissingError, draw_fashion
from _pictograms import COUNTS, LOOKS, draw_counting, draw_looks, read_anchors, sources
from safetensors.torch import load_file, save
from torch import Tensor

from paint_core.data import LabelledImages, Task, decode_all
from paint_core.images.preprocess import Preprocess
from paint_core.models import BaseModel, build_head, prompts
from paint_core.starter import supported_archives
from paintbox_demo.digits import DISPLAY_NAMES, WORDS, load_scans

PATCHING = ("digits", "fashion", "counting", "looks")
SUPPORTED = ("food", "nature", "objects", "travel")
NUM_DRAWN = {"train": 3000, "validation": 300, "test": 600}
"""Images of a drawn task, by split."""

_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_RECIPE = 2  # of the pictures; raising it makes every cached split be built again


@dataclass(frozen=True)
class TaskFiles:
    """A task before decoding.

    Attributes:
        classnames: C names.
        templates: that fit them.
        splits: `train` (not for a supported task), `validation` and `test` to what gives (PNG file, label) pairs.
        origin: Changes with the files that they are read from; empty for those that are drawn or never change.
    """

    classnames: tuple[str, ...]
    templates: tuple[str, ...]
    splits: Mapping[str, Callable[[], list[tuple[bytes, int]]]]
    origin: str = ""


def read_files(name: str) -> TaskFiles:
    """Return how a task's pictures are had as encoded files.

    Args:
        name: One of `PATCHING` or `SUPPORTED`.
    """
    match name:
        case "digits":
            digits = tuple(DISPLAY_NAMES[word] for word in WORDS)
            return TaskFiles(digits, prompts.STARTER, {split: partial(_read_scans, split) for split in NUM_DRAWN})
        case "fashion":
            splits = {split: partial(draw_fashion, split) for split in NUM_DRAWN}
            return TaskFiles(FASHION_CLASSNAMES, prompts.STARTER, splits)
        case "counting":
            drawn = {split: partial(draw_counting, split, count) for split, count in NUM_DRAWN.items()}
            return TaskFiles(COUNTS, prompts.PLAIN, drawn)
        case "looks":
            drawn = {split: partial(draw_looks, split, count) for split, count in NUM_DRAWN.items()}
            return TaskFiles(LOOKS, prompts.PLAIN, drawn)
        case _:
            return _read_archive(supported_archives()[name])


def load_task(base: BaseModel, name: str) -> Task:
    """Return one task as a model sees it.

    Args:
        base: Whose preprocessing and text tower to use.
        name: One of `PATCHING` or `SUPPORTED`.

    Raises:
        FashionMissingError: Fashion-MNIST is wanted, and there is no copy.
    """
    files = read_files(name)
    splits = {split: _decoded(base.preprocess, name, split, files) for split in files.splits}
    head = build_head(base, files.classnames, files.templates)
    return Task(name, head, splits.get("train"), splits["validation"], splits["test"])


def patching(base: BaseModel, names: Sequence[str] = PATCHING) -> dict[str, Task]:
    """Return the patching tasks by name; one whose data is missing is left out, and a line says how to get it."""
    tasks = {}
    for name in names:
        try:
            tasks[name] = load_task(base, name)
        except FashionMissingError as error:
            print(f"skipping {name}: {error}")
    return tasks


def supported(
    base: BaseModel,
    limit: int | None = None,
    *,
    names: Sequence[str] = SUPPORTED,
    seed: int = 0,
    mixed: bool = False,
) -> dict[str, Task]:
    """Return the bundled supported tasks by name.

    Args:
        base: Whose preprocessing and text tower to use.
        limit: Most images of the validation and of the test split; a seeded draw, the same for every base.
        names: Which of `SUPPORTED`.
        seed: Of the draw.
        mixed: Whether to divide the images of both splits anew, by chance. As they are bundled, each split shows
            another vendor's pictures, so nothing that holds for one need hold for the other.
    """
    tasks = {name: load_task(base, name) for name in names}
    if mixed:
        tasks = {name: _mixed(task, seed) for name, task in tasks.items()}
    if limit is None:
        return tasks
    return {
        name: Task(name, task.head, None, draw(task.validation, limit, seed), draw(task.test, limit, seed))
        for name, task in tasks.items()
    }


def _mixed(task: Task, seed: int) -> Task:
    """Return the task with its validation and test images shuffled and divided into halves."""
    splits = (task.validation, task.test)
    images, labels = (torch.cat([getattr(split, each) for split in splits]) for each in ("images", "labels"))
    both = LabelledImages(images, labels, task.test.classnames)
    order = torch.randperm(len(both), generator=torch.Generator().manual_seed(seed))
    first, second = (both.subset(part.sort().values) for part in order.chunk(2))
    return Task(task.name, task.head, None, first, second)


def draw(images: LabelledImages, limit: int, seed: int = 0) -> LabelledImages:
    """Return at most `limit` of the images, drawn with a seed, in their old order."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images.subset(order[:limit].sort().values)


def anchors(base: BaseModel, *, training_only: bool = True) -> Tensor:
    """Return the unlabelled pool, uint8 [M, S, S, 3].

    Args:
        base: Whose preprocessing to use.
        training_only: Leave out the pictograms that validation and test of `counting` and `looks` are drawn from.
    """
    files = [(picture, 0) for picture in read_anchors(sources("train") if training_only else None)]
    return decode_all(files, base.preprocess, ("anchor",)).images


def _read_scans(split: str) -> list[tuple[bytes, int]]:
    return [(scan.png, scan.digit) for scan in load_scans() if scan.split == _FOLDERS[split]]


def _read_archive(path: Path) -> TaskFiles:
    with zipfile.ZipFile(path) as archive:
        members = sorted(member for member in archive.namelist() if member.endswith(".png"))
    classnames = tuple(sorted({member.split("/")[1] for member in members}))

    def read(split: str) -> list[tuple[bytes, int]]:
        chosen = [member for member in members if member.startswith(f"{_FOLDERS[split]}/")]
        with zipfile.ZipFile(path) as archive:
            return [(archive.read(member), classnames.index(member.split("/")[1])) for member in chosen]

    splits = {split: partial(read, split) for split in ("validation", "test")}
    return TaskFiles(classnames, prompts.STARTER, splits, hashlib.sha256(path.read_bytes()).hexdigest())


def _decoded(preprocess: Preprocess, name: str, split: str, files: TaskFiles) -> LabelledImages:
    """The split, from the cache if it is there."""
    key = hashlib.sha256(f"{_RECIPE} {preprocess.config_json} {files.origin}".encode()).hexdigest()[:8]
    path = CACHE / "tasks" / f"{name}-{split}-{preprocess.size}px-{key}.safetensors"
    if not path.exists():
        images = decode_all(files.splits[split](), preprocess, files.classnames)
        write_whole(path, save({"images": images.images, "labels": images.labels}))
    stored = load_file(path)
    return LabelledImages(stored["images"], stored["labels"], files.classnames)
