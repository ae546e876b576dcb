"""A pool: unlabelled images, in whatever folders they lie."""

from __future__ import annotations

from registry.errors import ArchiveRefusedError
from registry.intake.names import is_image
from registry.intake.plan import Image, Plan, Upload
from registry.intake.rejects import Rejects
from registry.shards import UNLABELLED


def read_pool(upload: Upload) -> Plan:
    """Return all images of an upload, of which folders and tables tell nothing.

    Args:
        upload: The archive; only its names are looked at.

    Returns:
        The plan, with images ordered by their names.

    Raises:
        ArchiveRefusedError: It holds no images.
    """
    rejects = Rejects()
    rejects.add_all((entry.name for entry, parts in upload.files if not is_image(parts)), "not named like an image")
    images = tuple(sorted((Image(entry.name, "train", UNLABELLED) for entry, _ in upload.images), key=_name))
    if not images:
        raise ArchiveRefusedError(
            "no_images", "It holds no image files.", "Pack a folder of images; a pool needs neither classes nor tables."
        )
    return Plan("pool", images, (UNLABELLED,), rejects, upload.container)


def _name(image: Image) -> str:
    return image.name
