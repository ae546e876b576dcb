"""Make class folders of photographs from repositories that were fetched.

    python -m recipes.starter.adapt tiny-imagenet FETCHED INTO --wordnet /usr/share/wordnet

INTO then has `train` and what else the source has of `val` and `test`; each holds class folders of links to the
photographs and a `classes.json` that names them. Only `train` is meant for `--photos`. README.md says where each source
comes from, and its terms.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from recipes.starter.captions import Words
from recipes.starter.photographs import write_words
from recipes.starter.wordnet import WordNet

_Item = tuple[str, str, Path]
"""Split, class folder, photograph."""

_Named = dict[str, tuple[str, Words]]

_CALTECH_LEFT_OUT = frozenset(("BACKGROUND_Google", "Faces_easy"))
_CALTECH_NAMES: Mapping[str, str] = {
    "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike", "airplanes": "airplane", "bass": "bass fish",
    "binocular": "binoculars", "car_side": "car", "cougar_body": "cougar", "cougar_face": "cougar face",
    "crocodile_head": "crocodile head", "dollar_bill": "dollar bill", "flamingo_head": "flamingo head",
    "garfield": "garfield cartoon", "gerenuk": "gerenuk antelope", "hawksbill": "hawksbill turtle",
    "joshua_tree": "joshua tree", "ketch": "ketch sailboat", "schooner": "schooner ship", "snoopy": "snoopy cartoon",
    "water_lilly": "water lily",
}  # fmt: skip
_CALTECH_KINDS: Mapping[str, tuple[str, ...]] = {
    "airplanes": ("plane", "aircraft"), "ketch": ("ship", "boat"), "schooner": ("ship", "boat"),
    "ferry": ("ship", "boat"), "car_side": ("automobile", "vehicle"), "Motorbikes": ("motorcycle", "vehicle"),
    "dalmatian": ("dog", "animal"), "Leopards": ("cat", "animal"), "wild_cat": ("cat", "animal"),
    "cougar_body": ("cat", "animal"), "gerenuk": ("antelope", "deer", "animal"), "okapi": ("antelope", "animal"),
    "llama": ("animal",), "kangaroo": ("animal",), "emu": ("bird", "animal"), "ibis": ("bird", "animal"),
    "flamingo": ("bird", "animal"), "pigeon": ("bird", "animal"), "rooster": ("bird", "chicken"),
    "helicopter": ("aircraft",), "crocodile": ("reptile", "animal"), "ant": ("insect",), "butterfly": ("insect",),
    "dragonfly": ("insect",), "mayfly": ("insect",), "beaver": ("animal",), "elephant": ("animal",),
    "hedgehog": ("animal",), "panda": ("bear", "animal"), "rhino": ("animal",), "bass": ("fish",),
    "lotus": ("flower",), "sunflower": ("flower",), "water_lilly": ("flower",), "bonsai": ("tree",),
    "joshua_tree": ("tree",), "grand_piano": ("musical instrument",), "saxophone": ("musical instrument",),
    "accordion": ("musical instrument",), "electric_guitar": ("guitar", "musical instrument"),
    "mandolin": ("musical instrument",), "windsor_chair": ("chair",),
}  # fmt: skip
_CLOTHES: Mapping[str, str] = {"longsleeve": "long sleeve shirt", "outwear": "jacket"}
_NATURAL: Mapping[str, Words] = {
    "airplane": Words(tags=("plane", "aeroplane"), kinds=(("aircraft", 1.0), ("vehicle", 1.0))),
    "car": Words(tags=("automobile",), kinds=(("vehicle", 1.0),)),
    "cat": Words(kinds=(("animal", 1.0),)),
    "deer": Words(kinds=(("animal", 1.0),)),
    "dog": Words(kinds=(("animal", 1.0),)),
    "flower": Words(kinds=(("plant", 1.0),)),
    "horse": Words(kinds=(("animal", 1.0),)),
    "motorbike": Words(tags=("motorcycle",), kinds=(("vehicle", 1.0),)),
    "person": Words(tags=("face",)),
}


def main() -> int:
    """Write the class folders of one source and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=("tiny-imagenet", *_OTHERS))
    parser.add_argument("fetched", type=Path, help="the repository's files")
    parser.add_argument("into", type=Path)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="of Debian's wordnet-base")
    arguments = parser.parse_args()
    if arguments.source == "tiny-imagenet":
        items, named = tiny_imagenet(arguments.fetched, WordNet(arguments.wordnet))
    else:
        items, named = _OTHERS[arguments.source](arguments.fetched)
    link(items, named, arguments.into)
    return 0


def link(items: Iterator[_Item], named: _Named, into: Path) -> None:
    """Link photographs into class folders.

    Args:
        items: Where each one goes.
        named: What the class folders show.
        into: Parent of the splits.
    """
    for split, folder, path in items:
        target = into / split / folder / f"{path.parent.name}-{path.name}"
        if not target.parent.exists():
            target.parent.mkdir(parents=True)
            write_words(into / split, named)
        target.unlink(missing_ok=True)
        target.symlink_to(path.resolve())


