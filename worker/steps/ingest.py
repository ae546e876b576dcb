"""Ingest: from an upload to a ready data set; every image is decoded once as a check.

Two passes over the images: the first decodes and decides, the second writes the accepted files unchanged into one
Parquet shard per split. So memory stays small for uploads of any size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contract.datasets import DatasetKind
from paint_core.errors import ImageDecodeError
from paint_core.images.decoding import DECODER, check_picture
from registry.datasets import DatasetContent, DatasetOptions, Datasets
from registry.errors import ArchiveRefusedError
from registry.intake.classnames import name_classes
from registry.intake.plan import Image, Plan
from registry.intake.reading import read_pool_upload, read_upload
from registry.intake.summary import summarise
from registry.jobs import Jobs
from registry.shards import write_shard
from worker.allowance import Allowance
from worker.collecting import digests_of_tests, read_collection
from worker.duplicates import find_duplicates
from worker.job_context import JobContext
from worker.progress import ProgressMeter
from worker.splits import Division, assign_splits


def ingest(context: JobContext) -> None:
    """Prepare the data set, or raise why that is impossible."""
    with context.database.read() as session:
        row = Datasets(session).get(context.subject_id)
        options = DatasetOptions.from_json(row.options)
        archive_sha256 = row.archive_sha256
    with context.scratch() as scratch:
        content = _read(context, context.blobs.fetch(archive_sha256), scratch, options)
    with context.database.write() as session:
        Jobs(session).succeed(context.lease)
        Datasets(session).complete(context.subject_id, content)
    _forget_archive(context, archive_sha256)


def _read(context: JobContext, archive: Path, scratch: Path, options: DatasetOptions) -> DatasetContent:
    ProgressMeter(context.channel.send, total=1).enter("unpack")
    is_pool = options.kind is DatasetKind.POOL
    collection = read_collection(context, archive, scratch, options.kind) if options.is_collected else None
    plan = _read_plan(archive, scratch, options) if collection is None else collection.plan
    names = name_classes(plan.classes, dict(plan.display_names), dict(options.display_names))
    display = dict(zip(plan.classes, names, strict=True))
    num_tests = 0 if collection is None else sum(collection.test_shards().values())
    meter = ProgressMeter(context.channel.send, total=2 * len(plan.images) + num_tests)
    meter.enter("decode")
    accepted = _decode(plan, meter, context.settings.max_image_pixels)
    plan = _leave_out_emptied(plan, accepted)
    classnames = tuple(display[label] for label in plan.classes)
    if collection is None:
        division = Division({"train": list(accepted)}) if is_pool else assign_splits(accepted)
        collected = None
    else:
        division, collected = collection.divide(accepted, digests_of_tests(context, collection, meter.advance))
    splits = division.splits
    meter.enter("store")
    shards, blob_bytes = _store(context, scratch, plan, splits, classnames, meter)
    duplicates = find_duplicates(splits, {image.name: digest for image, digest in accepted.items()})
    return DatasetContent(
        classnames=() if is_pool else classnames,
        templates=options.templates or plan.templates,
        shards=shards,
        counts={} if is_pool else {split: _count(images, display) for split, images in splits.items()},
        rejected=plan.rejects.as_json(),
        layout=plan.layout,
        duplicates=duplicates,
        blob_bytes=blob_bytes,
        decoder=DECODER,
        taken_from=division.taken_from,
        reading=None if is_pool else summarise(plan, splits, display, duplicates),
        collected=None if collected is None else collected.to_json(),
    )


def _read_plan(archive: Path, scratch: Path, options: DatasetOptions) -> Plan:
    if options.kind is DatasetKind.POOL:
        return read_pool_upload(archive, scratch)
    return read_upload(archive, scratch, options.choices)


def _decode(plan: Plan, meter: ProgressMeter, max_pixels: int) -> dict[Image, bytes]:
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


def _leave_out_emptied(plan: Plan, accepted: Collection[Image]) -> Plan:
    """Return the plan without the classes that have lost all images, unless the upload itself names its classes.

    The plan reports the removed classes among what was left out.

    Raises:
        ArchiveRefusedError: No image can be used.
    """
    if not accepted:
        raise ArchiveRefusedError(
            "empty_class",
            f"None of the {len(plan.images):,} images could be read ({plan.rejects.tell()}).",
            "Replace the rejected files.",
        )
    kept = {image.label for image in accepted}
    emptied = {image.label for image in plan.images} - kept
    if not emptied or plan.is_declared:
        return plan
    for label in sorted(emptied):
        plan.rejects.add(label, "was removed: none of the images of this class could be read")
    return replace(plan, classes=tuple(label for label in plan.classes if label not in emptied))


def _count(images: Sequence[Image], display: Mapping[str, str]) -> dict[str, int]:
    """Return the number of images by the name of their class."""
    return dict(Counter(display[image.label] for image in images))


def _store(
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


def _forget_archive(context: JobContext, archive_sha256: str) -> None:
    """Delete the archive unless another ingest needs it; the write transaction keeps one from starting meanwhile."""
    with context.database.write() as session:
        if not Datasets(session).archive_in_use(archive_sha256):
            context.blobs.delete(archive_sha256)
