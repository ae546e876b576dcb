"""From an uploaded file to what it holds: the format by its bytes, the layout by its names, the rest by its tables.

It is done twice. The API looks at names alone, and refuses at once what is hostile or in no layout; the ingest job,
in a process that can be killed, unpacks and reads.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from registry.archives import ArchiveLimits
from registry.errors import ArchiveRefusedError, LargeArchiveError
from registry.intake.choices import Choices
from registry.intake.containers import Container, Stretch, StretchContainer, ZipContainer, open_tar
from registry.intake.exports.reader import EXPORTS
from registry.intake.formats import Format, detect_format, unpack_tar
from registry.intake.image_folder import ImageFolder
from registry.intake.known import refuse_partly_labelled
from registry.intake.listed import Listed, refuse_manifest
from registry.intake.parquet import ParquetShards
from registry.intake.plan import Layout, Plan, Upload
from registry.intake.pool import read_pool
from registry.intake.webdataset import WebDataset

_LOOK_ENTRIES = 10_000
"""A first look at so many takes about half a second of a core; a longer list is left to the job."""
_LOOK_HEADS = 1000
_FOLDERS = ImageFolder()
_MANIFEST = Listed("csv-manifest", is_metadata=False)
LAYOUTS: tuple[Layout, ...] = (
    ParquetShards(),
    WebDataset(),
    *EXPORTS,
    Listed("imagefolder-metadata", is_metadata=True),
    _MANIFEST,
    _FOLDERS,
)
"""In the order in which they are tried; the first that recognises an upload and finds labels in it reads it."""


def look(path: Path, choices: Choices | None = None, limits: ArchiveLimits | None = None) -> tuple[str, ...] | None:
    """Return the classes of an upload if its names alone determine them; refuses what is hostile by its names.

    The cost is bounded: at most `_LOOK_ENTRIES` names are read.

    Returns:
        Classes in label order, or None if only reading the whole upload determines them.
    """
    limits, choices = limits or ArchiveLimits(), choices or Choices()
    kind = detect_format(path)
    if kind not in (Format.ZIP, Format.TAR):
        return None
    open_archive = ZipContainer if kind is Format.ZIP else open_tar
    try:
        container: Container = open_archive(path, limits, _LOOK_ENTRIES)
        upload = Upload(container, path.parent, limits, choices, _LOOK_HEADS)
        if any(layout.recognises(upload) for layout in _candidates(choices) if layout is not _FOLDERS):
            return None
        return _read_folders(upload).classes
    except LargeArchiveError:
        return None


def read_upload(path: Path, scratch: Path, choices: Choices | None = None, limits: ArchiveLimits | None = None) -> Plan:
    """Return the content of an upload.

    Args:
        scratch: Empty folder for unpacked files; the plan's images are read from it later, so it must stay.

    Returns:
        The images to read, with their classes and splits, and what is left out, with reasons.
    """
    limits, choices = limits or ArchiveLimits(), choices or Choices()
    upload = Upload(_open(path, scratch, limits), scratch, limits, choices)
    plan = _read(upload)
    for name, reason in upload.container.rejected:
        plan.rejects.add(name, reason)
    if upload.container.num_unsure:
        detail = (
            f"{upload.container.num_unsure:,} names in the archive are not UTF-8 and may be misread: check the class "
            "names, or create the archive again on a system that writes UTF-8."
        )
        upload.notes.warn("unsure_names", detail)
    return plan


def _read(upload: Upload) -> Plan:
    refused: ArchiveRefusedError | None = None
    for layout in _candidates(upload.choices):
        if layout is _FOLDERS or not layout.recognises(upload):
            continue
        try:
            plan = layout.read(upload)
        except ArchiveRefusedError as error:
            if error.code != "not_classes" or not upload.images:
                raise
            refused = refused or error  # captions beside the images; a table may name the classes
        else:
            if plan is not None:
                return plan
    if refused is not None:
        raise refused
    return _read_folders(upload)


def look_at_pool(path: Path, limits: ArchiveLimits | None = None) -> None:
    """Refuse an upload that is no pool of images, judged by its names alone; errors as for `look`."""
    limits = limits or ArchiveLimits()
    kind = detect_format(path)
    if kind not in (Format.ZIP, Format.TAR):
        return
    open_archive = ZipContainer if kind is Format.ZIP else open_tar
    with suppress(LargeArchiveError):
        read_pool(Upload(open_archive(path, limits, _LOOK_ENTRIES), path.parent, limits, Choices(), _LOOK_HEADS))


def read_pool_upload(path: Path, scratch: Path, limits: ArchiveLimits | None = None) -> Plan:
    """Return all images of an upload, unlabelled; arguments and errors as for `read_upload`."""
    limits = limits or ArchiveLimits()
    return read_pool(Upload(_open(path, scratch, limits), scratch, limits))


def _read_folders(upload: Upload) -> Plan:
    """Return the plan of an upload that no other layout's reader takes."""
    if upload.choices.manifest is not None:
        raise refuse_manifest(upload.choices.manifest, upload.unused_tables)
    if upload.choices.layout not in (None, _FOLDERS.name):
        raise _not_this_layout(upload)
    if upload.choices.layout is None:
        refuse_partly_labelled(upload)
    return _FOLDERS.read(upload)


def _not_this_layout(upload: Upload) -> ArchiveRefusedError:
    why = next(iter(upload.unused_tables.values()), f"it contains {upload.tell_extensions()}")
    return ArchiveRefusedError(
        "bad_reading_option",
        f"The upload cannot be read with `layout` {upload.choices.layout}: {why}.",
        "Omit `layout` to detect it, or choose another one.",
    )


def _candidates(choices: Choices) -> tuple[Layout, ...]:
    if choices.manifest is not None:
        exports = tuple(each for each in EXPORTS if choices.layout in (None, each.name))
        return (*exports, _MANIFEST)
    return tuple(layout for layout in LAYOUTS if choices.layout in (None, layout.name))


def _open(path: Path, scratch: Path, limits: ArchiveLimits) -> Container:
    kind = detect_format(path)
    if kind is Format.ZIP:
        return ZipContainer(path, limits)
    if kind is Format.TAR:
        return open_tar(path, limits)
    if kind is Format.PARQUET:
        return StretchContainer({"data.parquet": Stretch(path, 0, path.stat().st_size)}, limits)
    unpacked = scratch / "unpacked.tar"
    unpack_tar(path, kind, unpacked, limits)
    return open_tar(unpacked, limits)
