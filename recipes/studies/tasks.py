"""The tasks of the studies: what is bundled, and class folders of data sets that are fetched once.

A folder task lies in `DATA/NAME/` as `train/`, `val/` (optional) and `test/` of class folders; a `classes.json` beside
them says what they show (`recipes.starter.adapt` writes it). Without `val/`, a tenth of the training images is set
aside.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from paint_core.data import LabelledImages, Task, decode_all
from paint_core.models import BaseModel, build_head
from paint_core.starter import anchors_archive, supported_archives
from paintbox_demo.digits import DISPLAY_NAMES, WORDS, load_scans
from paintbox_demo.samples import PHOTO_TEMPLATES
from recipes.starter.photographs import photographs_in, read_words

PATCHING = ("digits", "mnist", "fashion", "gtsrb", "clothing", "grocery")
"""Tasks to patch, of which those without data are left out. Only `digits` is bundled."""

SUPPORTED = ("cifar10",)
"""Folder tasks that patches must not harm, beside the bundled ones."""

PHOTOGRAPHS = frozenset({"fashion", "gtsrb", "clothing", "grocery", "cifar10", "tiny-imagenet", "caltech101"})
"""Tasks whose prompts are those of photographs."""

MOST_IMAGES = {"train": 3000, "validation": 600, "test": 2000}
"""Of a folder task; more are a seeded draw."""

_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_SET_ASIDE = 0.1
_NAMES: Mapping[str, Mapping[str, str]] = {
    "mnist": {str(value): DISPLAY_NAMES[word] for value, word in enumerate(WORDS)},
}

_Files = list[tuple[bytes, int]]


@dataclass(frozen=True)
class TaskFiles:
    """A task before decoding.

    Attributes:
        name: of the task.
        classnames: C names.
        splits: `train` (not for a supported task), `validation` and `test` to what reads (file, label) pairs.
        origin: changes with the files.
    """

    name: str
    classnames: tuple[str, ...]
    splits: Mapping[str, Callable[[], _Files]]
    origin: str = ""


class Tasks:
    """Reads tasks, and keeps their decoded splits.

    Args:
        work: where decoded splits are kept.
        data: parent of folder tasks; None: there are none.
        quick: whether a tenth of the images will do.
    """

    def __init__(self, work: Path, data: Path | None, *, quick: bool = False) -> None:
        self._work, self._data, self._quick = work, data, quick

    def known(self, names: Sequence[str]) -> list[str]:
        """Return those of some patching tasks that there is data for, and print which are left out."""
        found = [name for name in names if name == "digits" or self._folder(name) is not None]
        for name in [name for name in names if name not in found]:
            print(f"{name} is left out: put it into DATA/{name}/train and DATA/{name}/test", flush=True)
        return found

    def patching(self, base: BaseModel, name: str) -> Task:
        """Return a task with a training split."""
        return self._task(base, _read_scans() if name == "digits" else self._read_folder(name))

    def supported(self, base: BaseModel) -> dict[str, Task]:
        """Return the bundled supported tasks by name, and those of `SUPPORTED` that there is data for."""
        found = {name: self._task(base, _read_archive(name, path)) for name, path in supported_archives().items()}
        for name in SUPPORTED:
            if self._folder(name) is not None:
                whole = self._task(base, self._read_folder(name))
                found[name] = Task(name, whole.head, None, whole.validation, whole.test)
        return found

    def anchors(self, base: BaseModel) -> Tensor:
        """Return the bundled unlabelled images, uint8 [M, S, S, 3]."""
        with zipfile.ZipFile(anchors_archive()) as archive:
            files = [(archive.read(name), 0) for name in sorted(archive.namelist())]
        return decode_all(files, base.preprocess, ("anchor",)).images

    def most(self, split: str) -> int:
        """Return how many images of a folder task's split are taken."""
        return MOST_IMAGES[split] // (10 if self._quick else 1)

    def _folder(self, name: str) -> Path | None:
        folder = None if self._data is None else self._data / name
        return folder if folder is not None and (folder / "train").is_dir() and (folder / "test").is_dir() else None

    def _read_folder(self, name: str) -> TaskFiles:
        folder = self._folder(name)
        assert folder is not None
        paths = {split: photographs_in(folder / place) for split, place in _FOLDERS.items()}
        if not paths["validation"]:
            train = _shuffled(paths["train"])
            count = int(_SET_ASIDE * len(train))
            paths["validation"], paths["train"] = train[:count], train[count:]
        classes = sorted({path.parent.name for path in paths["train"]})
        said = {key: text for key, (text, _) in read_words(folder / "train").items()} | dict(_NAMES.get(name, {}))
        names = tuple(said.get(each, each.replace("_", " ").lower()) for each in classes)

        def reader(chosen: Sequence[Path]) -> Callable[[], _Files]:
            return lambda: [(path.read_bytes(), classes.index(path.parent.name)) for path in chosen]

        chosen = {split: sorted(_shuffled(each)[: self.most(split)]) for split, each in paths.items()}
        listed = "\n".join(f"{split} {path.name}" for split, each in chosen.items() for path in each)
        return TaskFiles(name, names, {split: reader(each) for split, each in chosen.items()}, listed)

    def _task(self, base: BaseModel, files: TaskFiles) -> Task:
        splits = {split: self._decoded(base, files, split) for split in files.splits}
        templates = PHOTO_TEMPLATES if files.name in PHOTOGRAPHS else base.default_templates
        head = build_head(base, files.classnames, templates)
        return Task(files.name, head, splits.get("train"), splits["validation"], splits["test"])

    def _decoded(self, base: BaseModel, files: TaskFiles, split: str) -> LabelledImages:
        key = hashlib.sha256(f"{base.preprocess.config_json} {files.origin}".encode()).hexdigest()[:12]
        path = self._work / "tasks" / f"{files.name}-{split}-{key}.safetensors"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            images = decode_all(files.splits[split](), base.preprocess, files.classnames)
            partial = path.with_suffix(".partial")
            save_file({"images": images.images.contiguous(), "labels": images.labels}, partial)
            partial.replace(path)
        stored = load_file(path)
        return LabelledImages(stored["images"], stored["labels"], files.classnames)


