"""What a trainer tells its supervisor: one JSON object a line on a pipe."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from typing import IO, Any


@dataclass(frozen=True)
class Progress:
    """How far the work is: `progress` in [0, 1]; `eta_seconds` until the end, once the speed is known."""

    stage: str
    progress: float
    eta_seconds: float | None


@dataclass(frozen=True)
class Checkpoint:
    """Where a later attempt can go on from; `value` is plain data whose blobs are already stored."""

    value: dict[str, Any]


@dataclass(frozen=True)
class Note:
    """Something worth an event in the job's history."""

    message: str
    level: str = "info"
    data: dict[str, Any] | None = None


@dataclass(frozen=True)
class Failure:
    """Why the work cannot be done; trying again would not help."""

    code: str
    detail: str


Message = Progress | Checkpoint | Note | Failure
_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in (Progress, Checkpoint, Note, Failure)}


class Channel:
    """The trainer's end of the pipe.

    Args:
        pipe: A text stream that the supervisor reads.
    """

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write the message; raises BrokenPipeError when the supervisor is gone."""
        line = json.dumps([type(message).__name__, asdict(message)])
        with self._lock:
            self._pipe.write(line + "\n")
            self._pipe.flush()


def parse_message(line: str) -> Message:
    """Return the message that a line holds."""
    kind, fields = json.loads(line)
    return _KINDS[kind](**fields)
