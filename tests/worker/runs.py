"""Running a patch's step in this process, and what it tells while it runs."""

import io
import json
from dataclasses import replace
from typing import Any

from registry.jobs import Jobs
from registry.tables import JobRow, PatchRow
from tests.worker.conftest import Installation
from worker.job_context import JobContext
from worker.messages import Channel, Checkpoint, Message, Note
from worker.steps.finetune import finetune

FINETUNE = {"iterations": 4, "batch_size": 8, "learning_rate": 1e-3, "seed": 3}


class Recorder(Channel):
    """Keeps every message; `fail_at` ends the trainer as a broken pipe does, at the so-manyeth checkpoint."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__(io.StringIO())
        self.messages: list[Message] = []
        self._checkpoints_left = fail_at

    def send(self, message: Message) -> None:
        super().send(message)
        self.messages.append(message)
        if isinstance(message, Checkpoint) and self._checkpoints_left is not None:
            self._checkpoints_left -= 1
            if self._checkpoints_left == 0:
                raise BrokenPipeError

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The last one, as the database would give it back."""
        values = [message.value for message in self.messages if isinstance(message, Checkpoint)]
        return dict(json.loads(json.dumps(values[-1])))

    def notes(self, text: str) -> list[Note]:
        return [message for message in self.messages if isinstance(message, Note) and message.message == text]


def do_parts(installation: Installation, row: PatchRow) -> None:
    """Fine-tune what a patch's job waits for, in this process; nothing where it is done by one job alone."""
    with installation.database.read() as session:
        parts = Jobs(session).children(row.job_id)
    for job in parts:
        finetune(begin_job(installation, job, Recorder()))


def begin_job(installation: Installation, job: JobRow, channel: Channel) -> JobContext:
    with installation.database.write() as session:
        lease = Jobs(session).lease(job.id, "a test", 600)
        assert lease is not None
    stores = (installation.database, installation.blobs)
    return JobContext(job.subject_id, job.checkpoint or {}, lease, *stores, channel, installation.settings, job.part)


def begin(installation: Installation, row: PatchRow, channel: Channel, checkpoint: dict[str, Any]) -> JobContext:
    with installation.database.read() as session:
        job = Jobs(session).get(row.job_id)
    return replace(begin_job(installation, job, channel), checkpoint=checkpoint)
