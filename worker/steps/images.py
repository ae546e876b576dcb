"""What ingest does with images of any origin: decode them as a check, and store the accepted files by split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paint_core.errors import ImageDecodeError
from paint_core.images.decoding import check_picture
from registry.digests import pack_digests
from registry.intake.plan import Image, Plan
from registry.shards import write_shard
from worker.allowance import Allowance
from worker.job_context import JobContext
from worker.progress import ProgressMeter


def decode_images(plan: Plan, meter: ProgressMeter, max_pixels: int) -> dict[Image, bytes]:
    """Return the images that can be decoded, in order, with digests of what they show; reject the others."""
    accepted: dict[Image, bytes] = {}
    files = plan.container.read(image.name for image in plan.images)
    for image, (name, data) in zip(plan.images, files, strict=True):
        if isinstance(data, str):
            plan.rejects.add(name, data)
        else:
            try:
                accepted[image] = check_picture(data, max_pixels=max_pixels)
            except ImageDecodeError as error:
                plan.rejects.add(name, str(error))
        meter.advance(1)
    return accepted


def count_by_class(images: Sequence[Image], display: Mapping[str, str]) -> dict[str, int]:
    """Return the number of images by the name of their class."""
    return dict(Counter(display[image.label] for image in images))


def store_splits(
    context: JobContext,
    scratch: Path,
    plan: Plan,
    splits: Mapping[str, Sequence[Image]],
    classnames: tuple[str, ...],
    meter: ProgressMeter,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the shards by split, and their sizes by hash."""
    labels = {name: label for label, name in enumerate(plan.classes)}
    allowance = Allowance.of(context)
    shards: dict[str, Any] = {}
    blob_bytes: dict[str, int] = {}
    for split, images in splits.items():
        path = scratch / f"{split}.parquet"
        num_images = write_shard(path, allowance.spend(_rows(plan, images, labels, meter)), classnames)
        shards[split] = {"sha256": context.blobs.put_file(path), "num_images": num_images}
        blob_bytes[shards[split]["sha256"]] = path.stat().st_size
        path.unlink()
    return shards, blob_bytes


def _rows(
    plan: Plan, images: Sequence[Image], labels: dict[str, int], meter: ProgressMeter
) -> Iterator[tuple[bytes, str, int]]:
    files = plan.container.read(image.name for image in images)
    for image, (name, data) in zip(images, files, strict=True):
        assert isinstance(data, bytes)  # the first pass read it
        yield data, name, labels[image.label]
        meter.advance(1)


def store_digests(context: JobContext, digests: Iterable[bytes], blob_bytes: dict[str, int]) -> str | None:
    """Store digests of what test images show, add the blob's size, and return its hash; None without any."""
    packed = pack_digests(digests)
    if not packed:
        return None
    sha256 = context.blobs.put_bytes(packed)
    blob_bytes[sha256] = len(packed)
    return sha256
