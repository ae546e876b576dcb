"""How well an exported model names the pictograms of a vendor that it has never seen, with prompts fixed beforehand.

    python -m recipes.starter.evaluate MODEL --work .starter --cifar10 FOLDER --tiny-imagenet FOLDER --mnist FOLDER

prints these scores, those on the bundled supported tasks, and those on photographs and drawn words
(`evaluate_photographs`).
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from paint_core.evaluation import Score
from paint_core.models import BaseModel, load_base
from recipes.starter.bundle import SPLITS, TASKS, class_names, possible_names, task_files
from recipes.starter.evaluate_photographs import (
    PHOTO_SETS,
    judge_digits,
    judge_photographs,
    judge_supported,
    judge_words,
)
from recipes.starter.judgement import Judgement, score_names
from recipes.starter.pictures import WHOLE, Look, on_white, show, write_names
from recipes.starter.render import rendered
from recipes.starter.sources import read_sources


def main() -> int:
    """Print every score that can be had and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an open_clip folder")
    parser.add_argument("--work", type=Path, default=Path(".starter"), help="where pictograms are kept")
    parser.add_argument("--most", type=int, default=10_000, help="pictures of a set, the first in an order drawn once")
    for name in PHOTO_SETS:
        parser.add_argument(f"--{name}", type=Path, metavar="FOLDER", help="class folders")
    arguments = parser.parse_args()
    folders = {name: getattr(arguments, name.replace("-", "_")) for name in PHOTO_SETS}
    for judgement in _all(
        arguments.model, arguments.work, {key: path for key, path in folders.items() if path}, arguments.most
    ):
        sys.stdout.write(f"{judgement}\n")
        sys.stdout.flush()
    return 0


def _all(model: Path, work: Path, folders: Mapping[str, Path], most: int) -> Iterator[Judgement]:
    base = load_base(f"local-dir:{model}")
    for name, folder in folders.items():
        yield from judge_photographs(base, name, folder, most)
    yield judge_words(base)
    yield from judge_supported(base)
    yield judge_digits(base)
    yield from judge(model, work)
    yield from judge_reading(model, work)


def judge(model: Path, folder: Path) -> list[Judgement]:
    """Return the scores on held-out vendors: on names of the emoji trained on, and on names never trained on.

    Args:
        model: An open_clip folder.
        folder: Where packages and arrays are kept.
    """
    base = load_base(f"local-dir:{model}")
    emoji = {name for source in read_sources("emoji") for name in rendered(source, folder)[0]}
    trained = emoji | {name for source in read_sources("icons") for name in rendered(source, folder)[0]}
    found, new_names, new_pictures = [], [], []
    for source in read_sources("held_out"):
        names, pictures = rendered(source, folder)
        shown = on_white(pictures, base.image_size)
        known = [index for index, name in enumerate(names) if name in emoji]
        found.append(
            Judgement(f"{source.name}, emoji trained on", score_names(base, _pick(names, known), shown[known]))
        )
        new = [index for index, name in enumerate(names) if name not in trained]
        new_names += _pick(names, new)
        new_pictures.append(shown[new])
    what = f"both, {len(set(new_names))} names never trained on"
    return [*found, Judgement(what, score_names(base, new_names, torch.cat(new_pictures)))]


def judge_reading(model: Path, folder: Path, seed: int = 0) -> list[Judgement]:
    """Return how often a picture is called what it shows, and how often what is written on it (Goh et al., 2021).

    Every pictogram of the first held-out vendor whose name was trained on is shown with nothing written on it, with the
    name of another, and that other name alone.

    Args:
        model: An open_clip folder.
        folder: Where packages and arrays are kept.
        seed: Of the pictures.
    """
    base = load_base(f"local-dir:{model}")
    emoji = {name for source in read_sources("emoji") for name in rendered(source, folder)[0]}
    names, pictures = rendered(read_sources("held_out")[0], folder)
    rows = [index for index, name in enumerate(names) if name in emoji]
    shows = _pick(names, rows)
    says = others(shows, np.random.default_rng(seed))
    looks = (replace(WHOLE, written_share=share, word_share=alone) for share, alone in ((0, 0), (1, 0), (0, 1)))
    bare, written, alone = (_written(pictures[rows], says, base.image_size, look, seed) for look in looks)
    return [
        Judgement("nothing written: what is shown", score_names(base, shows, bare)),
        Judgement("another name written: what is shown", score_names(base, shows, written)),
        Judgement("another name written: what is written", score_names(base, says, written)),
        Judgement("a name alone: what is written", score_names(base, says, alone)),
    ]


def others(names: Sequence[str], source: np.random.Generator) -> list[str]:
    """Return for each of at least two different names another one, each name once.

    Args:
        names: In any order.
        source: Of the draw.
    """
    order = source.permutation(len(names))
    given = dict(zip(order, np.roll(order, 1), strict=True))
    return [names[given[index]] for index in range(len(names))]


def _written(pictures: NDArray[np.uint8], says: Sequence[str], side: int, look: Look, seed: int) -> Tensor:
    """Pictures with words, uint8 [N, side, side, 3]."""
    nothing = torch.zeros(len(pictures), dtype=torch.bool)
    strips = torch.from_numpy(write_names(says, side))
    generator = torch.Generator().manual_seed(seed)
    return show(torch.from_numpy(pictures), nothing, nothing, strips, side, generator, look).round().to(torch.uint8)


def _pick(names: Sequence[str], rows: Sequence[int]) -> list[str]:
    return [names[row] for row in rows]


def judge_tasks(model: Path, folder: Path, seed: int = 0) -> list[Judgement]:
    """Return the scores on both splits of every supported task, and on its test split with all names of the theme.

    Args:
        model: An open_clip folder.
        folder: Where packages and arrays are kept.
        seed: Of the pictures.
    """
    base = load_base(f"local-dir:{model}")
    found = []
    for task in TASKS:
        every = possible_names(task, folder)
        for names, splits in ((class_names(task, folder, base), tuple(SPLITS)), (every, ("test",))):
            files = task_files(task, names, folder, seed)
            found += [
                Judgement(f"{task}, {len(names)} names, {split}", _score_files(base, files, split)) for split in splits
            ]
    return found


def _score_files(base: BaseModel, files: Mapping[str, bytes], split: str) -> Score:
    chosen = {path: png for path, png in files.items() if path.startswith(f"{split}/")}
    pixels = [np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in chosen.values()]
    return score_names(base, [path.split("/")[1] for path in chosen], torch.from_numpy(np.stack(pixels)))


if __name__ == "__main__":
    sys.exit(main())
