"""Make the supported tasks and the anchors of photographs that are bundled with the starter.

    python -m recipes.starter.bundle_photographs --model RUN/model --photos PHOTOS --into paint_core/starter

Thumbnails from two sets whose licences allow it, of photographs that the starter was not trained on:
`supported/NAME.zip` with `val/CLASS/*.jpg` and `test/CLASS/*.jpg`. The classes are those that the model knows best in
the photographs that it was trained on. The held-out photographs of a class, in the order of their names, are halved:
Grocery Store's names count photographs taken one after the other, which must not be on both sides.

To the pictograms of `anchors.zip`, unlabelled thumbnails of photographs that the starter was trained on are added, in
place of those that it had.

    python -m recipes.starter.bundle_photographs --fashion FOLDER --into paintbox_demo

writes `fashion.zip`, a task to patch: some of Fashion-MNIST's pictures, the first ones of each class.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from paint_core.models import BaseModel, load_base
from recipes.starter.bundle import best_known, write_archive
from recipes.starter.photographs import photographs_in, read_words, square
from recipes.studies.adapt import FASHION, read_fashion

TASKS: Mapping[str, tuple[int, int]] = {"clothing": (10, 40), "grocery": (30, 20)}
"""How many classes, and how many photographs of each in a split at most, by the set's folder."""

THUMBNAIL_SIDE = 72
"""Of the shorter side, in pixels; the tower sees 64."""

FASHION_IMAGES: Mapping[str, int] = {"train": 100, "val": 30, "test": 60}
"""Of a class of Fashion-MNIST, by split."""

LEAST_IMAGES = 10
"""Of a class in a split."""

NUM_ANCHORS = 1000
"""Unlabelled photographs, of each set alike many."""

_QUALITY = 85


def main() -> int:
    """Write the archives and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="the open_clip folder that the supported tasks go with")
    parser.add_argument("--photos", type=Path, help="with NAME/train, NAME/val and NAME/test")
    parser.add_argument("--fashion", type=Path, help="with the files of Fashion-MNIST")
    parser.add_argument("--into", type=Path, required=True, help="where the archives go")
    arguments = parser.parse_args()
    if arguments.fashion:
        _write(arguments.into / "fashion.zip", fashion_files(arguments.fashion))
    if arguments.model and arguments.photos:
        base = load_base(f"local-dir:{arguments.model}")
        for task, (count, most) in TASKS.items():
            files = task_files(arguments.photos / task, base, count, most)
            _write(arguments.into / "supported" / f"{task}.zip", files)
        target = arguments.into / "anchors.zip"
        with zipfile.ZipFile(target) as archive:
            pictograms = {name: archive.read(name) for name in archive.namelist() if name.endswith(".png")}
        write_archive(target, pictograms | anchor_files(arguments.photos, seed=0))
    return 0


def _write(target: Path, files: Mapping[str, bytes]) -> None:
    write_archive(target, files)
    classes = len({path.split("/")[1] for path in files})
    sys.stdout.write(
        f"{target.stem}: {len(files):,} photographs, {classes} classes, {target.stat().st_size / 1e6:.2f} MB\n"
    )


def fashion_files(folder: Path) -> dict[str, bytes]:
    """Return path and PNG file of some of Fashion-MNIST's pictures; validation pictures are of its training split.

    Args:
        folder: With its four files.
    """
    files: dict[str, bytes] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for split, label, _, picture in read_fashion(folder):
        name = FASHION[int(label)]
        if split == "train" and counts["train", name] == FASHION_IMAGES["train"]:
            split = "val"
        if counts[split, name] < FASHION_IMAGES[split]:
            assert isinstance(picture, Image.Image)
            buffer = io.BytesIO()
            picture.save(buffer, "PNG", optimize=True)
            files[f"{split}/{name}/{counts[split, name]:03}.png"] = buffer.getvalue()
            counts[split, name] += 1
    return files


def task_files(folder: Path, base: BaseModel, count: int, most: int) -> dict[str, bytes]:
    """Return path and JPEG file of every photograph of a supported task.

    Args:
        folder: Of the set, with `train`, `val` and `test`.
        base: That the task is to be a supported one of.
        count: How many classes; all with enough photographs if there are no more.
        most: How many photographs of a class in a split.
    """
    held_out = _by_class([folder / "val", folder / "test"])
    names = {name for name, paths in held_out.items() if len(paths) >= 2 * LEAST_IMAGES}
    trained = {name: paths for name, paths in _by_class([folder / "train"]).items() if name in names}
    shown = torch.from_numpy(
        np.stack([square(_opened(path), base.image_size) for paths in trained.values() for path in paths])
    )
    labels = torch.tensor([row for row, paths in enumerate(trained.values()) for _ in paths])
    files = {}
    for name in best_known(base, list(trained), shown, labels, count):
        paths = held_out[name]
        middle = len(paths) // 2
        for split, half in (("val", paths[:middle]), ("test", paths[middle:])):
            files |= {f"{split}/{name}/{at:02}.jpg": thumbnail(path) for at, path in enumerate(half[:most])}
    return files


def anchor_files(photos: Path, seed: int) -> dict[str, bytes]:
    """Return name and JPEG file of the unlabelled photographs, drawn from the training folders of both sets.

    Args:
        photos: With NAME/train of each set.
        seed: Of the draw.
    """
    source = np.random.default_rng(seed)
    chosen: list[Path] = []
    for task in TASKS:
        paths = photographs_in(photos / task / "train")
        count = min(len(paths), NUM_ANCHORS // len(TASKS))
        chosen += [paths[at] for at in source.permutation(len(paths))[:count]]
    return {f"photo-{at:04}.jpg": thumbnail(path) for at, path in enumerate(chosen)}


def thumbnail(path: Path) -> bytes:
    """Return a photograph as a small JPEG file without metadata, turned as its EXIF data say.

    Args:
        path: Of the photograph.
    """
    picture = _opened(path)
    scale = THUMBNAIL_SIDE / min(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def _by_class(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the photographs of each class, by what it shows, in the order of folders and file names."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        said = read_words(folder)
        for path in photographs_in(folder):
            key = path.parent.name
            name = said[key][0] if key in said else key.replace("_", " ").lower()
            found.setdefault(name, []).append(path)
    return dict(sorted(found.items()))


if __name__ == "__main__":
    sys.exit(main())
