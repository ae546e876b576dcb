"""First stage of a patch: load the base, decode every image once, build every head, gather the anchors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from contract.job_events import AnchorsLeftOut
from contract.patch_request import PatchOptions
from paint_core.data import LabelledImages, Task, decode_all
from paint_core.data.drawn import draw_images
from paint_core.data.image_store import Scratch
from paint_core.models import BaseModel, build_head, load_base
from paint_core.training.anchoring import drop_evaluation_images
from pipeline.devices import choose_device
from registry.datasets import Datasets
from registry.errors import ConfigurationError, RequestRefusedError
from registry.patches import Patches
from registry.shards import UNLABELLED, read_names, read_shard
from registry.tables import DatasetRow, PatchRow
from registry.versions import TermSpec, Versions
from worker.job_context import JobContext
from worker.messages import Note

_PATCHING_SPLITS = ("train", "validation", "test")
_SUPPORTED_SPLITS = ("validation", "test")
_TRANSFER_SPLITS = ("test",)


NUM_DRAWN = 1000
"""Images that are drawn for anchors: as many as the pool of the starter holds."""


@dataclass(frozen=True)
class PatchJob:
    """What the database says about a patch.

    Attributes:
        row: The patch.
        request: Its request.
        base_ref: Reference of the base model.
        datasets: Of the tasks by id: the patching ones, the supported ones, those named in `transfer`.
        pools: Data sets whose train splits are anchor images, labels unseen.
        start_sha256: Head term that an instant patch continues.
        known: Tasks whose training images that term holds.
        below: Terms of the version on whose weights an instant patch is put.
    """

    row: PatchRow
    request: PatchOptions
    base_ref: str
    datasets: Mapping[str, DatasetRow]
    pools: tuple[DatasetRow, ...] = ()
    start_sha256: str | None = None
    known: tuple[str, ...] = ()
    below: tuple[TermSpec, ...] = ()

    @property
    def num_images(self) -> dict[str, int]:
        """Number of images by split: train of the patching tasks, validation and test of all."""
        counts = dict.fromkeys(_PATCHING_SPLITS, 0)
        for identifier, row in self.datasets.items():
            for split in self.splits_of(identifier):
                counts[split] += _num_images(row, split)
        return counts

    def num_images_of(self, identifiers: Collection[str]) -> int:
        """Return the number of images that these data sets are needed with."""
        return sum(_num_images(self.datasets[each], split) for each in identifiers for split in self.splits_of(each))

    @property
    def num_anchors(self) -> int:
        """Number of images in the anchor pools, without those that are drawn, which are not decoded."""
        return sum(_num_images(row, "train") for row in self.pools)

    def splits_of(self, identifier: str) -> tuple[str, ...]:
        """Return the splits that the data set is needed for."""
        if identifier in self.request.transfer:
            return _TRANSFER_SPLITS
        return _PATCHING_SPLITS if identifier in self.request.tasks else _SUPPORTED_SPLITS


def load_job(context: JobContext) -> PatchJob:
    """Return what the database says about the patch."""
    with context.database.read() as session:
        row = Patches(session).get(context.subject_id)
        request = PatchOptions.of_stored(row.request)
        names = (*request.tasks, *request.supported, *request.transfer)
        datasets = {name: Datasets(session).get(name) for name in names}
        pools = tuple(_anchor_pools(Datasets(session), request))
        base_ref = Versions(session).base(row.base_fingerprint).ref
        start: str | None = None
        known: tuple[str, ...] = ()
        if request.extends is not None:
            continued, start = Patches(session).require_head_term(request.extends)
            known = PatchOptions.of_stored(continued.request).tasks
        below = () if request.version is None else Patches(session).weights_of(request.version)[1]
    return PatchJob(row, request, base_ref, datasets, pools, start, known, tuple(below))


def load_checked_base(ref: str, fingerprint: str, device: torch.device) -> BaseModel:
    """Return the base model of a job.

    Raises:
        RequestRefusedError: Its weights differ from those that the job was requested for.
    """
    base = load_base(ref, device=device)
    if base.fingerprint != fingerprint:
        raise RequestRefusedError(
            "base_changed",
            f"The weights of base {ref!r} differ from those when the job was requested.",
            "Use the same model files for this worker and the API, or send the request again.",
        )
    return base


def find_device(setting: str) -> torch.device:
    """Return the device that `PAINTBOX_DEVICE` names.

    Raises:
        RequestRefusedError: This machine has no such device.
    """
    try:
        return choose_device(setting)
    except ConfigurationError as error:
        advice = f"{error.advice} Then retry the job."
        raise RequestRefusedError("device_missing", error.detail, advice) from error


def load_tasks(
    context: JobContext,
    job: PatchJob,
    base: BaseModel,
    on_images: Callable[[int], None],
    needed: Collection[str] | None = None,
) -> dict[str, Task]:
    """Return the tasks by data set id, with their images decoded to uint8 arrays, and their heads.

    Args:
        context: The attempt.
        job: Names the data sets.
        base: Determines the input size and the text tower.
        on_images: Called with the number of images that were decoded since the last call.
        needed: Ids of the data sets to load; None: all.
    """
    wanted = [identifier for identifier in job.datasets if needed is None or identifier in needed]
    return {identifier: _load_task(context, job, identifier, base, on_images) for identifier in wanted}


def load_anchors(
    context: JobContext, job: PatchJob, base: BaseModel, tasks: Mapping[str, Task], on_images: Callable[[int], None]
) -> Tensor | None:
    """Return the anchor images uint8 [M, S, S, 3] without those that a score is computed on; None: none were requested.

    Args:
        context: The attempt.
        job: Names the pools.
        base: Determines the input size.
        tasks: Whose validation and test images must not be anchors.
        on_images: Called with the number of images that were decoded since the last call.

    Raises:
        RequestRefusedError: Every image of the pool is an evaluation image.
    """
    if job.request.anchors is None:
        return None
    images = [decode_split(context, row, "train", base, on_images).images for row in job.pools]
    if job.request.anchors.drawn:
        images.append(draw_images(NUM_DRAWN, base.image_size))
    pool = torch.cat(images)
    kept = drop_evaluation_images(pool, *(split for task in tasks.values() for split in (task.validation, task.test)))
    if len(kept) == 0:
        raise RequestRefusedError(
            "no_anchor_images",
            "All anchor images are also validation or test images of a task.",
            "Use a data set with other images as anchors.dataset.",
        )
    if len(kept) < len(pool):
        context.channel.send(Note.of(AnchorsLeftOut(left_out=len(pool) - len(kept), kept=len(kept))))
    return kept


def _anchor_pools(datasets: Datasets, request: PatchOptions) -> Iterator[DatasetRow]:
    if request.anchors is None:
        return
    if request.anchors.dataset is not None:
        yield datasets.get(request.anchors.dataset)
    if request.anchors.supported:
        rows = (datasets.get(identifier) for identifier in request.supported)
        yield from (row for row in rows if (row.shards or {}).get("train"))


def _load_task(
    context: JobContext, job: PatchJob, identifier: str, base: BaseModel, on_images: Callable[[int], None]
) -> Task:
    row = job.datasets[identifier]
    splits = {split: decode_split(context, row, split, base, on_images) for split in job.splits_of(identifier)}
    return Task(
        name=identifier,
        head=build_head(base, tuple(row.classnames or ()), templates_of(row, base)),
        train=splits.get("train"),
        validation=splits.get("validation", splits["test"]),  # of a transfer task, nothing reads it
        test=splits["test"],
    )


def templates_of(row: DatasetRow, base: BaseModel) -> tuple[str, ...]:
    """Return the prompt templates of a data set, or else the base's own."""
    return tuple(row.templates or ()) or base.default_templates


def decode_split(
    context: JobContext, row: DatasetRow, split: str, base: BaseModel, on_images: Callable[[int], None]
) -> LabelledImages:
    """Return the images of a split, decoded; `on_images` is called with their number."""
    shard = context.blobs.fetch((row.shards or {})[split]["sha256"])
    scratch = Scratch(context.settings.scratch_dir, context.settings.decoded_memory_bytes)
    images = decode_all(
        read_shard(shard),
        base.preprocess,
        tuple(row.classnames or (UNLABELLED,)),
        scratch=scratch,
        names=[f"{row.name}: {name}" for name in read_names(shard)],
        max_pixels=context.settings.max_image_pixels,
        decoder=row.decoder,
    )
    on_images(len(images))
    return images


def _num_images(row: DatasetRow, split: str) -> int:
    return int((row.shards or {})[split]["num_images"])
