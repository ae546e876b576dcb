"""The threads that decode images. They live as long as the engine: starting threads for a request costs more."""

from __future__ import annotations

import threading

from app.serving.line import Line


class Decoders:
    """Threads that take images from a line and put them back decoded, without a detour over the event loop.

    Args:
        line: Where the images stand.
        num_threads: How many there are.
    """

    def __init__(self, line: Line, num_threads: int) -> None:
        self._line = line
        self._threads = [
            threading.Thread(target=self._run, name=f"paintbox-decode-{number}", daemon=True)
            for number in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for the threads to end, once the line is closed."""
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (taken := self._line.next_image()) is not None:
            work, index = taken
            error: Exception | None = None
            try:
                work.decode(index)
            except Exception as raised:  # an edge: whoever waits gets it, the thread lives on
                error = raised
            self._line.decoded(work, index, error)
            del taken, work, error  # or an idle thread would keep the last request in memory
