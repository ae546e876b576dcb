"""Data sets that are recognised but need conversion: what they are, and the command that converts them.

Checked if folders name no classes, and for data sets whose folders name only some of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from registry.errors import ArchiveRefusedError
from registry.intake.annotations import CONVERT_BOXES
from registry.intake.names import EXTENSIONS, Parts
from registry.intake.plan import Upload

_TORCHVISION = (
    'Write class folders with torchvision: `python -c "import os; from torchvision.datasets import {name} as D; '
    "[(os.makedirs(f'out/{{s}}/{{y}}', exist_ok=True), x.convert('RGB').save(f'out/{{s}}/{{y}}/{{i}}.png')) for s in "
    "{splits} for i, (x, y) in enumerate(D('.', {args}, download=True))]\"`, and upload the folder `out`."
)


def _torchvision(name: str, splits: Sequence[str] = ("train", "test"), args: str = "split=s") -> str:
    return _TORCHVISION.format(name=name, splits=tuple(splits), args=args)


_BY_NAME = (
    'In the folder of the images, `for f in *.*; do d="${f%%[._-][0-9]*}"; mkdir -p "$d" && mv "$f" "$d/"; done` makes '
    "class folders from names such as cat.0.jpg and cat_001.jpg. Then upload the folder."
)
_INNER_TARS = (
    'Unpack the inner archives first: `for f in *.tar; do mkdir -p "${f%.tar}" && tar -xf "$f" -C "${f%.tar}" '
    '&& rm "$f"; done`, and upload the folder.'
)
_INNER_ZIPS = (
    'Unpack the inner archives first: `for f in *.zip; do unzip -q "$f" -d "${f%.zip}" && rm "$f"; done; for f in '
    '*.tar.gz *.tgz; do tar -xzf "$f" && rm "$f"; done`, and upload the folder.'
)

_MOST_PATHS, _MAX_PATH = 5000, 255
"""Limits of the paths that are matched against patterns."""


@dataclass(frozen=True)
class _Names:
    """Names by which an upload is recognised, in lower case: some paths, other files and images."""

    paths: Sequence[str]
    others: Sequence[Parts]
    images: Sequence[Parts]

    def has(self, pattern: str) -> bool:
        """Return whether a path matches a pattern, from some folder on."""
        expression = re.compile(f"(?:.*/)?{pattern}")
        return any(map(expression.fullmatch, self.paths))

    def count(self, *suffixes: str) -> int:
        """Return how many files have one of these extensions."""
        return sum(parts[-1].endswith(suffixes) for parts in self.others)


@dataclass(frozen=True)
class _Known:
    """A known data set: its description, how it is recognised, and what to do."""

    what: str
    fits: Callable[[_Names], bool]
    advice: str


def _pattern(*patterns: str) -> Callable[[_Names], bool]:
    return lambda names: all(names.has(each) for each in patterns)


def _same_stems(names: _Names, suffix: str) -> bool:
    """Return whether most images have a file of the same name with another extension, in any folder."""
    others = {parts[-1].rpartition(".")[0] for parts in names.others if parts[-1].endswith(suffix)}
    stems = [parts[-1].rpartition(".")[0] for parts in names.images]
    whole = [parts[-1] for parts in names.images]
    return (
        bool(stems)
        and sum(one in others or both in others for one, both in zip(stems, whole, strict=True)) > len(stems) / 2
    )


def _is_tiny_imagenet(names: _Names) -> bool:
    return names.has(r"val/val_annotations\.txt") and names.has(r"wnids\.txt")


def _names_classes(names: _Names) -> bool:
    """Return whether the file names contain a few classes: `cat.0.jpg`, `Abyssinian_12.jpg`."""
    stems = [re.sub(r"[._-]?\d+$", "", parts[-1].rpartition(".")[0]) for parts in names.images]
    found = Counter(stem for stem in stems if any(char.isalpha() for char in stem))
    return len(found) > 1 and min(found.values()) > 1 and 2 * sum(found.values()) > len(stems)


_TINY_IMAGENET = _Known(
    "tiny-imagenet-200, whose val folder has its classes in val_annotations.txt",
    _is_tiny_imagenet,
    "In its folder, `(cd val && while read f c _; do mkdir -p $c && mv images/$f $c/; done < val_annotations.txt && "
    "rm -r images) && rm -r test` sorts val into class folders and removes the test images, which have no labels. "
    "Then upload the folder.",
)
_CARS = _Known(
    "Stanford Cars, whose classes are in MATLAB files",
    _pattern(r"cars_(?:(?:train|test)/[^/]+\.jpe?g|meta.*\.mat)"),
    _torchvision("StanfordCars"),
)
_BEFORE_FOLDERS = (_TINY_IMAGENET,)
_KNOWN = (
    _TINY_IMAGENET,
    _CARS,
    _Known("SVHN (format 1, whole numbers with boxes)", _pattern(r"digitstruct\.mat"), _torchvision("SVHN")),
    _Known("SVHN (format 2, MATLAB files)", _pattern(r"(?:train|test|extra)_32x32\.mat"), _torchvision("SVHN")),
    _Known(
        "Oxford Flowers-102, whose classes are in imagelabels.mat",
        lambda names: names.has(r"jpg/image_0\d+\.jpg") or names.has(r"imagelabels\.mat"),
        _torchvision("Flowers102", ("train", "val", "test")),
    ),
    _Known(
        "Oxford-IIIT Pet, whose classes are in the file names",
        lambda names: names.has(r"annotations/trainval\.txt") and names.has(r"images/abyssinian_\d+\.jpg"),
        _torchvision("OxfordIIITPet", ("trainval", "test")),
    ),
    _Known(
        "FGVC-Aircraft, whose classes are in text files",
        _pattern(r"data/images_variant_.*\.txt"),
        _torchvision("FGVCAircraft", ("train", "val", "test")),
    ),
    _Known(
        "CIFAR-10 as Python pickles, which are never loaded",
        _pattern(r"data_batch_1(?:\.bin)?"),
        _torchvision("CIFAR10", args="train=s == 'train'"),
    ),
    _Known(
        "CIFAR-100 as Python pickles, which are never loaded",
        _pattern(r"cifar-100-python/train"),
        _torchvision("CIFAR100", args="train=s == 'train'"),
    ),
    _Known(
        "MNIST as idx files",
        _pattern(r"train-images[-.]idx3-ubyte(?:\.gz)?"),
        _torchvision("MNIST", args="train=s == 'train'"),
    ),
    _Known(
        "the KITTI object benchmark, which has boxes and distances",
        _pattern(r"(?:training/)?label_2/\d+\.txt"),
        "The distance task of VTAB takes the nearest vehicle of each image: `python -c "
        "\"import os, shutil; from pathlib import Path as P; [(os.makedirs(f'out/{c}', exist_ok=True), "
        "shutil.copy(f'training/image_2/{t.stem}.png', f'out/{c}')) for t in P('training/label_2').glob('*.txt') "
        "for z in [[float(r.split()[13]) for r in open(t) if r.split()[0] in ('Car', 'Van', 'Truck')]] "
        "for c in [('3' if not z else str((min(z) >= 8) + (min(z) >= 20)))]]\"` sorts the images into `out` by it (0: "
        "under 8 m, 1: under 20 m, 2: farther, 3: none). Upload that folder.",
    ),
    _Known(
        "ImageNet's validation images, whose classes are in another file",
        lambda names: any(re.fullmatch(r"ilsvrc2012_val_\d+\.jpe?g", parts[-1]) for parts in names.images),
        "Sort them into class folders with torchvision, next to the development kit: `python -c "
        "\"from torchvision.datasets import ImageNet; ImageNet('.', 'val')\"`, and upload the folder `val`.",
    ),
    _Known(
        "COCO annotations",
        lambda names: names.has(r".*(?:instances|coco|captions|person_keypoints).*\.json"),
        CONVERT_BOXES,
    ),
    _Known(
        "a Roboflow export for detection",
        _pattern(r"_annotations\..*"),
        f"In Roboflow, export it as Folder Structure (classification). {CONVERT_BOXES}",
    ),
    _Known(
        "a YOLO data set with boxes",
        lambda names: (
            (names.has(r"labels/.*\.txt") or names.has(r"(?:data|dataset)\.ya?ml")) and _same_stems(names, ".txt")
        ),
        CONVERT_BOXES,
    ),
    _Known("Pascal VOC annotations", lambda names: _same_stems(names, ".xml"), CONVERT_BOXES),
    _Known("labelme annotations", lambda names: _same_stems(names, ".json"), CONVERT_BOXES),
    _Known(
        "a FiftyOneDataset",
        lambda names: names.has(r"samples\.json") and names.has(r"metadata\.json"),
        "Run `fiftyone convert --input-dir . --input-type fiftyone.types.FiftyOneDataset --output-dir out "
        "--output-type fiftyone.types.ImageClassificationDirectoryTree`, and upload the folder `out`.",
    ),
    _Known(
        "a data set written by Hugging Face `save_to_disk`",
        _pattern(r".*\.arrow"),
        "Write it as Parquet: `python -c \"import datasets; d = datasets.load_from_disk('FOLDER'); [d[s].to_parquet("
        "f'out/{s}.parquet') for s in d]\"`, and upload the folder `out`.",
    ),
    _Known("NumPy arrays", lambda names: names.count(".npy", ".npz") > 0, "Write the images into class folders."),
    _Known(
        "TFRecord files", _pattern(r".*\.tfrecord.*"), "Write the images into class folders, or as WebDataset shards."
    ),
    _Known("an archive of tar archives", lambda names: names.count(".tar") > 0 and not names.images, _INNER_TARS),
    _Known(
        "an archive of archives",
        lambda names: names.count(".zip", ".tar.gz", ".tgz", ".rar", ".7z") > 0 and not names.images,
        _INNER_ZIPS,
    ),
)
_WEAK = (
    _Known(
        "images with one text file each (captions or boxes)", lambda names: _same_stems(names, ".txt"), CONVERT_BOXES
    ),
    _Known(
        "a folder of images with a spreadsheet",
        lambda names: names.count(".xlsx", ".xls", ".ods") > 0,
        "Save the sheet as CSV, with a column of file names and one of classes, and upload it with the images.",
    ),
    _Known(
        "a folder of images with lists in text files",
        _pattern(r"[^/]*(?:train|val|test|label|list|annotation)[^/]*\.txt"),
        "If each line is a path and a class, `(echo file_name,label; awk '{print $1\",\"$2}' train.txt) > train.csv` "
        "creates a supported table, one for each list. Upload it with the images.",
    ),
    _Known("images with their classes in the file names", _names_classes, _BY_NAME),
)


def explain(upload: Upload, *, is_certain: bool = False) -> ArchiveRefusedError | None:
    """Return the error of an upload that is recognised but needs conversion; None if it is not recognised.

    Args:
        is_certain: Whether to ignore uncertain signs: text files and names of images.
    """
    return next(iter(upload.recognised), None) or _find(upload, _KNOWN if is_certain else (*_KNOWN, *_WEAK))


def refuse_partly_labelled(upload: Upload) -> None:
    """Refuse a known data set if its class folders contain only a part of it.

    Raises:
        ArchiveRefusedError: It is one; the error names the command that converts it.
    """
    found = _find(upload, _BEFORE_FOLDERS)
    if found is not None:
        raise found


def _find(upload: Upload, kinds: Iterable[_Known]) -> ArchiveRefusedError | None:
    lower = [tuple(part.lower() for part in parts) for _, parts in upload.files]
    images = [parts for parts in lower if parts[-1].endswith(EXTENSIONS)]
    others = [parts for parts in lower if not parts[-1].endswith(EXTENSIONS)]
    paths = ["/".join(parts) for parts in (*others[:_MOST_PATHS], *images[:_MOST_PATHS])]
    names = _Names([path for path in paths if len(path) <= _MAX_PATH], others, images)
    found = next((known for known in kinds if known.fits(names)), None)
    if found is None:
        return None
    return ArchiveRefusedError("needs_conversion", f"The upload is {found.what}.", found.advice)
