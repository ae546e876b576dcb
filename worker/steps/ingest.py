"""Ingest: from an upload to a ready data set; every image is decoded once as a check.

Two passes over the images: the first decodes and decides, the second writes the accepted files unchanged into one
Parquet shard per split. So memory stays small for uploads of any size.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from contract.datasets import DatasetKind
from paint_core.images.decoding import DECODER
from registry.datasets import DatasetContent, DatasetOptions, Datasets
from registry.errors import ArchiveRefusedError
from registry.feedback import Feedback
from registry.intake.classnames import name_classes
from registry.intake.plan import Image, Plan
from registry.intake.reading import read_pool_upload, read_upload
from registry.intake.summary import summarise
from registry.jobs import Jobs
from worker.collecting import digests_of_tests, read_collection
from worker.duplicates import find_duplicates
from worker.job_context import JobContext
from worker.progress import ProgressMeter
from worker.splits import Division, assign_splits
from worker.steps.corrections import read_corrections
from worker.steps.images import count_by_class, decode_images, store_digests, store_splits


def ingest(context: JobContext) -> None:
    """Prepare the data set, or raise why that is impossible."""
    with context.database.read() as session:
        row = Datasets(session).get(context.subject_id)
        options = DatasetOptions.from_json(row.options)
        archive_sha256 = row.archive_sha256
    used: Collection[str] = ()
    with context.scratch() as scratch:
        archive = context.blobs.fetch(archive_sha256)
        if options.is_feedback:
            content, used = read_corrections(context, archive, scratch, options)
        else:
            content = _read(context, archive, scratch, options)
    with context.database.write() as session:
        Jobs(session).succeed(context.lease)
        Datasets(session).complete(context.subject_id, content)
        Feedback(session).mark_used(used, context.subject_id)
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
    accepted = decode_images(plan, meter, context.settings.max_image_pixels)
    plan = _leave_out_emptied(plan, accepted)
    classnames = tuple(display[label] for label in plan.classes)
    if collection is None:
        division = Division({"train": list(accepted)}) if is_pool else assign_splits(accepted)
        collected = None
    else:
        division, collected = collection.divide(accepted, digests_of_tests(context, collection, meter.advance))
    splits = division.splits
    meter.enter("store")
    shards, blob_bytes = store_splits(context, scratch, plan, splits, classnames, meter)
    test_digests = store_digests(context, (accepted[image] for image in splits.get("test", ())), blob_bytes)
    duplicates = find_duplicates(splits, {image.name: digest for image, digest in accepted.items()})
    return DatasetContent(
        classnames=() if is_pool else classnames,
        templates=options.templates or plan.templates,
        shards=shards,
        counts={} if is_pool else {split: count_by_class(images, display) for split, images in splits.items()},
        rejected=plan.rejects.as_json(),
        layout=plan.layout,
        duplicates=duplicates,
        blob_bytes=blob_bytes,
        decoder=DECODER,
        test_digests=test_digests,
        taken_from=division.taken_from,
        reading=None if is_pool else summarise(plan, splits, display, duplicates),
        collected=None if collected is None else collected.to_json(),
    )


def _read_plan(archive: Path, scratch: Path, options: DatasetOptions) -> Plan:
    if options.kind is DatasetKind.POOL:
        return read_pool_upload(archive, scratch)
    return read_upload(archive, scratch, options.choices)


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


def _forget_archive(context: JobContext, archive_sha256: str) -> None:
    """Delete the archive unless another ingest needs it; the write transaction keeps one from starting meanwhile."""
    with context.database.write() as session:
        if not Datasets(session).archive_in_use(archive_sha256):
            context.blobs.delete(archive_sha256)
