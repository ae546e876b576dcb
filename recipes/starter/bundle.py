"""Make the pictures that are bundled with the starter.

    python -m recipes.starter.bundle --model .starter/RUN/model --into paint_core/starter

- `supported/NAME.zip`: tasks of `val/CLASS/*.png` and `test/CLASS/*.png`. A class is an emoji of one of Emojibase's
  groups that both held-out vendors drew and the training vendors too; of those, the ones that the model knows best
  in the pictures of its training vendors, because a supported task is one that the base can do. Validation shows one
  held-out vendor's pictograms, test the other's: the splits share no source picture, and neither chose the classes.
- `anchors.zip`: unlabelled training pictograms from sets whose licence asks for no more than a notice.

Every picture is a function of the seed: turned, scaled and shifted a little, on backgrounds of our own.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from paint_core.evaluation import encode
from paint_core.models import BaseModel, build_head, load_base, prompts
from recipes.starter.captions import emoji_name
from recipes.starter.model import SIDE
from recipes.starter.pictures import WHOLE, Look, on_white, show
from recipes.starter.render import rendered
from recipes.starter.sources import FetchError, load_json, read_sources

TASKS: Mapping[str, range] = {
    "food": range(42, 49),
    "nature": range(34, 42),
    "objects": range(65, 83),
    "travel": range(49, 60),
}
"""Supported tasks: four of Emojibase's groups, each with the subgroups that it is made of."""

NUM_CLASSES = 30
"""Of a task."""

SPLITS = {"val": "streamline-emojis", "test": "emojione"}
"""Which vendor draws a split."""

ANCHOR_SETS = ("noto", "fluent-emoji-flat", "twemoji")
NUM_ANCHORS = 1000
LEAST_IMAGES = 500
"""Of a split."""

_MISNAMED = {"turkey"}
"""One of the vendors means the flag."""

_COLOURS = 24
_DATE = (1980, 1, 1, 0, 0, 0)  # archives of equal pictures are equal files


@dataclass(frozen=True, eq=False)
class Drawn:
    """Pictograms of one name.

    Attributes:
        name: What they show.
        pictures: uint8 [N, S, S, 4], N >= 1.
    """

    name: str
    pictures: NDArray[np.uint8]


def main() -> int:
    """Write the archives and return the exit status."""
    arguments = _parse()
    try:
        base = load_base(f"local-dir:{arguments.model}")
        archives = {}
        for task in TASKS:
            names = class_names(task, arguments.work, base)
            archives[f"supported/{task}.zip"] = task_files(task, names, arguments.work, arguments.seed)
        archives["anchors.zip"] = anchor_files(arguments.work, arguments.seed)
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    for name, files in archives.items():
        target = arguments.into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_archive(target, files)
        classes = len({Path(path).parts[-2] for path in files if "/" in path})
        print(f"{name}: {len(files):,} pictures, {classes} classes, {target.stat().st_size / 1e6:.2f} MB")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".starter"), help="where packages and arrays are kept")
    parser.add_argument("--model", type=Path, required=True, help="the open_clip folder that they go with")
    parser.add_argument("--into", type=Path, required=True, help="where the archives go")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def class_names(task: str, folder: Path, base: BaseModel) -> tuple[str, ...]:
    """Return the classes of a supported task, sorted.

    Args:
        task: One of `TASKS`.
        folder: Where packages and arrays are kept.
        base: That the task is to be a supported one of.
    """
    names = possible_names(task, folder)
    shown, labels = [], []
    for source in read_sources("emoji"):
        all_names, pictures = rendered(source, folder)
        rows = [row for row, name in enumerate(all_names) if name in names]
        shown.append(on_white(pictures[rows], base.image_size))
        labels += [names.index(all_names[row]) for row in rows]
    return best_known(base, names, torch.cat(shown), torch.tensor(labels), NUM_CLASSES)


def best_known(base: BaseModel, names: Sequence[str], shown: Tensor, labels: Tensor, count: int) -> tuple[str, ...]:
    """Return the names that a model is surest of, by the mean log-probability of the right one, sorted.

    Args:
        base: The model.
        names: Of the classes, at least one picture each.
        shown: uint8 [N, S, S, 3].
        labels: int64 [N].
        count: How many names; all if there are no more.
    """
    head = build_head(base, names, prompts.STARTER)
    features = F.normalize(encode(base.visual, shown, base.preprocess), dim=-1)
    sure = F.log_softmax(base.logit_scale * features @ head.T, dim=-1)[torch.arange(len(labels)), labels]
    means = [float(sure[labels == label].mean()) for label in range(len(names))]
    order = sorted(range(len(names)), key=lambda label: -means[label])
    return tuple(sorted(names[label] for label in order[:count]))


