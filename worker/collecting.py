"""Rows of other data sets in place of an upload: what a collected data set holds, and which split each image gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from contract.collections import CollectionReport, Manifest, ManifestSource
from contract.datasets import DatasetKind, Split
from paint_core.errors import ImageDecodeError
from paint_core.images.decoding import check_picture
from registry.archives import ArchiveLimits
from registry.datasets import Datasets, StoredImages
from registry.digests import place_of
from registry.disk import Disks
from registry.errors import ArchiveRefusedError, NotFoundError, RequestRefusedError
from registry.intake.containers import Stretch, StretchContainer
from registry.intake.plan import Image, Plan, check_classes
from registry.intake.rejects import Rejects
from registry.shards import UNLABELLED, read_rows, read_shard
from worker.job_context import JobContext
from worker.splits import Division

LAYOUT = "collection"
TEST_SHARE, VALIDATION_SHARE = 0.1, 0.1
_LOOK_ROWS = 1000
_MAX_OWN_NAME = 500
_LEAKED = "shows the same as an image in a test split of the sources"


def split_of_content(digest: bytes) -> Split:
    """Return the split of a picture by the digest of what it shows: the same picture is always in the same split."""
    place = place_of(digest)
    if place < TEST_SHARE:
        return "test"
    return "validation" if place < TEST_SHARE + VALIDATION_SHARE else "train"


@dataclass(frozen=True)
class Collection:
    """The images of a collected data set.

    Attributes:
        plan: The images, their classes and where their bytes are.
        manifest: What was asked for.
        sources: The data sets by id.
        kind: Whether it becomes a pool.
        source_of: The part of the manifest that each image comes from.
    """

    plan: Plan
    manifest: Manifest
    sources: Mapping[str, StoredImages]
    kind: DatasetKind
    source_of: Mapping[Image, ManifestSource]

    @property
    def may_leak(self) -> bool:
        """Whether an image may come into train or validation, so that test splits of the sources matter."""
        return any(self._target(source) != "test" for source in self.manifest.sources)

    def test_shards(self) -> dict[str, int]:
        """Return the test splits of the sources: the number of images of each shard by its hash."""
        found = (source.shards.get("test") for source in self.sources.values()) if self.may_leak else ()
        return {shard["sha256"]: shard["num_images"] for shard in found if shard}

    def divide(
        self, digests: Mapping[Image, bytes], test_digests: frozenset[bytes]
    ) -> tuple[Division, CollectionReport]:
        """Return the images by split, and the report; what must not be trained on is left out.

        Args:
            digests: Accepted images with digests of what they show.
            test_digests: Of the images in test splits of the sources.

        Raises:
            ArchiveRefusedError: Nothing is left.
        """
        splits: dict[str, list[Image]] = {"train": [], "validation": [], "test": []}
        num_left_out = num_in_training = 0
        for image, digest in digests.items():
            is_in_test = digest in test_digests
            target = self._target(self.source_of[image])
            if target is None:
                is_held = is_in_test and not self.manifest.allow_test_images
                target = "test" if is_held else split_of_content(digest)
            if is_in_test and target != "test":
                if not self.manifest.allow_test_images:
                    num_left_out += 1
                    self.plan.rejects.add(image.name, _LEAKED)
                    continue
                num_in_training += 1
            splits[target].append(image)
        if num_left_out == len(digests):
            raise ArchiveRefusedError(
                "no_images", f"Each image {_LEAKED}.", "Choose other images, or send allow_test_images."
            )
        report = self.manifest.report().model_copy(
            update={"num_left_out": num_left_out, "num_test_images_in_training": num_in_training}
        )
        return Division({name: images for name, images in splits.items() if images}), report

    def _target(self, source: ManifestSource) -> Split | None:
        """Return the split of a source's images; None: it depends on what they show."""
        if self.kind is DatasetKind.POOL:
            return "train"
        if source.as_split is not None or self.manifest.splits == "keep":
            return source.as_split or source.split
        return None


def read_collection(context: JobContext, manifest: Path, scratch: Path, kind: DatasetKind) -> Collection:
    """Return what a manifest asks for; the images are copied to a file in `scratch`.

    Raises:
        RequestRefusedError: A source has been deleted.
    """
    asked = Manifest.model_validate_json(manifest.read_bytes())
    sources = _find_sources(context, asked)
    limits, classes = ArchiveLimits(), _classes(asked, sources, kind)
    check_classes(classes, limits)
    stretches: dict[str, Stretch] = {}
    source_of: dict[Image, ManifestSource] = {}
    disks = Disks([context.settings.scratch_dir], context.settings.min_free_bytes)
    path = scratch / "images"
    with path.open("wb") as target:
        for source in asked.sources:
            stored = sources[source.dataset]
            shard = context.blobs.fetch(stored.shards[source.split]["sha256"])
            for row, (data, name, label) in zip(source.rows, read_rows(shard, source.rows), strict=True):
                if len(stretches) % _LOOK_ROWS == 0:
                    disks.require()
                image = Image(_name(source, row, name), source.split, _label(source, stored, label, kind))
                stretches[image.name] = Stretch(path, target.tell(), len(data))
                source_of[image] = source
                target.write(data)
    plan = Plan(LAYOUT, tuple(source_of), classes, Rejects(), StretchContainer(stretches, limits), is_declared=True)
    return Collection(plan, asked, sources, kind, source_of)


def _find_sources(context: JobContext, asked: Manifest) -> dict[str, StoredImages]:
    with context.database.read() as session:
        datasets = Datasets(session)
        try:
            return {each.dataset: datasets.stored_images(each.dataset) for each in asked.sources}
        except NotFoundError as error:
            raise RequestRefusedError(
                "source_deleted",
                f"Data set {error.identifier} has been deleted, so its images cannot be collected.",
                "Collect images of other data sets.",
            ) from error


def _classes(asked: Manifest, sources: Mapping[str, StoredImages], kind: DatasetKind) -> tuple[str, ...]:
    """Return all classes of the sources and those that the request names, so that one may have no images."""
    if kind is DatasetKind.POOL:
        return (UNLABELLED,)
    named = ((each.as_label,) if each.as_label else sources[each.dataset].classnames for each in asked.sources)
    return tuple(dict.fromkeys(chain.from_iterable(named)))


def _label(source: ManifestSource, stored: StoredImages, label: int, kind: DatasetKind) -> str:
    if kind is DatasetKind.POOL:
        return UNLABELLED
    return source.as_label or stored.classnames[label]


def _name(source: ManifestSource, row: int, name: str) -> str:
    """Return where an image comes from, and its own name; two images never have the same."""
    return f"{source.dataset}/{source.split}/{row}/{name[-_MAX_OWN_NAME:]}"


def digests_of_tests(context: JobContext, collection: Collection, advance: Callable[[float], None]) -> frozenset[bytes]:
    """Return digests of what the images in test splits of the sources show; unreadable images have none."""
    return frozenset(
        digest
        for sha256 in collection.test_shards()
        for digest in _digests(context.blobs.fetch(sha256), context.settings.max_image_pixels, advance)
    )


def _digests(shard: Path, max_pixels: int, advance: Callable[[float], None]) -> Iterator[bytes]:
    for data, _ in read_shard(shard):
        with suppress(ImageDecodeError):
            yield check_picture(data, max_pixels=max_pixels)
        advance(1)