def tiny_imagenet(fetched: Path, wordnet: WordNet) -> tuple[Iterator[_Item], _Named]:
    """Return Tiny-ImageNet-200's training and validation photographs; its test photographs have no labels.

    Args:
        fetched: Where `tiny-imagenet-200` lies.
        wordnet: For the names of its classes.
    """
    root = fetched / "tiny-imagenet-200"
    wnids = (root / "wnids.txt").read_text(encoding="ascii").split()
    rows = [line.split("\t") for line in (root / "val" / "val_annotations.txt").read_text("ascii").splitlines()]
    train = (("train", path.parent.parent.name, path) for path in sorted(root.glob("train/*/images/*.JPEG")))
    val = (("val", row[1], root / "val" / "images" / row[0]) for row in rows)
    return (item for part in (train, val) for item in part), {
        wnid: (wordnet.name(wnid), wordnet.words(wnid)) for wnid in wnids
    }


def caltech101(fetched: Path) -> tuple[Iterator[_Item], _Named]:
    """Return Caltech-101 by the repository's two lists.

    Args:
        fetched: Where `101_ObjectCategories` lies.
    """
    folders = [path.name for path in sorted((fetched / "101_ObjectCategories").iterdir())]
    named = {
        folder: (
            _CALTECH_NAMES.get(folder, folder.replace("_", " ").lower()),
            Words(kinds=tuple((kind, 1.0) for kind in _CALTECH_KINDS.get(folder, ()))),
        )
        for folder in folders
        if folder not in _CALTECH_LEFT_OUT
    }
    return _caltech_items(fetched, named), named


def _caltech_items(fetched: Path, named: _Named) -> Iterator[_Item]:
    for split in ("train", "test"):
        for line in (fetched / f"{split}.txt").read_text(encoding="ascii").split():
            folder = line.partition("/")[0]
            if folder in named:
                yield split, folder, fetched / "101_ObjectCategories" / line


def grocery(fetched: Path) -> tuple[Iterator[_Item], _Named]:
    """Return the Grocery Store data set: 81 classes of groceries, each of a coarser one.

    Args:
        fetched: Where `dataset` lies.
    """
    root = fetched / "dataset"
    with (root / "classes.csv").open(newline="", encoding="utf-8") as file:
        coarser = {row["Class Name (str)"]: _plain(row["Coarse Class Name (str)"]) for row in csv.DictReader(file)}
    items, named = [], {}
    for split in ("train", "val", "test"):
        for path in sorted((root / split).rglob("*.jpg")):
            group, folder = path.relative_to(root / split).parts[0], path.parent.name
            name, kind = _plain(folder), _plain(coarser.get(folder, folder))
            name = name if group == "Packages" or kind in name or kind == name else f"{name} {kind}"
            kinds = tuple((each, 1.0) for each in (kind, _GROUPS[group]) if each and each != name)
            items.append((split, folder, path))
            named[folder] = (name, Words(kinds=kinds))
    return iter(items), named


_GROUPS = {"Fruit": "fruit", "Vegetables": "vegetable", "Packages": "carton"}


def _plain(name: str) -> str:
    return name.replace("-", " ").lower()


def clothing(fetched: Path) -> tuple[Iterator[_Item], _Named]:
    """Return the small clothing data set.

    Args:
        fetched: Where `train`, `validation` and `test` lie.
    """
    splits = {"train": "train", "validation": "val", "test": "test"}
    items = [
        (split, path.parent.name, path)
        for name, split in splits.items()
        for path in sorted(fetched.glob(f"{name}/*/*"))
    ]
    kinds = Words(kinds=(("clothing", 1.0),))
    return iter(items), {folder: (_CLOTHES.get(folder, folder), kinds) for _, folder, _ in items}


def natural(fetched: Path) -> tuple[Iterator[_Item], _Named]:
    """Return Natural Images (Roy et al., 2018), eight classes.

    Args:
        fetched: Where `natural_images` lies.
    """
    return _plain_folders(fetched / "natural_images")


def four_animals(fetched: Path) -> tuple[Iterator[_Item], _Named]:
    """Return cats, deer, dogs and horses; the test photographs have no labels.

    Args:
        fetched: Where `train` lies.
    """
    return _plain_folders(fetched / "train")


def _plain_folders(root: Path) -> tuple[Iterator[_Item], _Named]:
    """Class folders that are named by what they show, all to train on."""
    paths = sorted(path for path in root.glob("*/*") if path.suffix == ".jpg")
    named = {path.parent.name: (path.parent.name, _NATURAL.get(path.parent.name, Words())) for path in paths}
    return (("train", path.parent.name, path) for path in paths), named


_OTHERS: Mapping[str, Callable[[Path], tuple[Iterator[_Item], _Named]]] = {
    "caltech101": caltech101,
    "grocery": grocery,
    "clothing": clothing,
    "natural": natural,
    "four-animals": four_animals,
}

if __name__ == "__main__":
    sys.exit(main())
