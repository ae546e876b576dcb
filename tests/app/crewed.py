"""A line with a crew behind it, as the engine has one, for works that come without an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from app.serving.crews import CoreCrew, Crew, DeviceCrew
from app.serving.line import Line, Pace
from app.serving.model import ServedModel
from app.serving.work import Answer, Work


@dataclass(frozen=True)
class Crewed:
    """Threads at work.

    Attributes:
        line: What they take from.
        crew: They.
    """

    line: Line
    crew: Crew

    def submit(self, model: ServedModel, images: Tensor, *, spare: bool = False) -> Future[Answer]:
        """Return what will hold the features of images [B, S, S, 3]."""
        work = Work(model, images.numpy(), is_spare=spare)
        self.line.put(work)
        return work.answer

    def close(self) -> None:
        """Finish what is there, then end."""
        self.line.close()
        self.crew.join()


@contextmanager
def open_crew(pace: Pace) -> Iterator[Crewed]:
    """Threads that work at a pace: one for each core that is shared, or two for a device apart."""
    line = Line(pace)
    crewed = Crewed(line, CoreCrew(line, pace.shared_cores) if pace.shared_cores else DeviceCrew(line, 1))
    try:
        yield crewed
    finally:
        crewed.close()
