"""Storing feedback, deciding on it, and erasing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import structlog

from app.datasets.gallery import GalleryDep
from app.feedback.schemas import (
    FeedbackBody,
    FeedbackChange,
    FeedbackErased,
    FeedbackList,
    FeedbackResource,
)
from app.http.dependencies import BlobsDep, DatabaseDep, SettingsDep, built
from app.inference.image_requests import check_images
from app.pictures.thumbnails import Picture
from paint_core.images.decoding import check_picture
from registry.aliases import Aliases
from registry.blobs import BlobStore
from registry.database import Database
from registry.errors import NotFoundError
from registry.feedback import Feedback, FeedbackFilter, NewFeedback, erase
from registry.versions import Versions

MAX_ERASED = 1000
"""Maximum number of corrections that one request deletes."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Image:
    """An image that was checked.

    Attributes:
        read: Returns the file.
        picture_sha256: What it shows.
    """

    read: Callable[[], bytes]
    picture_sha256: str


@dataclass(frozen=True)
class FeedbackIntake:
    """Stores feedback. Its methods block, and decode images."""

    database: DatabaseDep
    blobs: BlobsDep
    settings: SettingsDep
    gallery: GalleryDep

    def add(self, body: FeedbackBody, owner: str | None) -> tuple[FeedbackResource, bool]:
        """Return the feedback, and whether it is new; the image is checked before anything is stored.

        Raises:
            NotFoundError: The version, the data set, its image or the other feedback does not exist.
            ImageDecodeError: The image cannot be decoded.
            ImageRefusedError: It is too large.
            RequestRefusedError: The owner has too much open feedback.
        """
        version_id = self._find_version(body.version)
        image = self._read_image(body)
        picture = check_picture(image, max_pixels=self.settings.max_served_pixels).hex()
        origin = None
        if body.dataset is not None:
            origin = {"dataset": body.dataset, "split": body.split, "row": body.row}
        given = NewFeedback(
            image_sha256=self.blobs.put_bytes(image),
            picture_sha256=picture,
            num_bytes=len(image),
            version_id=version_id,
            predicted=body.predicted,
            label=body.label,
            note=body.note or None,
            origin=origin,
            owner=owner,
        )
        with self.database.write() as session:
            row, is_new = Feedback(session).add(given, self.settings.max_open_feedback)
            resource = FeedbackResource.of(row)
        self.blobs.put_bytes(image)  # a concurrent deletion may have removed it before it saw this row
        return resource, is_new

    def _read_image(self, body: FeedbackBody) -> bytes:
        if body.dataset is not None:
            assert body.split is not None
            assert body.row is not None
            return self.gallery.picture(body.dataset, body.split, body.row).read()
        if body.sample is not None:
            with self.database.read() as session:
                sha256 = Feedback(session).get(body.sample).image_sha256
            return self.blobs.read(sha256)
        check_images(body.images, self.settings)
        return body.images[0]

    def _find_version(self, named: int | str | None) -> int | None:
        with self.database.read() as session:
            if isinstance(named, int):
                return Versions(session).get(named).id
            if named is not None:
                return Aliases(session).get(named).version_id
            return Aliases(session).active_version_id()


FeedbackIntakeDep = Annotated[FeedbackIntake, built(FeedbackIntake)]


def list_feedback(database: Database, wanted: FeedbackFilter, limit: int, cursor: str | None) -> FeedbackList:
    """Return a page of feedback, newest first."""
    with database.read() as session:
        page = Feedback(session).newest(limit, cursor, wanted)
        return FeedbackList(items=list(map(FeedbackResource.of, page)), next_cursor=page.next_cursor)


def get_feedback(database: Database, identifier: str) -> FeedbackResource:
    """Return the feedback."""
    with database.read() as session:
        return FeedbackResource.of(Feedback(session).get(identifier))


def picture_of(database: Database, blobs: BlobStore, identifier: str) -> Picture:
    """Return the image of feedback."""
    with database.read() as session:
        sha256 = Feedback(session).get(identifier).image_sha256
    return Picture(sha256, partial(blobs.read, sha256))


def change_feedback(database: Database, identifier: str, change: FeedbackChange) -> FeedbackResource:
    """Return the feedback with what the request changes."""
    changes: dict[str, Any] = {name: getattr(change, name) or None for name in change.model_fields_set}
    with database.write() as session:
        return FeedbackResource.of(Feedback(session).change(identifier, **changes))


def erase_one(database: Database, blobs: BlobStore, identifier: str) -> FeedbackErased:
    """Delete feedback and its image, if nothing else refers to it.

    Raises:
        NotFoundError: There is no such feedback.
    """
    erased = erase(database, blobs, [identifier])
    if not erased.num_rows:
        raise NotFoundError("feedback", identifier)
    _log.info("feedback deleted", feedback=identifier)
    return FeedbackErased.of(erased)


def erase_matching(database: Database, blobs: BlobStore, wanted: FeedbackFilter) -> FeedbackErased:
    """Delete the feedback that passes a filter, oldest first, at most `MAX_ERASED`."""
    with database.read() as session:
        found = Feedback(session).ids(wanted, MAX_ERASED + 1)
    erased = erase(database, blobs, found[:MAX_ERASED])
    _log.info("feedback deleted", count=erased.num_rows)
    return FeedbackErased.of(erased, has_more=len(found) > MAX_ERASED)
