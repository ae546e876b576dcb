"""Names within an upload: what is an image, what is a split, and what operating systems leave behind."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

SPLITS = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "holdout": "test",
}
"""From a folder's name to its split, as Hugging Face `datasets` has them."""
_EVALUATION = ("eval", "evaluation", "holdout")
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif"),
)
_OTHER_EXTENSIONS = frozenset({
    ".cls", ".txt", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".md", ".rst", ".html",
    ".htm", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".rtf", ".log", ".mat", ".npy", ".npz", ".pkl", ".pt", ".pth",
    ".h5", ".hdf5", ".arrow", ".parquet", ".feather", ".tfrecord", ".lmdb", ".mdb", ".db", ".sqlite", ".lock",
    ".sh", ".py", ".ipynb", ".m", ".js", ".css", ".svg", ".exe", ".dll", ".zip", ".tar", ".gz", ".tgz", ".bz2",
    ".xz", ".zst", ".7z", ".rar", ".cache", ".names", ".cfg", ".ini", ".toml", ".mp4", ".avi", ".mov", ".mkv",
    ".webm", ".wav", ".mp3",
})  # fmt: skip
"""Of files whose first bytes need not be looked at to know that they are no image that we read."""
CONTAINERS = frozenset({
    "data", "dataset", "datasets", "set", "sets", "image", "images", "imgs", "img", "pics", "pictures", "photos",
    "jpg", "jpeg", "jpegs", "png", "jpegimages", "raw", "files", "all", "samples", "folder", "folders", "cropped",
    "split", "splits", "train_images", "test_images",
})  # fmt: skip
"""Names of folders that contain images and mean nothing."""
NOT_CLASSES = frozenset({
    "annotations", "annotation", "labels", "label", "meta", "metadata", "imdb", "docs", "doc", "devkit", "lists",
    "list", "imagesets", "attributes", "parts", "segmentations", "trimaps", "xmls", "masks", "info", "scripts",
    "code", "logs", "split", "splits",
})  # fmt: skip
"""Names of folders of other files; one beside class folders is not an empty class."""
UNLABELLED = frozenset(
    {"unlabeled", "unlabelled", "unknown", "unsup", "pred", "predict", "prediction", "predictions", "submission"}
)
"""Names of folders of images that have no labels."""
_NEUTRAL = CONTAINERS | {"mini", "full", "small", "large", "final", "part", "new"}
_IGNORED_FOLDERS = ("__MACOSX",)
_IGNORED_FILES = ("Icon\r", "Thumbs.db", "desktop.ini")
_DIGITS = re.compile(r"\d+")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_]+")
_COUNTERS = re.compile(r"(?i)[-_. ]?\b\d+(?:[-_. ]?of[-_. ]?\d+)?\b|\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b|(?<=[a-z])\d+$")
_SHARD_STEM = re.compile(
    rf"(?i)(?:|.*[-_.])(?:{'|'.join(SPLITS)})(?:[-_.]?\d+(?:[-_.]of[-_.]\d+)?)?(?:-[0-9a-f]{{8,}})?"
)

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file or a folder in a container: its name as it stands there, and its size in bytes."""

    name: str
    num_bytes: int = 0
    is_folder: bool = False

    @property
    def parts(self) -> Parts:
        """The name's parts, in one spelling of Unicode."""
        return PurePosixPath(unicodedata.normalize("NFC", self.name)).parts


def is_junk(parts: Parts) -> bool:
    """Return whether this is hidden or left behind by an operating system."""
    return parts[-1] in _IGNORED_FILES or any(part.startswith(".") or part in _IGNORED_FOLDERS for part in parts)


def is_image(parts: Parts) -> bool:
    """Return whether a file is named like an image."""
    return parts[-1].lower().endswith(EXTENSIONS)


def may_be_image(parts: Parts) -> bool:
    """Return whether a file that is not named like an image may be one, so that its first bytes decide."""
    return PurePosixPath(parts[-1].lower()).suffix not in _OTHER_EXTENSIONS


def are_splits(names: Collection[str]) -> bool:
    """Return whether every name, as a whole, is that of a split."""
    return all(name.lower() in SPLITS for name in names)


