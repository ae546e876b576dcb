"""Ingest of corrections: from a manifest of feedback to a ready data set that contains no test image of another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from contract.names import shorten
from paint_core.errors import ImageDecodeError
from paint_core.images.decoding import DECODER, check_picture
from registry.blobs import BlobStore
from registry.corrections import Manifest, require_splits
from registry.datasets import DatasetContent, DatasetOptions
from registry.digests import HeldOut, HeldOutImages, find_digests, pack_digests
from registry.errors import BlobMissingError
from registry.intake.classnames import name_classes
from registry.intake.names import Entry
from registry.intake.notes import Notes
from registry.intake.plan import Image, Plan
from registry.intake.rejects import Rejects
from registry.intake.summary import summarise
from registry.shards import read_shard
from worker.duplicates import find_duplicates
from worker.job_context import JobContext
from worker.progress import ProgressMeter
from worker.steps.images import count_by_class, decode_images, store_digests, store_splits

_LAYOUT = "feedback"
_SPLITS = ("train", "validation", "test")


class FeedbackFiles:
    """The images of feedback as files, named by the feedback's id.

    Args:
        blobs: Where they are stored.
        blob_of: Blob of each image, by name.
    """

    entries: Sequence[Entry] = ()
    rejected: Sequence[tuple[str, str]] = ()
    num_unsure = 0

    def __init__(self, blobs: BlobStore, blob_of: dict[str, str]) -> None:
        self._blobs = blobs
        self._blob_of = blob_of

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | str]]:
        """Yield `(name, bytes)` for each named file, or `(name, reason)` for one that has been deleted."""
        for name in names:
            try:
                yield name, self._blobs.read(self._blob_of[name])
            except BlobMissingError:
                yield name, "was deleted"

    def read_heads(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | str]]:
        """As `read`."""
        return self.read(names)

    def copy(self, name: str, target: Path, max_bytes: int) -> None:
        """Write one file to `target`."""
        target.write_bytes(self._blobs.read(self._blob_of[name]))


def read_corrections(
    context: JobContext, manifest_file: Path, scratch: Path, options: DatasetOptions
) -> tuple[DatasetContent, list[str]]:
    """Return the content of a data set of corrections, and the ids of the feedback that it uses.

    Images for training or for the choice of alpha that show the same as a test image of any ready data set are left
    out, as are images that have been deleted.

    Raises:
        RequestRefusedError: A class or a split has no image left.
    """
    manifest = Manifest.from_bytes(manifest_file.read_bytes())
    ids = {each.feedback_ids[0]: each.feedback_ids for each in manifest.corrections}
    plan = _plan(context, manifest)
    meter = ProgressMeter(context.channel.send, total=2 * len(plan.images))
    meter.enter("decode")
    accepted = decode_images(plan, meter, context.settings.max_image_pixels)
    meter.enter("compare")
    _leave_out_test_images(context, plan, accepted)
    require_splits((str(image.split), image.label) for image in accepted)
    splits = {split: [image for image in accepted if image.split == split] for split in _SPLITS}
    names = name_classes(plan.classes, {}, dict(options.display_names))
    display = dict(zip(plan.classes, names, strict=True))
    meter.enter("store")
    shards, blob_bytes = store_splits(context, scratch, plan, splits, names, meter)
    duplicates = find_duplicates(splits, {image.name: digest for image, digest in accepted.items()})
    content = DatasetContent(
        classnames=names,
        templates=options.templates,
        shards=shards,
        counts={split: count_by_class(images, display) for split, images in splits.items()},
        rejected=plan.rejects.as_json(),
        layout=plan.layout,
        duplicates=duplicates,
        blob_bytes=blob_bytes,
        decoder=DECODER,
        test_digests=store_digests(context, (accepted[image] for image in splits["test"]), blob_bytes),
        reading=summarise(plan, splits, display, duplicates),
    )
    return content, [identifier for image in accepted for identifier in ids[image.name]]


def _plan(context: JobContext, manifest: Manifest) -> Plan:
    blob_of = {each.feedback_ids[0]: each.image_sha256 for each in manifest.corrections}
    return Plan(
        layout=_LAYOUT,
        images=tuple(Image(each.feedback_ids[0], each.split, each.label) for each in manifest.corrections),
        classes=manifest.classes,
        rejects=Rejects(),
        container=FeedbackFiles(context.blobs, blob_of),
        is_declared=True,
        notes=Notes(labels_from="feedback"),
    )


def _leave_out_test_images(context: JobContext, plan: Plan, accepted: dict[Image, bytes]) -> None:
    """Remove images that would train on a test image of a data set, or choose alpha with it; tell them as rejected."""
    images = {digest: image for image, digest in accepted.items() if image.split != "test"}
    with context.database.read() as session:
        held_out = HeldOutImages(session).all()
    for each in held_out:
        for digest in find_digests(_digests_of(context, each), images):
            image = images.pop(digest)
            del accepted[image]
            name = f"{each.dataset_id} ({shorten(each.name, 40)!r})"
            plan.rejects.add(image.name, f"shows the same as a test image of data set {name}")


def _digests_of(context: JobContext, held_out: HeldOut) -> bytes:
    """Return what the test images of a data set show; computed once for those that an older release ingested."""
    try:
        if held_out.digests is not None:
            return context.blobs.read(held_out.digests)
        shard = context.blobs.fetch(held_out.shard)
    except BlobMissingError:  # the data set has just been deleted
        return b""
    packed = pack_digests(_show(shard, context.settings.max_image_pixels))
    sha256 = context.blobs.put_bytes(packed)
    with context.database.write() as session:
        HeldOutImages(session).remember(held_out.dataset_id, sha256, len(packed))
    return packed


def _show(shard: Path, max_pixels: int) -> Iterator[bytes]:
    for image, _ in read_shard(shard):
        try:
            yield check_picture(image, max_pixels=max_pixels)
        except ImageDecodeError:  # which an older release accepted
            continue
