"""A trainer that is asked to stop during fine-tuning saves a checkpoint first; otherwise it just ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class Parting:
    """Records SIGTERM in `asked` while the context lasts, instead of ending the process at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None
        self._listens = False

    def __enter__(self) -> Self:
        self._listens = threading.current_thread() is threading.main_thread()
        if self._listens:
            self._before = signal.signal(signal.SIGTERM, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        if self._listens:
            signal.signal(signal.SIGTERM, self._before)

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
