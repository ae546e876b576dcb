"""Class folders with what comes along, and archives of all kinds."""

import zipfile
from pathlib import Path

from registry.intake.choices import Choices
from tests.builders import digit_pngs
from tests.shapes.shape import Build, Shape, tree
from tests.shapes.words import CONVERT, MIXED, PETS


def unflagged(name: str, *, encoding: str, maker: int = 3) -> Build:
    """A zip whose names are not marked as UTF-8, as Info-ZIP, the Finder and Windows write them."""
    raw = name.encode(encoding)

    def build(path: Path) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            for folder in ("X" * len(raw), "plain"):
                for number in range(2):
                    entry = zipfile.ZipInfo(f"{folder}/{number}.png")
                    entry.create_system = maker
                    archive.writestr(entry, digit_pngs(4)[number])
        path.write_bytes(path.read_bytes().replace(b"X" * len(raw) + b"/", raw + b"/"))
        return path

    return build


def _backslashes(path: Path) -> Path:
    """A zip of Windows PowerShell 5.1."""
    with zipfile.ZipFile(path, "w") as archive:
        for label in PETS:
            entry = zipfile.ZipInfo(f"set?{label}?1.png")
            entry.create_system = 0
            archive.writestr(entry, digit_pngs(5)[0])
    path.write_bytes(path.read_bytes().replace(b"set?", b"set\\").replace(b"?1.png", b"\\1.png"))
    return path


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


