"""What a page of a gallery and a thumbnail cost in a split of 100,000 images.

A made-up shard of JPEGs of 224 x 224 pixels, about a gigabyte. `verify` and `index` happen once a process: the hash of
the whole file, and reading all names and labels. `page` is a page of 100 images in the middle of the split,
`page_of_a_class` the same with a filter; `row` reads one image from the middle of the shard; `thumbnail` decodes and
encodes it for 128 pixels, `thumbnail_of_a_photograph` one of 12 megapixels.

    python benchmarks/galleries.py [--quick] [--json FILE]
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import cast

import numpy as np
from _report import Figure, measure, medians, parser, report
from PIL import Image

from app.datasets.gallery import Filters, Gallery
from app.datasets.stored_shards import StoredShards
from contract.datasets import DatasetKind
from paint_core.images.thumbnails import make_thumbnail
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.datasets import StoredImages
from registry.paging import encode_cursor
from registry.shards import write_shard

NUM_IMAGES, NUM_QUICK, NUM_CLASSES, NUM_DIFFERENT = 100_000, 10_000, 100, 50
SIZE = 128


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    num_images = NUM_QUICK if options.quick else NUM_IMAGES
    with tempfile.TemporaryDirectory() as folder:
        blobs = FileBlobStore(Path(folder))
        shard = Path(folder) / "shard"
        num_bytes = write_made_up(shard, num_images)
        with shard.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        blobs.adopt(shard, sha256)
        measure_reading(options, blobs, sha256, num_images, num_bytes)


def measure_reading(options: object, blobs: FileBlobStore, sha256: str, num_images: int, num_bytes: int) -> None:
    """Print what reading a shard costs."""
    shards = StoredShards(blobs)
    classes = tuple(map(str, range(NUM_CLASSES)))
    counts = {"train": dict.fromkeys(classes, num_images // NUM_CLASSES)}
    shard = {"train": {"sha256": sha256, "num_images": num_images}}
    stored = StoredImages("ds_1", DatasetKind.LABELLED, classes, shard, counts, 2)
    gallery = Gallery(cast(Database, None), shards)
    once = {}
    for name, act in (("verify", lambda: shards.image(sha256, 0)), ("index", lambda: shards.index(sha256))):
        start = perf_counter()
        act()
        once[name] = perf_counter() - start
    middle = encode_cursor("images", [0, num_images // 2])
    small, large = shards.image(sha256, num_images // 2 + 100), made_up(0, (4000, 3000))
    samples = measure(
        {
            "page": lambda: gallery.page(stored, Filters("train"), 100, middle),
            "page_of_a_class": lambda: gallery.page(stored, Filters("train", "7"), 100, middle),
            "row": lambda: shards.image(sha256, num_images // 2 + 100),
            "thumbnail": lambda: make_thumbnail(small, SIZE),
            "thumbnail_of_a_photograph": lambda: make_thumbnail(large, SIZE),
        },
        rounds=5 if options.quick else 50,  # type: ignore[attr-defined]
    )
    figures = [Figure(f"{name}_milliseconds", 1000 * each, "ms") for name, each in medians(samples).items()]
    figures += [Figure(f"{name}_once_milliseconds", 1000 * each, "ms") for name, each in once.items()]
    figures.append(Figure("shard_megabytes", num_bytes / 1e6, "MB"))
    report(figures, options.json, samples)  # type: ignore[attr-defined]


def write_made_up(path: Path, num_images: int) -> int:
    """Write a shard of so many images, of which many are alike, and return its size in bytes."""
    different = [made_up(seed, (224, 224)) for seed in range(NUM_DIFFERENT)]

    def rows() -> Iterator[tuple[bytes, str, int]]:
        for number in range(num_images):
            label = number % NUM_CLASSES
            yield different[number % NUM_DIFFERENT], f"train/{label}/{number:08}.jpg", label

    write_shard(path, rows(), tuple(map(str, range(NUM_CLASSES))))
    return path.stat().st_size


def made_up(seed: int, size: tuple[int, int]) -> bytes:
    """Return a JPEG of smooth noise, about as long as a photograph of this size."""
    noise = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    main()
