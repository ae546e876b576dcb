"""How well a model names photographs that it was never trained on, the bundled tasks, digits, and drawn words.

The prompts were fixed beforehand: `PHOTO_PROMPTS` for photographs, the starter's own for everything else.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from paint_core.models import BaseModel
from paint_core.starter import supported_archives
from recipes.starter.judgement import Judgement, score_names
from recipes.starter.lettering import UNSEEN_FONTS, alone, draw_words
from recipes.starter.photographs import photographs_in, read_words, square

PHOTO_PROMPTS = ("{}", "a photo of a {}", "a picture of a {}")

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

PHOTO_SETS: Mapping[str, Mapping[str, str]] = {
    "cifar10": {},
    "tiny-imagenet": {},
    "caltech101": {},
    "grocery": {},
    "clothing": {},
    "pacs": {},
    "mnist": {str(value): f"digit {word}" for value, word in enumerate(DIGITS)},
}
"""Sets of photographs to judge with, and what their class folders show where their names do not say it."""

WORDS = (
    "apple", "arrow", "baby", "bag", "ball", "banana", "bank", "bear", "bed", "bee", "bell", "bird", "boat", "bomb",
    "book", "boot", "bottle", "bowl", "box", "bread", "bridge", "bus", "cake", "camera", "candle", "car", "carrot",
    "castle", "cat", "chair", "cheese", "cherry", "church", "clock", "cloud", "coffee", "cookie", "cow", "crown",
    "cup", "desk", "dog", "door", "dress", "drum", "duck", "eagle", "ear", "egg", "eye", "fire", "fish", "flower",
    "foot", "fork", "frog", "ghost", "glass", "globe", "goat", "grapes", "guitar", "hammer", "hand", "hat", "heart",
    "horse", "house", "key", "kite", "knife", "lamp", "leaf", "lemon", "lion", "lock", "map", "milk", "moon", "mouse",
    "nose", "owl", "pen", "piano", "pig", "pizza", "rain", "ring", "robot", "rocket", "sheep", "ship", "shoe",
    "snake", "star", "sun", "table", "train", "tree", "wolf",
)  # fmt: skip
"""A hundred words to be read."""

_TIMES = 5


def judge_photographs(base: BaseModel, name: str, folder: Path, most: int, seed: int = 0) -> Iterator[Judgement]:
    """Yield the scores on one set, with its prompts and with the starter's own.

    Args:
        base: To judge.
        name: One of `PHOTO_SETS`.
        folder: Of class folders.
        most: Photographs, the first in an order drawn from the seed.
        seed: Of that order.
    """
    said = {key: text for key, (text, _) in read_words(folder).items()} | dict(PHOTO_SETS[name])
    paths = photographs_in(folder)
    paths = [paths[at] for at in np.random.default_rng(seed).permutation(len(paths))[:most]]
    names = [said.get(path.parent.name, path.parent.name.replace("_", " ").lower()) for path in paths]
    shown = torch.from_numpy(np.stack([_read(path, base.image_size) for path in paths]))
    yield Judgement(f"{name}, {len(set(names))} names", score_names(base, names, shown, PHOTO_PROMPTS))
    yield Judgement(f"{name}, {len(set(names))} names, the starter's prompts", score_names(base, names, shown))


def judge_supported(base: BaseModel) -> Iterator[Judgement]:
    """Yield the scores on both splits of each bundled supported task.

    Args:
        base: To judge.
    """
    for task, path in supported_archives().items():
        with zipfile.ZipFile(path) as archive:
            for split in ("val", "test"):
                members = [
                    each for each in archive.namelist() if each.startswith(f"{split}/") and not each.endswith("/")
                ]
                shown = [_resized(Image.open(io.BytesIO(archive.read(each))), base.image_size) for each in members]
                names = [each.split("/")[1] for each in members]
                yield Judgement(f"{task}, {split}", score_names(base, names, torch.from_numpy(np.stack(shown))))


def judge_digits(base: BaseModel) -> Judgement:
    """Return the score on scikit-learn's handwritten digits.

    Args:
        base: To judge.
    """
    images, values = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    shown = np.stack([_resized(Image.fromarray(each), base.image_size) for each in pixels])
    return Judgement(
        "digits", score_names(base, [f"digit {DIGITS[int(each)]}" for each in values], torch.from_numpy(shown))
    )


def judge_words(base: BaseModel, seed: int = 0) -> Judgement:
    """Return the score on pictures of a drawn word, in fonts that were never trained on.

    Args:
        base: To judge.
        seed: Of the pictures.
    """
    words = WORDS * _TIMES
    masks = torch.from_numpy(draw_words(words, base.image_size, np.random.default_rng(seed), UNSEEN_FONTS))
    shown = alone(masks, torch.Generator().manual_seed(seed)).round().to(torch.uint8)
    return Judgement(f"{len(WORDS)} drawn words", score_names(base, words, shown))


def _read(path: Path, side: int) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return square(picture, side)


def _resized(picture: Image.Image, side: int) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
