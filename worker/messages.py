"""Messages of a trainer to its supervisor: one JSON object per line on a pipe."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from contract.job_events import EventData

MAX_LINE_BYTES = 16 << 20
_KNOWN_FIELDS = ConfigDict(extra="forbid")


class MessageError(ValueError):
    """A trainer sent something that is not a message."""


@checked_dataclass(frozen=True, config=_KNOWN_FIELDS)
class Progress:
    """How far the work is: `progress` in [0, 1]; `eta_seconds` until the end, once the speed is known."""

    stage: str
    progress: float
    eta_seconds: float | None


@checked_dataclass(frozen=True, config=_KNOWN_FIELDS)
class Checkpoint:
    """The point from which a later attempt resumes; `value` is plain data whose blobs are already stored."""

    value: dict[str, Any]


@checked_dataclass(frozen=True, config=_KNOWN_FIELDS)
class Note:
    """Something worth an event in the job's history."""

    message: str
    level: str = "info"
    data: dict[str, Any] | None = None

    @classmethod
    def of(cls, data: EventData) -> Note:
        """Return the note of an event of a known kind."""
        return cls(data.MESSAGE, data.LEVEL, data.to_json())


@dataclass(frozen=True)
class Alive:
    """The trainer is at work, but has nothing to report."""


@checked_dataclass(frozen=True, config=_KNOWN_FIELDS)
class Failure:
    """Why the work cannot be done; trying again would not help."""

    code: str
    detail: str


@checked_dataclass(frozen=True, config=_KNOWN_FIELDS)
class Setback:
    """Something that the work needs is unavailable; the job is retried after a pause."""

    cause: Literal["disk_full", "store_unavailable"]
    detail: str


Message = Progress | Checkpoint | Note | Alive | Failure | Setback
_KINDS: Mapping[str, TypeAdapter[Any]] = {
    kind.__name__: TypeAdapter(kind) for kind in (Progress, Checkpoint, Note, Alive, Failure, Setback)
}


class Channel:
    """The trainer's end of the pipe, a text stream that the supervisor reads."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Write the message; raises BrokenPipeError when the supervisor is gone."""
        line = json.dumps([type(message).__name__, asdict(message)])
        with self._lock:
            self._pipe.write(line + "\n")
            self._pipe.flush()


def parse_message(line: str | bytes) -> Message:
    """Return the message in a line.

    Raises:
        MessageError: The line does not hold a message.
    """
    try:
        kind, fields = json.loads(line)
        message: Message = _KINDS[kind].validate_python(fields)
    except (ValueError, TypeError, KeyError, RecursionError, ValidationError) as error:
        raise MessageError(f"{type(error).__name__} in a line of {len(line)} bytes") from error
    return message
