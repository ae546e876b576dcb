"""Keeps images of requests to be labelled: answers that were close, and those on which the version in shadow disagrees.

Off by default. Requests never wait for it: what may be kept goes into a bounded queue, which drops when it is full, and
one thread looks at it, checks the images and stores them as feedback.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, Full, Queue
from typing import Self

import numpy as np
import structlog
from numpy.typing import NDArray

from app.metrics.metrics import Metrics
from app.models.shadow import Answered
from app.settings import AppSettings
from contract.feedback import FeedbackSource
from contract.labels import MAX_LABEL
from paint_core.images.decoding import check_picture
from registry.blobs import BlobStore
from registry.database import Database, utc_now
from registry.disk import Disks
from registry.errors import StorageFullError
from registry.feedback import Feedback, NewFeedback

MAX_WAITING, MAX_WAITING_BYTES = 64, 64 << 20
REST_SECONDS = 0.1
"""Pause after each image, so that keeping many takes no more than a small part of a core."""

_LOOK_SECONDS = 0.5
_STOP_SECONDS = 10.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Finding:
    """An image that is to be kept.

    Attributes:
        index: Position in the request.
        predicted: What was answered.
        margin: Score of the best label minus that of the second best; None: unknown.
        source: Why it is kept.
        note: What else is known.
    """

    index: int
    predicted: str
    margin: float | None
    source: FeedbackSource
    note: str | None = None


@dataclass(frozen=True)
class Candidate:
    """Images of an answered request.

    Attributes:
        images: Encoded images.
        version_id: The version that answered.
        owner: Name of the key that sent it.
        find: Returns what is to be kept; called in the sampler's thread.
    """

    images: Sequence[bytes]
    version_id: int
    owner: str | None
    find: Callable[[], Iterable[Finding]]

    @property
    def num_bytes(self) -> int:
        """Size of the images."""
        return sum(map(len, self.images))


class Sampler:
    """Keeps images. Without a share it starts no thread, and nothing is ever kept.

    Args:
        database: Gets the feedback.
        blobs: Get the images.
        disks: Checked for room before an image is stored.
        metrics: Count what is kept and dropped.
        settings: Hold the share, the margin, the retention and the limits.
        rest_seconds: Pause after each image.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        disks: Disks,
        metrics: Metrics,
        settings: AppSettings,
        rest_seconds: float = REST_SECONDS,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._disks = disks
        self._metrics = metrics
        self._settings = settings
        self._rest_seconds = rest_seconds
        self._queue: Queue[Candidate] = Queue(MAX_WAITING)
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.is_on = settings.sampling_share > 0
        self._thread = threading.Thread(target=self._run, name="paintbox-sampler", daemon=True)
        if self.is_on:
            self._thread.start()

    @classmethod
    def open(cls, settings: AppSettings, database: Database, blobs: BlobStore, metrics: Metrics) -> Self:
        """Return the sampler of an API process."""
        disks = Disks((settings.data_dir, settings.blob_dir), settings.min_free_bytes)
        return cls(database, blobs, disks, metrics, settings)

    def offer_answer(
        self,
        images: Sequence[bytes],
        classnames: Sequence[str],
        scores: Callable[[], NDArray[np.float32]],
        version_id: int,
        owner: str | None,
    ) -> None:
        """Let the images of an answer be kept whose best labels are close, if it falls into the share.

        Args:
            images: B encoded images.
            classnames: C labels.
            scores: Returns the scores [B, C].
            version_id: The version that answered.
            owner: Name of the key that sent them.
        """
        if self.is_on and len(classnames) > 1 and random.random() < self._settings.sampling_share:
            self._put(Candidate(images, version_id, owner, lambda: self._close_ones(classnames, scores())))

    def offer_differences(self, answered: Answered, shadow_id: int, top: Sequence[int]) -> None:
        """Let the images be kept for which the version in shadow ranks another label first.

        Args:
            answered: What the active version answered.
            shadow_id: The version in shadow.
            top: Index of its best label of each image.
        """
        if not self.is_on or not answered.may_be_kept:
            return
        names = answered.classnames
        pairs = enumerate(zip(answered.top.tolist(), top, strict=True))
        findings = [
            Finding(
                index, names[mine], None, FeedbackSource.SHADOW, f"version {shadow_id} answers {names[other][:200]!r}"
            )
            for index, (mine, other) in pairs
            if mine != other
        ]
        if findings:
            self._put(Candidate(answered.images, answered.model.version_id, answered.owner, lambda: findings))

    def close(self) -> None:
        """Stop the thread; what waits is dropped."""
        self._stopping.set()
        if self.is_on:
            self._thread.join(_STOP_SECONDS)

    def _put(self, candidate: Candidate) -> None:
        num_bytes = candidate.num_bytes
        with self._lock:
            has_room = self._waiting_bytes + num_bytes <= MAX_WAITING_BYTES
            if has_room:
                try:
                    self._queue.put_nowait(candidate)
                    self._waiting_bytes += num_bytes
                except Full:
                    has_room = False
        if not has_room:
            self._metrics.count_dropped_sample("queue_full")

    def _close_ones(self, classnames: Sequence[str], scores: NDArray[np.float32]) -> Iterable[Finding]:
        """Yield the images whose margin is small."""
        second, best = np.partition(scores, -2, axis=1)[:, -2:].T
        for index in np.flatnonzero(best - second < self._settings.sampling_max_margin).tolist():
            label = classnames[int(scores[index].argmax())]
            yield Finding(index, label, float(best[index] - second[index]), FeedbackSource.SAMPLED)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                candidate = self._queue.get(timeout=_LOOK_SECONDS)
            except Empty:
                continue
            try:
                self._keep(candidate)
            except Exception:  # the thread outlives a fault of the database or the disk
                _log.warning("sampling failed", exc_info=True)
                self._metrics.count_dropped_sample("failed")
            finally:
                with self._lock:
                    self._waiting_bytes -= candidate.num_bytes
                self._queue.task_done()

    def _keep(self, candidate: Candidate) -> None:
        for finding in candidate.find():
            image = candidate.images[finding.index]
            if not self._has_room(len(image)):
                return self._metrics.count_dropped_sample("storage_full")
            self._store(candidate, finding, image)
            if self._stopping.wait(self._rest_seconds):
                return None
        return None

    def _has_room(self, num_bytes: int) -> bool:
        try:
            self._disks.require(num_bytes)
        except StorageFullError:
            return False
        with self._database.read() as session:
            return Feedback(session).kept_bytes() + num_bytes <= self._settings.sampling_max_bytes

    def _store(self, candidate: Candidate, finding: Finding, image: bytes) -> None:
        picture = check_picture(image, max_pixels=self._settings.max_served_pixels).hex()
        given = NewFeedback(
            image_sha256=self._blobs.put_bytes(image),
            picture_sha256=picture,
            num_bytes=len(image),
            version_id=candidate.version_id,
            predicted=finding.predicted[:MAX_LABEL],
            note=finding.note,
            source=finding.source,
            margin=finding.margin,
            owner=candidate.owner,
            expires_at=utc_now() + timedelta(days=self._settings.sampling_retention_days),
        )
        with self._database.write() as session:
            _, is_new = Feedback(session).add(given)
        self._blobs.put_bytes(image)  # a concurrent deletion may have removed it before it saw this row
        if is_new:
            self._metrics.count_kept_sample(finding.source)
