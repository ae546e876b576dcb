"""Running a patch's step in this process, and what it tells while it runs."""

import io
import json
from dataclasses import replace
from typing import Any

from registry.jobs import Jobs
from registry.tables import PatchRow
from tests.worker.conftest import Installation
from worker.messages import Channel, Checkpoint, Message, Note
from worker.run import Run

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


def begin(installation: Installation, row: PatchRow, channel: Channel, checkpoint: dict[str, Any]) -> Run:
    with installation.database.write() as session:
        jobs = Jobs(session)
        lease = jobs.lease(row.job_id, "a test", 600)
        assert lease is not None
    run = Run(row.id, checkpoint, lease, installation.database, installation.blobs, channel, installation.settings)
    return replace(run)
