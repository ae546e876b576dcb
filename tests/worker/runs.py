"""Running a patch's step in this process, and what it tells while it runs."""

import io
import itertools
import json
from dataclasses import replace
from typing import Any

from PIL import Image
from torch import Tensor

from paint_core.evaluation import encode
from paint_core.models import BaseModel, build_head
from registry.jobs import Jobs
from registry.tables import JobRow, PatchRow
from tests.builders import WORDS
from tests.paint_core import tiny
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


def mastered_members(base: BaseModel) -> dict[str, bytes]:
    """An archive of what the base itself says that some pictures show, so that whatever a patch changes is a loss."""
    pictures = tiny.coloured(base, 48).images
    head = build_head(base, WORDS, base.default_templates)
    scores = encode(base.visual, pictures, base.preprocess) @ head.T

    def first_is_said(pair: tuple[int, int]) -> Tensor:
        return scores[:, pair[0]] > scores[:, pair[1]]

    pairs = itertools.combinations(range(len(WORDS)), 2)
    told_apart = min(pairs, key=lambda pair: abs(int(first_is_said(pair).sum()) - len(pictures) // 2))
    names = [WORDS[told_apart[0 if said else 1]] for said in first_is_said(told_apart)]
    return {
        f"{('val', 'test')[index // 2 % 2]}/{name}/{index}.png": tiny.png(Image.fromarray(picture.numpy()))
        for index, (name, picture) in enumerate(zip(names, pictures, strict=True))
    }


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
