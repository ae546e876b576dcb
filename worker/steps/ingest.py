"""Ingest: from an uploaded archive to a ready data set, every image decoded once to know that it can be.

Two passes over the archive: the first decodes and decides, the second writes the accepted files, as they are, into one
Parquet shard a split. So memory stays small however large the archive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paint_core.errors import ImageDecodeError
from paint_core.pictures import check_picture
from registry.archives import ArchiveLimits, read_members
from registry.datasets import DatasetContent, DatasetOptions, Datasets
from registry.errors import ArchiveRefusedError
from registry.jobs import Jobs
from registry.layouts import ArchiveImage, ArchivePlan, inspect_archive
from registry.shards import write_shard
from worker.progress import ProgressMeter
from worker.run import Run
from worker.splits import assign_splits

_NAMED_IN_ERROR = 3


def ingest(run: Run) -> None:
    """Make the data set ready, or raise why it cannot be."""
    with run.database.read() as session:
        row = Datasets(session).get(run.subject_id)
        options = DatasetOptions.from_json(row.options)
        archive_sha256 = row.archive_sha256
    archive = run.blobs.fetch(archive_sha256)
    plan = inspect_archive(archive)
    meter = ProgressMeter(run.channel.send, total=2 * len(plan.images))
    meter.enter("decode")
    accepted, rejected = _decode(archive, plan, meter, run.settings.max_image_pixels)
    _refuse_emptied(plan, accepted, rejected)
    meter.enter("store")
    content = _store(run, archive, plan, accepted, rejected, options, meter)
    with run.database.write() as session:
        Jobs(session).succeed(run.lease)
        Datasets(session).complete(run.subject_id, content)
    _forget_archive(run, archive_sha256)


def _decode(
    archive: Path, plan: ArchivePlan, meter: ProgressMeter, max_pixels: int
) -> tuple[list[ArchiveImage], list[dict[str, str]]]:
    rejected = list(plan.rejected)
    accepted = []
    members = read_members(archive, (image.name for image in plan.images), ArchiveLimits())
    for image, (name, data) in zip(plan.images, members, strict=True):
        reason = data if isinstance(data, str) else _undecodable(data, max_pixels)
        if reason:
            rejected.append({"file": name, "reason": reason})
        else:
            accepted.append(image)
        meter.advance(1)
    return accepted, rejected


def _undecodable(data: bytes, max_pixels: int) -> str | None:
    try:
        check_picture(data, max_pixels=max_pixels)
    except ImageDecodeError as error:
        return str(error)
    return None


def _refuse_emptied(plan: ArchivePlan, accepted: list[ArchiveImage], rejected: list[dict[str, str]]) -> None:
    emptied = sorted(set(plan.folders) - {image.folder for image in accepted})
    if emptied:
        reasons = "; ".join(f"{entry['file']}: {entry['reason']}" for entry in rejected[:_NAMED_IN_ERROR])
        raise ArchiveRefusedError(
            "empty_class",
            f"No image of class {emptied[0]!r} could be read ({reasons}).",
            "Replace the files that were rejected, or leave the class out.",
        )


def _store(
    run: Run,
    archive: Path,
    plan: ArchivePlan,
    accepted: list[ArchiveImage],
    rejected: list[dict[str, str]],
    options: DatasetOptions,
    meter: ProgressMeter,
) -> DatasetContent:
    classnames = _classnames(plan.folders, dict(options.display_names))
    labels = {folder: label for label, folder in enumerate(plan.folders)}
    shards: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    with run.scratch() as scratch:
        for split, images in assign_splits(accepted).items():
            path = scratch / f"{split}.parquet"
            num_images = write_shard(path, _rows(archive, images, labels, meter), classnames)
            shards[split] = {"sha256": run.blobs.put_file(path), "num_images": num_images}
            counts[split] = dict(Counter(classnames[labels[image.folder]] for image in images))
    return DatasetContent(classnames, options.templates, shards, counts, rejected)


def _classnames(folders: tuple[str, ...], display_names: dict[str, str]) -> tuple[str, ...]:
    unknown = sorted(set(display_names) - set(folders))
    if unknown:
        raise ArchiveRefusedError(
            "unknown_class", f"`classnames` names {unknown[0]!r}, but there is no such class folder.", "Correct it."
        )
    classnames = tuple(display_names.get(folder, folder) for folder in folders)
    if len(set(classnames)) < len(classnames):
        raise ArchiveRefusedError(
            "duplicate_classname", "Two class folders have the same display name.", "Give each class its own name."
        )
    return classnames


def _rows(
    archive: Path, images: list[ArchiveImage], labels: dict[str, int], meter: ProgressMeter
) -> Iterator[tuple[bytes, str, int]]:
    members = read_members(archive, (image.name for image in images), ArchiveLimits())
    for image, (name, data) in zip(images, members, strict=True):
        assert isinstance(data, bytes)  # the first pass read it
        yield data, name, labels[image.folder]
        meter.advance(1)


def _forget_archive(run: Run, archive_sha256: str) -> None:
    """Delete the archive unless another ingest needs it; in a write transaction, so that none can start meanwhile."""
    with run.database.write() as session:
        if not Datasets(session).archive_in_use(archive_sha256):
            run.blobs.delete(archive_sha256)