def draw_shots(task: Task, shots: int, seed: int) -> Task:
    """Return a task with so many training images a class, drawn with a seed; classes with fewer keep all."""
    assert task.train is not None
    order = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(seed))
    labels = task.train.labels[order]
    kept = torch.cat([order[labels == label][:shots] for label in labels.unique()])
    return Task(task.name, task.head, task.train.subset(kept.sort().values), task.validation, task.test)


def without_validation(task: Task) -> Task:
    """Return a task whose validation images are one of its training images a class, as if there were no others."""
    assert task.train is not None
    labels = task.train.labels
    taken = torch.zeros(len(labels), dtype=torch.bool)
    taken[[int((labels == label).nonzero()[0]) for label in labels.unique()]] = True
    train, validation = (task.train.subset(chosen.nonzero().flatten()) for chosen in (~taken, taken))
    return Task(task.name, task.head, train, validation, task.test)


def of_classes(task: Task, chosen: Sequence[int], name: str) -> Task:
    """Return the part of a task with some of its classes, whose labels are numbered anew."""
    numbers = torch.full((len(task.test.classnames),), -1)
    numbers[list(chosen)] = torch.arange(len(chosen))
    classnames = tuple(task.test.classnames[each] for each in chosen)

    def part(images: LabelledImages) -> LabelledImages:
        labels = numbers[images.labels]
        kept = labels >= 0
        return LabelledImages(images.images[kept], labels[kept], classnames)

    train = None if task.train is None else part(task.train)
    return Task(name, task.head[list(chosen)], train, part(task.validation), part(task.test))


def _shuffled(paths: Sequence[Path]) -> list[Path]:
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(0))
    return [paths[index] for index in order.tolist()]


def _read_scans() -> TaskFiles:
    def reader(split: str) -> Callable[[], _Files]:
        return lambda: [(scan.png, scan.digit) for scan in load_scans() if scan.split == _FOLDERS[split]]

    names = tuple(DISPLAY_NAMES[word] for word in WORDS)
    return TaskFiles("digits", names, {split: reader(split) for split in _FOLDERS})


def _read_archive(name: str, path: Path) -> TaskFiles:
    with zipfile.ZipFile(path) as archive:
        members = sorted(member for member in archive.namelist() if member.endswith((".png", ".jpg")))
    classnames = tuple(sorted({member.split("/")[1] for member in members}))

    def reader(split: str) -> Callable[[], _Files]:
        def read() -> _Files:
            with zipfile.ZipFile(path) as archive:
                chosen = [member for member in members if member.startswith(f"{_FOLDERS[split]}/")]
                return [(archive.read(member), classnames.index(member.split("/")[1])) for member in chosen]

        return read

    splits = {split: reader(split) for split in ("validation", "test")}
    return TaskFiles(name, classnames, splits, hashlib.sha256(path.read_bytes()).hexdigest())