FOLDERS = (
    Shape("Class folders", tree("{cat,dog}/{1..3}.jpg"), PETS, {None: 6}),
    Shape("train/test folders", tree("{train,test}/{cat,dog}/{1..3}.jpg"), PETS, {"train": 6, "test": 6}),
    Shape("Several wrappers", tree("a/b/c/{train,val}/{cat,dog}/{1..3}.jpg"), PETS, {"train": 6, "validation": 6}),
    Shape(
        "train with classes, flat test (Kaggle)",
        tree("train/{cat,dog}/{1..3}.jpg", "test/{1..4}.png"),
        PETS,
        {"train": 6},
        warnings=("unlabelled_folder",),
    ),
    Shape(
        "A stray image in a split folder",
        tree("{train,val}/{cat,dog}/{1..3}.jpg", "train/montage.png"),
        PETS,
        {"train": 6, "validation": 6},
    ),
    Shape("A stray image in the wrapper", tree("ds/train/{cat,dog}/{1..3}.jpg", "ds/sample.png"), PETS, {"train": 6}),
    Shape("A preview beside classes", tree("ds/{cat,dog}/{1..3}.jpg", "ds/preview.jpg"), PETS, {None: 6}),
    Shape("train and dev", tree("{train,dev}/{cat,dog}/{1..2}.jpg"), PETS, {"train": 4, "validation": 4}),
    Shape(
        "train, eval and test",
        tree("{train,eval,test}/{cat,dog}/{1..2}.jpg"),
        PETS,
        {"train": 4, "validation": 4, "test": 4},
    ),
    Shape("train and holdout", tree("{Training,Holdout}/{cat,dog}/{1..2}.jpg"), PETS, {"train": 4, "test": 4}),
    Shape(
        "training_set and test_set",
        tree("dataset/{training_set,test_set}/{cat,dog}/{1..2}.jpg"),
        PETS,
        {"train": 4, "test": 4},
    ),
    Shape("Splits within classes", tree("{cat,dog}/{train,test}/{1..2}.jpg"), PETS, {"train": 4, "test": 4}),
    Shape("images within classes", tree("{train,test}/{cat,dog}/images/{1..2}.jpg"), PETS, {"train": 4, "test": 4}),
    Shape("train, test and another", tree("{train,test,extra}/{cat,dog}/{1..2}.jpg"), code=MIXED, way="split_of"),
    Shape(
        "train, test and another, split_of",
        tree("{train,test,extra}/{cat,dog}/{1..2}.jpg"),
        PETS,
        {"train": 8, "test": 4},
        choices=Choices(split_of=(("extra", "train"), ("test", "test"), ("train", "train"))),
    ),
    Shape("Flat train, test and extra", tree("{train,test,extra}/{1..3}.png"), code=MIXED, way="split_of"),
    Shape("Flat train and test", tree("{train,test}/{1..3}.png"), code="no_images", way="CLASS/image"),
    Shape("Flat images", tree("{1..5}.png"), code="no_images", way="CLASS/image"),
    Shape(
        "A class called train among others",
        tree("{bus,car,train}/{1..2}.jpg"),
        ("bus", "car", "train"),
        {None: 6},
        warnings=("class_named_like_a_split",),
    ),
    Shape(
        "Domains with the same classes (Office-31)",
        tree("{amazon,dslr}/images/{bag,desk}/{1..2}.jpg"),
        code=MIXED,
        way="class_level",
    ),
    Shape(
        "Domains, class_level=3",
        tree("{amazon,dslr}/images/{bag,desk}/{1..2}.jpg"),
        ("bag", "desk"),
        {None: 8},
        choices=Choices(class_level=3),
    ),
    Shape(
        "Domains, root=amazon",
        tree("{amazon,dslr}/images/{bag,desk}/{1..2}.jpg"),
        ("bag", "desk"),
        {None: 4},
        choices=Choices(root="amazon"),
    ),
    Shape("Classes by date", tree("{cat,dog}/{2023,2024}/{1..2}.jpg"), code=MIXED, way="class_level"),
    Shape(
        "Groups of classes",
        tree("animals/{cat,dog}/{1..2}.jpg", "vehicles/{bus,car}/{1..2}.jpg"),
        ("bus", "car", "cat", "dog"),
        {None: 8},
        warnings=("grouped_classes",),
    ),
    Shape("Depths that conflict", tree("cat/2024/may/{1..2}.jpg", "dog/{1..2}.jpg"), code=MIXED, way="class_level"),
    Shape("One class", tree("cat/{1..3}.jpg"), ("cat",), {None: 3}),
    Shape(
        "A Mac's leftovers",
        tree(
            "pets/{cat,dog}/{1..2}.jpg",
            "__MACOSX/pets/cat/._1.jpg",
            "pets/.DS_Store = x",
            "pets/cat/Icon\r = x",
            "pets/Thumbs.db = x",
        ),
        PETS,
        {None: 4},
        kind="tar",
    ),
    Shape(
        "Files without extensions",
        {f"{label}/{n}": digit_pngs(6)[n] for label in PETS for n in range(3)},
        PETS,
        {None: 6},
    ),
    Shape("JFIF, JPE, PPM and AVIF by name", tree("{cat,dog}/{1.jfif,2.jpe,3.ppm,4.avif,5.pgm}"), PETS, {None: 10}),
    Shape("tar.xz", tree("{cat,dog}/{1..3}.jpg"), PETS, {None: 6}, kind="tar.xz"),
    Shape("tar.bz2", tree("{cat,dog}/{1..3}.jpg"), PETS, {None: 6}, kind="tar.bz2"),
    Shape("7z", build=lambda path: _write(path, b"7z\xbc\xaf\x27\x1c" + bytes(600)), code="unknown_format", way="7z x"),
    Shape("zip of zips", tree("{train,test}.zip = PK"), code=CONVERT, way="unzip"),
    Shape(
        "Names in UTF-8 without the flag (zip -r)",
        build=unflagged("crème brûlée", encoding="utf-8"),
        classes=("crème brûlée", "plain"),
        splits={None: 4},
    ),
    Shape(
        "Names decomposed (Finder)",
        build=unflagged("cre\u0300me", encoding="utf-8"),
        classes=("crème", "plain"),
        splits={None: 4},
    ),
    Shape(
        "Names in cp437 (DOS)",
        build=unflagged("crème", encoding="cp437", maker=0),
        classes=("crème", "plain"),
        splits={None: 4},
        warnings=("unsure_names",),
    ),
    Shape("Backslashes (PowerShell 5.1)", build=_backslashes, classes=PETS, splits={None: 2}),
)
