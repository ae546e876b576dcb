"""`paint_core.patching.journal` for a job: results are stored in the job's checkpoint and in blobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from contract.job_events import CheckpointUnusable, Resumed
from paint_core.alpha import CurvePoint
from paint_core.evaluation import Score
from paint_core.models import BaseModel
from paint_core.patching.journal import Resume
from paint_core.training.train_state import TrainState
from paint_core.weights import Bits, TaskVector, load_task_vector, save_task_vector
from registry.errors import BlobCorruptError, BlobMissingError
from worker.job_context import JobContext
from worker.messages import Note
from worker.parting import Parting
from worker.steps.checkpoint import PatchCheckpoint

_STORED = ":stored"
"""Ends the checkpoint's key of a task vector in the form in which the version has it."""


class JobJournal:
    """Stores task vectors and training states as blobs, and the points of a search in the checkpoint itself.

    Args:
        context: The attempt.
        checkpoint: The job's checkpoint.
        base: Every task vector is checked against its image tower.
        on_skipped: Called with what an earlier attempt did: a number of steps, -1 for a whole run of them, or a point.
        final_loss: Returns the loss of the last step when a run is over.
    """

    def __init__(
        self,
        context: JobContext,
        checkpoint: PatchCheckpoint,
        base: BaseModel,
        *,
        on_skipped: Callable[[int | CurvePoint], None],
        final_loss: Callable[[], float | None],
    ) -> None:
        self._context = context
        self._checkpoint = checkpoint
        self._base = base
        self._on_skipped = on_skipped
        self._final_loss = final_loss
        self._last_saved = time.monotonic()
        self._parting = Parting()

    @property
    def task_vectors(self) -> dict[str, str]:
        """Hashes of the task vectors by key, in the form in which they are part of the patch."""
        found = self._all_vectors
        stored = {key.removesuffix(_STORED): sha256 for key, sha256 in found.items() if key.endswith(_STORED)}
        return {key: sha256 for key, sha256 in found.items() if not key.endswith(_STORED)} | stored

    @property
    def _all_vectors(self) -> dict[str, str]:
        return dict(self._checkpoint.get("task_vectors") or {})

    @property
    def final_losses(self) -> dict[str, float | None]:
        """Loss of the last step of each fine-tuning run by key."""
        return dict(self._checkpoint.get("final_losses") or {})

    def task_vector(self, key: str, make: Callable[[Resume], TaskVector]) -> TaskVector:
        """Return the task vector that an earlier attempt stored, else the one that `make` computes."""
        if stored := self._all_vectors.get(key):
            self._on_skipped(-1)
            return load_task_vector(self._context.blobs.fetch(stored), self._base)
        resumed = self._training_state(key)
        if resumed is not None:
            self._on_skipped(resumed.step)
        self._last_saved = time.monotonic()
        with self._parting:
            tau = make(Resume(resumed, self._checkpoint_due, lambda training: self._save_training(key, training)))
        sha256 = self._context.blobs.put_bytes(save_task_vector(tau, {"base": self._base.fingerprint}))
        self._checkpoint.save(
            task_vectors=self._all_vectors | {key: sha256},
            final_losses=self.final_losses | {key: self._final_loss()},
            state_sha256=None,
            state_key=None,
            step=None,
        )
        return tau

    def store(self, key: str, tau: TaskVector, bits: Bits) -> None:
        """Store the form in which the task vector is part of the patch; what resumes needs, stays as it is."""
        sha256 = self._context.blobs.put_bytes(save_task_vector(tau, {"base": self._base.fingerprint}, bits))
        self._checkpoint.save(task_vectors=self._all_vectors | {key + _STORED: sha256})

    def points(self, key: str) -> list[CurvePoint]:
        """Return the points that an earlier attempt evaluated."""
        points = [_point_from_json(point) for point in (self._checkpoint.get("points") or {}).get(key, [])]
        for point in points:
            self._on_skipped(point)
        return points

    def add_point(self, key: str, point: CurvePoint) -> None:
        """Store a point in the checkpoint."""
        points = self._checkpoint.get("points") or {}
        self._checkpoint.save(points=points | {key: [*points.get(key, []), _point_as_json(point)]})

    def stage(self, name: str) -> AbstractContextManager[object]:
        """Name and time a stage of the job."""
        return self._checkpoint.stage(name)

    def _checkpoint_due(self, _step: int) -> bool:
        return self._parting.asked or time.monotonic() - self._last_saved >= self._context.settings.checkpoint_seconds

    def _save_training(self, key: str, training: TrainState) -> None:
        sha256 = self._context.blobs.put_bytes(training.to_bytes())
        self._checkpoint.save(state_sha256=sha256, state_key=key, step=training.step)
        self._last_saved = time.monotonic()
        if self._parting.asked:
            raise SystemExit(0)  # the worker gives the job back; the next attempt resumes here

    def _training_state(self, key: str) -> TrainState | None:
        """Return the last checkpoint of this fine-tune; None, to start over, if it is missing or damaged."""
        stored = self._checkpoint.get("state_sha256")
        if not stored or self._checkpoint.get("state_key") != key:
            return None
        try:
            training = TrainState.from_bytes(self._context.blobs.read(stored))
        except (BlobMissingError, BlobCorruptError) as error:
            self._context.channel.send(Note.of(CheckpointUnusable(cause=str(error))))
            return None
        self._context.channel.send(Note.of(Resumed(step=training.step, of=key)))
        return training


def _point_as_json(point: CurvePoint) -> dict[str, Any]:
    scores = {name: vars(score) for name, score in point.scores.items()}
    return {"alpha": point.alpha, "measured": point.measured, "profile": point.profile, "scores": scores}


def _point_from_json(data: dict[str, Any]) -> CurvePoint:
    scores = {name: Score(**score) for name, score in data["scores"].items()}
    return CurvePoint(data["alpha"], scores, data["measured"], data["profile"])
