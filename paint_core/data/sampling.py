"""One training set out of several tasks, as joint patching wants it (PAINT, arXiv 2208.05592, section 2).

"Merge all data into one task": the images are put together, and the heads become one head over the union of all
classes. An image is so told apart from the classes of every task, not of its own only, which is what an
open-vocabulary model must do later. Classes whose embeddings are equal become one row, because no image tower can
tell them apart. Every task is still judged under its own head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from paint_core.data.datasets import LabelledImages, Task
from paint_core.errors import ConfigError, EmptySplitError
from paint_core.runtime.randomness import generator

Sampling = Literal["balanced", "proportional"]
SAMPLINGS: tuple[Sampling, ...] = ("balanced", "proportional")

# Rows of one prompt, encoded in batches of other sizes, differ by some 1e-7; those of any two prompts by far more.
_SAME_EMBEDDING = 1e-6


@dataclass(frozen=True, eq=False)
class UnionHead:
    """The heads of several tasks as one.

    Attributes:
        head: [C, D], unit rows in the order of their first task.
        rows: for each task int64 [C of the task], the rows of its classes in `head`.
    """

    head: Tensor
    rows: tuple[Tensor, ...]


def union_head(heads: Sequence[Tensor]) -> UnionHead:
    """The head over the classes of all heads [C, D]; classes of equal embeddings share a row.

    Raises:
        ConfigError: no heads.
    """
    if not heads:
        raise ConfigError("there is no head to combine: give at least one task")
    everything = torch.cat([head.detach() for head in heads])
    distance = 1 - everything.double() @ everything.double().T
    # Of several equal rows, `argmax` finds the first one; a row is always equal to itself.
    first = (distance <= _SAME_EMBEDDING).int().argmax(dim=1)
    kept, row_of = torch.unique(first, sorted=True, return_inverse=True)
    parts = torch.split(row_of, [len(head) for head in heads])
    return UnionHead(everything[kept].clone(), tuple(part.cpu().clone() for part in parts))


def merge_training_sets(
    tasks: Sequence[Task], sampling: Sampling = "proportional", seed: int = 0
) -> tuple[Tensor, LabelledImages]:
    """The union head and the training images of one epoch, labelled with its rows.

    Args:
        sampling: how often each task's images are in it; see `sampling_rows`.
    """
    splits = [_training_split(task) for task in tasks]
    union = union_head([task.head for task in tasks])
    drawn = sampling_rows([len(split) for split in splits], sampling, seed)
    images = torch.cat([split.images[rows] for split, rows in zip(splits, drawn, strict=True)])
    own = [split.labels[rows] for split, rows in zip(splits, drawn, strict=True)]
    labels = torch.cat([rows[labels] for rows, labels in zip(union.rows, own, strict=True)])
    return union.head, LabelledImages(images, labels, _union_classnames(union, [split.classnames for split in splits]))


def sampling_rows(sizes: Sequence[int], sampling: Sampling, seed: int = 0) -> tuple[Tensor, ...]:
    """The images of each task in one epoch.

    `proportional`: every image once, so a batch contains the tasks in proportion to their sizes. `balanced`: as many
    from every task as the largest has, so each task is equally likely in a batch; a smaller task's images are repeated
    equally often, except for a random remainder.

    Args:
        sizes: number of images of each task, >= 1.

    Returns:
        For each task int64 positions among its images; fine-tuning shuffles them.

    Raises:
        ConfigError: unknown sampling.
    """
    if sampling not in SAMPLINGS:
        raise ConfigError(f"sampling is {sampling!r}: use one of {', '.join(map(repr, SAMPLINGS))}")
    if sampling == "proportional":
        return tuple(map(torch.arange, sizes))
    return tuple(_repeated(size, max(sizes), generator("balance", seed, index)) for index, size in enumerate(sizes))


def _repeated(size: int, times: int, source: torch.Generator) -> Tensor:
    rounds, remainder = divmod(times, size)
    extra = torch.randperm(size, generator=source)[:remainder]
    return torch.cat([torch.arange(size).repeat(rounds), extra])


def _training_split(task: Task) -> LabelledImages:
    if task.train is None:
        raise EmptySplitError(f"the task {task.name!r} has no training split: give one")
    return task.train


def _union_classnames(union: UnionHead, classnames: Sequence[Sequence[str]]) -> tuple[str, ...]:
    names = [""] * len(union.head)
    # Backwards, so that the first task's name of a shared row stands.
    for rows, own in reversed(list(zip(union.rows, classnames, strict=True))):
        for row, name in zip(rows.tolist(), own, strict=True):
            names[row] = name
    return tuple(names)
