"""Feedback on answers: images with what a version said and what is right, and their erasure."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update

from contract.feedback import FeedbackSource, FeedbackState
from registry.blobs import BlobStore
from registry.database import Database
from registry.errors import RequestRefusedError
from registry.paging import Page, read_page
from registry.repository import Repository
from registry.tables import FeedbackRow
from registry.unused_blobs import UnusedBlobs

_USABLE = (FeedbackState.OPEN, FeedbackState.ACCEPTED)
_ERASED_AT_ONCE = 100  # rows of one transaction, which others wait for
_MOST_EXPIRED = 100_000  # at once; an hour later the next ones
_CHUNK = 500  # values in one statement; databases bound them


@dataclass(frozen=True)
class NewFeedback:
    """Feedback that is to be stored; its image is a blob already.

    Attributes:
        image_sha256: The blob.
        picture_sha256: Digest of what the image shows.
        num_bytes: Size of the image file.
        version_id: Version that answered.
        predicted: Its answer.
        label: The right answer; None: not known.
        note: What the sender says about it.
        source: Who stored it.
        margin: Of a kept image: score of the best label minus that of the second best.
        origin: The stored image that it was copied from.
        owner: By the name on the key.
        expires_at: When the service deletes it; None: never.
    """

    image_sha256: str
    picture_sha256: str
    num_bytes: int
    version_id: int | None = None
    predicted: str | None = None
    label: str | None = None
    note: str | None = None
    source: FeedbackSource = FeedbackSource.SENT
    margin: float | None = None
    origin: dict[str, Any] | None = None
    owner: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class FeedbackFilter:
    """Which feedback is meant; every condition that is set must hold.

    Attributes:
        states: One of these states.
        label: This label.
        is_labelled: Whether it has a label.
        predicted: This answer.
        version_id: Answered by this version.
        source: From this source.
        owner: Of this owner.
    """

    states: tuple[FeedbackState, ...] = ()
    label: str | None = None
    is_labelled: bool | None = None
    predicted: str | None = None
    version_id: int | None = None
    source: FeedbackSource | None = None
    owner: str | None = None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """Yield the conditions on a row."""
        if self.states:
            yield FeedbackRow.state.in_([str(state) for state in self.states])
        if self.is_labelled is not None:
            yield FeedbackRow.label.is_not(None) if self.is_labelled else FeedbackRow.label.is_(None)
        exact: dict[Any, object] = {
            FeedbackRow.label: self.label,
            FeedbackRow.predicted: self.predicted,
            FeedbackRow.version_id: self.version_id,
            FeedbackRow.source: self.source,
            FeedbackRow.owner: self.owner,
        }
        yield from (column == value for column, value in exact.items() if value is not None)


@dataclass(frozen=True)
class Erased:
    """What a deletion has removed.

    Attributes:
        num_rows: Feedback that was deleted.
        num_files: Image files that were deleted, because no feedback and nothing else refers to them.
        dataset_ids: Data sets that were made with the deleted feedback and contain copies of its images.
    """

    num_rows: int = 0
    num_files: int = 0
    dataset_ids: frozenset[str] = frozenset()

    def __add__(self, other: Erased) -> Erased:
        return Erased(
            self.num_rows + other.num_rows, self.num_files + other.num_files, self.dataset_ids | other.dataset_ids
        )


class Feedback(Repository):
    """Feedback within one transaction."""

    def get(self, identifier: str) -> FeedbackRow:
        """Return the feedback, or raise `NotFoundError`."""
        return self._get(FeedbackRow, identifier, "feedback")

    def newest(
        self, limit: int = 100, cursor: str | None = None, wanted: FeedbackFilter = FeedbackFilter()
    ) -> Page[FeedbackRow]:
        """Return a page of feedback, newest first."""
        query = select(FeedbackRow).where(*wanted.conditions())
        return read_page(self._session, query, (FeedbackRow.created_at, FeedbackRow.id), limit, cursor)

    def ids(self, wanted: FeedbackFilter, limit: int) -> Sequence[str]:
        """Return the ids of feedback, oldest first, at most `limit`."""
        query = select(FeedbackRow.id).where(*wanted.conditions())
        return self._session.scalars(query.order_by(FeedbackRow.created_at, FeedbackRow.id).limit(limit)).all()

    def rows(self, identifiers: Sequence[str]) -> list[FeedbackRow]:
        """Return the feedback with these ids, as far as it exists."""
        found: list[FeedbackRow] = []
        for chunk in _chunks(identifiers, _CHUNK):
            found += self._session.scalars(select(FeedbackRow).where(FeedbackRow.id.in_(chunk)))
        return found

    def expired(self, limit: int) -> Sequence[str]:
        """Return the ids of feedback that the service is to delete by now, at most `limit`."""
        query = select(FeedbackRow.id).where(FeedbackRow.expires_at <= self._now())
        return self._session.scalars(query.limit(limit)).all()

    def kept_bytes(self) -> int:
        """Return the size in bytes of the images that the service has kept and that nobody has labelled."""
        query = select(func.sum(FeedbackRow.num_bytes)).where(FeedbackRow.expires_at.is_not(None))
        return int(self._session.scalar(query) or 0)

    def add(self, given: NewFeedback, max_open: int | None = None) -> tuple[FeedbackRow, bool]:
        """Return the feedback and whether it is new: an image that shows the same, with the same label, is stored once.

        Args:
            given: What is to be stored.
            max_open: How much open feedback an owner may have sent; None: any.

        Raises:
            RequestRefusedError: The owner has that much.
        """
        found = self._find_same(given)
        if found is not None:
            return found, False
        if max_open is not None:
            self._require_room(given.owner, max_open)
        now = self._now()
        row = FeedbackRow(
            id=f"fb_{secrets.token_hex(12)}", state=FeedbackState.OPEN, created_at=now, updated_at=now, **vars(given)
        )
        self._session.add(row)
        self._session.flush()
        return row, True

    def change(self, identifier: str, **changes: Any) -> FeedbackRow:
        """Return the feedback with other values of `label`, `state` or `note`; one with a label does not expire.

        Raises:
            NotFoundError: There is no such feedback.
        """
        row = self._get(FeedbackRow, identifier, "feedback", locked=True)
        for name, value in changes.items():
            setattr(row, name, value)
        if row.label is not None and row.state != FeedbackState.DISMISSED:
            row.expires_at = None
        row.updated_at = self._now()
        return row

    def mark_used(self, identifiers: Collection[str], dataset_id: str) -> None:
        """Mark open and accepted feedback as used by a data set."""
        values = {"state": FeedbackState.USED, "dataset_id": dataset_id, "updated_at": self._now(), "expires_at": None}
        for chunk in _chunks(sorted(identifiers), _CHUNK):
            chosen = update(FeedbackRow).where(FeedbackRow.id.in_(chunk), FeedbackRow.state.in_(_USABLE))
            self._session.execute(chosen.values(values))

    def delete(self, identifiers: Collection[str]) -> tuple[Erased, set[str]]:
        """Delete feedback, as far as it exists, and return what was deleted and the blobs that may now be unused."""
        chosen = select(FeedbackRow).where(FeedbackRow.id.in_(identifiers)).with_for_update()
        rows = self._session.scalars(chosen).all()
        images = {row.image_sha256 for row in rows}
        UnusedBlobs(self._session, self._now).add(images)
        self._session.execute(delete(FeedbackRow).where(FeedbackRow.id.in_([row.id for row in rows])))
        return Erased(len(rows), 0, frozenset(row.dataset_id for row in rows if row.dataset_id is not None)), images

    def _find_same(self, given: NewFeedback) -> FeedbackRow | None:
        label = FeedbackRow.label.is_(None) if given.label is None else FeedbackRow.label == given.label
        owner = FeedbackRow.owner.is_(None) if given.owner is None else FeedbackRow.owner == given.owner
        query = select(FeedbackRow).where(
            FeedbackRow.picture_sha256 == given.picture_sha256, FeedbackRow.state.in_(_USABLE), label, owner
        )
        return self._session.scalar(query.order_by(FeedbackRow.created_at, FeedbackRow.id).limit(1))

    def _require_room(self, owner: str | None, max_open: int) -> None:
        of_owner = FeedbackRow.owner.is_(None) if owner is None else FeedbackRow.owner == owner
        is_open = FeedbackRow.state == FeedbackState.OPEN
        is_sent = FeedbackRow.source == FeedbackSource.SENT
        query = select(func.count()).select_from(FeedbackRow).where(of_owner, is_open, is_sent)
        num_open = self._session.scalar(query) or 0
        if num_open >= max_open:
            raise RequestRefusedError(
                "too_much_feedback",
                f"There are {num_open:,} open corrections of this key, which is the maximum.",
                "Accept, dismiss or delete some: GET /v1/feedback?state=open.",
            )


def erase(database: Database, blobs: BlobStore, identifiers: Sequence[str]) -> Erased:
    """Delete feedback and, at once, the image files that nothing else refers to.

    A file that cannot be deleted now, because the process ends or the store is unreachable, is deleted by the next
    `collect_garbage`.
    """
    erased = Erased()
    for chunk in _chunks(identifiers, _ERASED_AT_ONCE):
        with database.write() as session:
            deleted, images = Feedback(session).delete(chunk)
        with database.write() as session:  # in which nobody begins to refer to them
            unused = UnusedBlobs(session)
            gone = unused.unnamed(images)
            for sha256 in gone:
                blobs.delete(sha256)
            unused.drop(images)
        erased += deleted + Erased(num_files=len(gone))
    return erased


def erase_expired(database: Database, blobs: BlobStore) -> Erased:
    """Delete the feedback that has expired, at most `_MOST_EXPIRED`, with its images."""
    with database.read() as session:
        found = Feedback(session).expired(_MOST_EXPIRED)
    return erase(database, blobs, found)


def _chunks(identifiers: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (identifiers[start : start + size] for start in range(0, len(identifiers), size))
