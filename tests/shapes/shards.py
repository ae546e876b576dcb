"""Parquet files and WebDataset shards."""

import gzip

from registry.intake.choices import Choices
from tests.builders import digit_pngs
from tests.registry.uploads import tar_bytes
from tests.shapes.shape import Shape, tree
from tests.shapes.tables import parquet
from tests.shapes.words import MIXED, PETS


def rows(labels: list[object], start: int = 0) -> bytes:
    """A Parquet file of images with labels, as `push_to_hub` writes it."""
    images: list[object] = [{"bytes": digit_pngs(2)[start + row], "path": None} for row in range(len(labels))]
    return parquet(image=images, label=labels)


def shard(start: int = 0, suffix: str = "cls") -> bytes:
    names = [f"{start + number:05}" for number in range(4)]
    members = {f"{name}.png": digit_pngs(3)[start + row] for row, name in enumerate(names)}
    labels = {f"{name}.{suffix}": f"{row % 2}".encode() for row, name in enumerate(names)}
    return tar_bytes(members | labels)


SHARDS = (
    Shape(
        "push_to_hub of 2023, with hashes",
        {
            "data/train-00000-of-00001-b42a775f407cee45.parquet": rows(["cat", "dog"] * 2),
            "data/test-00000-of-00001-cc110a1b2c3d4e5f.parquet": rows(["cat", "dog"], 10),
        },
        PETS,
        {"train": 4, "test": 2},
    ),
    Shape(
        "train_images.parquet and test_images.parquet",
        {"train_images.parquet": rows(["cat", "dog"]), "test_images.parquet": rows(["cat", "dog"], 10)},
        PETS,
        {"train": 2, "test": 2},
    ),
    Shape(
        "A Parquet file that names no split beside others",
        {"train.parquet": rows(["cat", "dog"]), "more.parquet": rows(["cat", "dog"], 10)},
        code=MIXED,
        way="split_of",
    ),
    Shape(
        "… with split_of",
        {"train.parquet": rows(["cat", "dog"]), "more.parquet": rows(["cat", "dog"], 10)},
        PETS,
        {"train": 2, "test": 2},
        choices=Choices(split_of=(("more", "test"), ("train", "train"))),
    ),
    Shape(
        "A Hub repository with a picture in its README",
        {"data/train-0.parquet": rows(["cat", "dog"]), "README.md": b"# Pets", **tree("assets/banner.png")},
        PETS,
        {"train": 2},
    ),
    Shape(
        "Two columns of classes (CIFAR-100 of the Hub)",
        {"train.parquet": parquet(img=[{"bytes": digit_pngs(1)[0]}] * 2, fine_label=[1, 2], coarse_label=[0, 0])},
        code="bad_table",
        way="label_column",
    ),
    Shape(
        "… with label_column",
        {"train.parquet": parquet(img=[{"bytes": digit_pngs(1)[0]}] * 2, fine_label=[1, 2], coarse_label=[0, 0])},
        ("1", "2"),
        {"train": 2},
        choices=Choices(label_column="fine_label"),
    ),
    Shape(
        "A column called class, of truth values",
        {"train.parquet": parquet(Image=[{"bytes": digit_pngs(1)[0]}] * 2, Class=[True, False])},
        ("false", "true"),
        {"train": 2},
    ),
    Shape(
        "A column of lists",
        {"train.parquet": parquet(image=[{"bytes": digit_pngs(1)[0]}], label=[[1, 2]])},
        code="multi_label",
        way="one class per image",
    ),
    Shape(
        "WebDataset, train and dev",
        {"train-0.tar": shard(), "dev-0.tar": shard(10)},
        ("0", "1"),
        {"train": 4, "validation": 4},
    ),
    Shape("WebDataset, compressed shards", {"train/0.tar.gz": gzip.compress(shard())}, ("0", "1"), {"train": 4}),
    Shape(
        "WebDataset of captions",
        {
            "0.tar": tar_bytes(
                {
                    **tree("{0..3}.png"),
                    "0.txt": b"a cat on a mat",
                    "1.txt": b"the dog at night",
                    "2.txt": b"cats that play",
                    "3.txt": b"a dog with balls",
                }
            )
        },
        code="not_classes",
        way="class folders",
    ),
)