def are_numbered_containers(names: Collection[str]) -> bool:
    """Return whether folders differ only by a number and hold just images, as `images_001` and `images_002`."""
    stems = {_DIGITS.sub("", name.lower()) for name in names}
    return len(stems) == 1 and any(word in CONTAINERS for word in _WORDS.findall(stems.pop()))


def are_counted(names: Collection[str]) -> bool:
    """Return whether names differ only by a number, as `2023` and `2024` or `session1` and `session2`."""
    return len({_DIGITS.sub("", name.lower()) for name in names}) == 1


@dataclass(frozen=True)
class SplitWord:
    """The split that one of a name's words means, and the other words."""

    word: str
    rest: tuple[str, ...]

    @property
    def split(self) -> str:
        """Which split the word names."""
        return SPLITS[self.word]


@lru_cache(maxsize=10_000)
def find_split_word(name: str) -> SplitWord | None:
    """Return the word of a name that means a split, as in `cars_train` or `Final_Test`; None unless there is one."""
    words = [word.lower() for word in _WORDS.findall(_COUNTERS.sub(" ", name))]
    told = [word for word in words if word in SPLITS]
    if not told or len({SPLITS[word] for word in told}) > 1:
        return None
    return SplitWord(told[0], tuple(word for word in words if word not in SPLITS))


def splits_of_folders(names: Collection[str]) -> Mapping[str, str] | None:
    """Return the split of each folder of one level; None unless every name means one.

    Each name is that of a split, or contains one as a word with the same other words everywhere, as
    `seg_train` and `seg_test` do; `train station` and `test tube` do not.
    """
    found = {name: find_split_word(name) for name in names}
    told = {name: each for name, each in found.items() if each is not None}
    if not told or len(told) < len(found):
        return None
    if not are_splits(names):
        rests = {each.rest for each in told.values()}
        is_neutral = all(word in _NEUTRAL for rest in rests for word in rest)
        if not is_neutral and (len(rests) > 1 or len(told) == 1):
            return None
    return settle({name: each.word for name, each in told.items()})


def settle(words: Mapping[str, str]) -> dict[str, str]:
    """Return splits by name; `eval` beside `test` is validation, if nothing else is called that."""
    splits = {name: SPLITS[word] for name, word in words.items()}
    evaluated = {name for name, word in words.items() if word in _EVALUATION}
    if "validation" not in splits.values() and any(splits[name] == "test" for name in words.keys() - evaluated):
        splits |= dict.fromkeys(evaluated, "validation")
    return splits


def splits_of_files(files: Sequence[Parts]) -> tuple[list[str | None], list[Parts]]:
    """Return the split of each shard or table, by its folder or a word of its name, and the files that name none.

    `train/0.tar`, `data/train-00000-of-00001-b42a775f407cee45.parquet` and `test_images.parquet` name one. If no file
    does, or one word among others gives all of them the same split, as in `train-station-0.tar`, none has a split.
    """
    found = [_word_of_file(parts) for parts in files]
    splits = settle({"/".join(parts): word.word for parts, word in zip(files, found, strict=True) if word is not None})
    told = [splits.get("/".join(parts)) for parts in files]
    untold = [parts for parts, split in zip(files, told, strict=True) if split is None] if splits else []
    rests = {word.rest for word in found if word is not None}
    says_more = any(word not in CONTAINERS for rest in rests for word in rest)
    is_vague = says_more if untold else not all(map(_tells_plainly, files))
    if len(set(splits.values())) == 1 and (len(rests) > 1 or is_vague):
        return [None] * len(told), []
    return told, untold


def _word_of_file(parts: Parts) -> SplitWord | None:
    named = [part.lower() for part in parts[:-1] if part.lower() in SPLITS]
    return SplitWord(named[-1], ()) if named else find_split_word(PurePosixPath(parts[-1]).stem)


def _tells_plainly(parts: Parts) -> bool:
    named = any(part.lower() in SPLITS for part in parts[:-1])
    return named or _SHARD_STEM.fullmatch(PurePosixPath(parts[-1]).stem) is not None
