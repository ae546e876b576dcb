"""Photographs in class folders, as one array in a memory-mapped file, and the draw of some of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recipes.starter.captions import Words
from recipes.starter.model import SIDE

WORDS_FILE = "classes.json"
"""Of a folder of photographs: what its class folders show, by their names."""

_ENDINGS = frozenset((".jpg", ".jpeg", ".png"))
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Photographs:
    """Photographs to train on.

    Attributes:
        pictures: uint8 [N, S, S, 3].
        classes: int64 [N], the row of each one's class in `names`.
        names: M names, each of some photographs.
        words: for each name what else is known.
        teacher_features: float16 [N, D], a teacher's features of each (`teacher.py`); None without a teacher.
    """

    pictures: NDArray[np.uint8]
    classes: NDArray[np.int64]
    names: Sequence[str]
    words: Sequence[Words]
    teacher_features: NDArray[np.float16] | None = None

    def members(self) -> list[NDArray[np.int64]]:
        """Return for each name the rows of its photographs."""
        return [np.flatnonzero(self.classes == row) for row in range(len(self.names))]


def load_photographs(folders: Sequence[Path], work: Path) -> Photographs:
    """Return the photographs of all folders; read and scaled now if the work folder does not have them.

    Args:
        folders: Of class folders; with a `classes.json` that names them (`write_words`), or named by what they show.
        work: Where the array is kept.
    """
    files = [(folder, path) for folder in folders for path in photographs_in(folder)]
    known = {folder: read_words(folder) for folder in folders}
    labels = [known[folder].get(path.parent.name, (_spoken(path.parent.name), Words())) for folder, path in files]
    words = dict(sorted({name: said for name, said in reversed(labels)}.items()))
    rows = {name: row for row, name in enumerate(words)}
    return Photographs(
        pictures=_scaled([path for _, path in files], array_path(folders, work)),
        classes=np.array([rows[name] for name, _ in labels]),
        names=list(words),
        words=list(words.values()),
    )


def array_path(folders: Sequence[Path], work: Path) -> Path:
    """Return where the array of the folders' photographs is kept, by the paths and sizes of their files.

    Args:
        folders: Of class folders.
        work: The work folder.
    """
    listed = [
        f"{path.relative_to(folder)} {path.stat().st_size}" for folder in folders for path in photographs_in(folder)
    ]
    digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()[:16]
    return work / f"photographs-{digest}-{SIDE}px.npy"


def write_words(folder: Path, words: Mapping[str, tuple[str, Words]]) -> None:
    """Write what class folders show into a folder's `classes.json`.

    Args:
        folder: Of the class folders.
        words: By class folder: name, and what else is known.
    """
    content = {key: _to_json(name, said) for key, (name, said) in words.items()}
    (folder / WORDS_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_words(folder: Path) -> dict[str, tuple[str, Words]]:
    """Return what `write_words` wrote, or nothing.

    Args:
        folder: Of the class folders.
    """
    path = folder / WORDS_FILE
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {key: _from_json(entry) for key, entry in content.items()}


def square(picture: Image.Image, side: int = SIDE) -> NDArray[np.uint8]:
    """Return the middle of a picture, uint8 [side, side, 3].

    Args:
        picture: Of any size and mode.
        side: Of the result, in pixels.
    """
    shorter = min(picture.size)
    left, top = (picture.width - shorter) // 2, (picture.height - shorter) // 2
    box = (left, top, left + shorter, top + shorter)
    return np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, box=box))


def photographs_in(folder: Path) -> list[Path]:
    """Return the photographs of a folder's class folders.

    Args:
        folder: Of class folders.
    """
    return sorted(path for path in folder.glob("*/*") if path.suffix.lower() in _ENDINGS)


def _spoken(folder_name: str) -> str:
    return folder_name.replace("_", " ").replace("-", " ").lower()


def _scaled(paths: Sequence[Path], target: Path) -> NDArray[np.uint8]:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial.npy")
        np.save(partial, np.stack(_read_all(paths)))
        partial.replace(target)
    array: NDArray[np.uint8] = np.load(target, mmap_mode="r")
    return array


def _read_all(paths: Sequence[Path]) -> list[NDArray[np.uint8]]:
    if len(paths) <= _CHUNK:  # processes would take longer to start
        return [_read(path) for path in paths]
    with ProcessPoolExecutor(mp_context=get_context("forkserver")) as pool:
        return list(pool.map(_read, paths, chunksize=_CHUNK))


def _read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        picture.draft("RGB", (2 * SIDE, 2 * SIDE))
        return square(picture)


def _to_json(name: str, words: Words) -> dict[str, Any]:
    return {"name": name, "tags": list(words.tags), "kinds": dict(words.kinds)}


def _from_json(entry: Mapping[str, Any]) -> tuple[str, Words]:
    return entry["name"], Words(tags=tuple(entry["tags"]), kinds=tuple(entry["kinds"].items()))
