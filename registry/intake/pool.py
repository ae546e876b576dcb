"""A pool: unlabelled images, in whatever folders they lie."""

from __future__ import annotations

from registry.errors import ArchiveRefusedError
from registry.intake.plan import Image, Plan, Upload
from registry.intake.rejects import Rejects
from registry.shards import UNLABELLED


def read_pool(upload: Upload) -> Plan:
    """Return all images of an upload, ordered by name; folders and tables have no meaning.

    Raises:
        ArchiveRefusedError: It contains no images.
    """
    rejects = Rejects()
    names = upload.image_names
    others = (entry.name for entry, _ in upload.files if entry.name not in names)
    rejects.add_all(others, "unsupported file type")
    for name, reason in upload.container.rejected:
        rejects.add(name, reason)
    images = tuple(sorted((Image(entry.name, "train", UNLABELLED) for entry, _ in upload.images), key=_name))
    if not images:
        raise ArchiveRefusedError(
            "no_images",
            "The upload contains no image files.",
            "Upload a folder of images; a pool needs no classes or tables.",
        )
    return Plan("pool", images, (UNLABELLED,), rejects, upload.container)


def _name(image: Image) -> str:
    return image.name