def possible_names(task: str, folder: Path) -> tuple[str, ...]:
    """Return the names of a task's subgroups that all vendors drew, sorted.

    Args:
        task: One of `TASKS`.
        folder: Where packages and arrays are kept.
    """
    (words,) = read_sources("words")
    grouped = {emoji_name(entry) for entry in load_json(words, folder) if entry.get("subgroup") in TASKS[task]}
    trained = {name for source in read_sources("emoji") for name in rendered(source, folder)[0]}
    held_out = (set(rendered(source, folder)[0]) for source in read_sources("held_out"))
    common = grouped & trained & set.intersection(*held_out) - _MISNAMED
    # A dog's face is a picture of a dog: only one of two names that both fit can be a class.
    return tuple(sorted(name for name in common if name.removesuffix(" face") not in common - {name}))


def task_files(task: str, names: Sequence[str], folder: Path, seed: int) -> dict[str, bytes]:
    """Return path and PNG file of every picture of a supported task.

    Args:
        task: One of `TASKS`.
        names: Its classes, of `possible_names`.
        folder: Where packages and arrays are kept.
        seed: Of the draw.
    """
    each = math.ceil(LEAST_IMAGES / len(names))
    files = {}
    for split, vendor in SPLITS.items():
        (source,) = (source for source in read_sources("held_out") if source.name == vendor)
        drawn = _by_name(*rendered(source, folder))
        rows = np.concatenate([_cycled(drawn[name].pictures, each) for name in names])
        places = [f"{split}/{name}/{index:02}.png" for name in names for index in range(each)]
        files |= _png_files(places, rows, [seed, list(TASKS).index(task), list(SPLITS).index(split)], WHOLE)
    return files


def anchor_files(folder: Path, seed: int) -> dict[str, bytes]:
    """Return name and PNG file of the unlabelled pictures: of each set alike many, each of another name.

    Args:
        folder: Where packages and arrays are kept.
        seed: Of the draw.
    """
    source = np.random.default_rng([seed, len(TASKS)])
    sets = {each.name: each for each in read_sources("emoji")}
    rows: list[NDArray[np.uint8]] = []
    taken: set[str] = set()
    for index, name in enumerate(ANCHOR_SETS):
        drawn = _by_name(*rendered(sets[name], folder))
        free = sorted(set(drawn) - taken)
        count = len(range(index, NUM_ANCHORS, len(ANCHOR_SETS)))
        chosen = source.choice(free, size=count, replace=False)
        taken |= {str(one) for one in chosen}
        rows += [drawn[str(one)].pictures[0] for one in chosen]
    order = source.permutation(len(rows))
    places = [f"{index:04}.png" for index in range(len(rows))]
    plain = replace(WHOLE, shaded_share=0.0)
    return _png_files(places, np.stack([rows[index] for index in order]), [seed, len(TASKS)], plain)


def write_archive(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a zip whose bytes depend on nothing but the files.

    Args:
        target: Replaced as a whole.
        files: Path to content.
    """
    partial = target.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as archive:  # PNG files do not get smaller
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _DATE), files[name])
    partial.replace(target)


def _by_name(names: Sequence[str], pictures: NDArray[np.uint8]) -> dict[str, Drawn]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        rows[name].append(row)
    return {name: Drawn(name, pictures[members]) for name, members in rows.items()}


def _cycled(pictures: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    return pictures[np.arange(count) % len(pictures)]


def _png_files(places: Sequence[str], rows: NDArray[np.uint8], seed: Sequence[int], look: Look) -> dict[str, bytes]:
    generator = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**62)))
    nothing = torch.zeros(len(rows), dtype=torch.bool)
    no_words = torch.zeros(len(rows), 1, SIDE, dtype=torch.uint8)
    shown = show(torch.from_numpy(rows), nothing, nothing, no_words, SIDE, generator, look)
    return dict(zip(places, _encoded(shown), strict=True))


def _encoded(shown: Tensor) -> Iterator[bytes]:
    for pixels in shown.round().to(torch.uint8).numpy():
        buffer = io.BytesIO()
        few = Image.fromarray(pixels).quantize(_COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(buffer, "PNG", optimize=True)
        yield buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
