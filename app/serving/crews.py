"""The threads of the engine. They live as long as it does: starting threads for a request costs more.

Two crews: on a CPU each core decodes or forwards, whichever is next; a GPU has one thread that owns it, and others
decode for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from app.serving.cores import take_cores
from app.serving.forwarding import Flight, land, launch
from app.serving.health import Health
from app.serving.line import Decoding, Forwarding, Line


class Crew(Protocol):
    """Threads that take from a line until it is closed."""

    def join(self) -> None:
        """Wait for them to end, once the line is closed."""


class CoreCrew:
    """One thread a core: it forwards a batch if one may leave, and decodes an image if not.

    Each forwards by itself, so none of its layers waits for another thread. What is worth more cores than one gets them
    when the others have nothing to do, in a thread that has helpers (`app.serving.cores`).

    Args:
        line: Where the works stand; its pace shares as many cores.
        num_cores: How many threads.
        on_batch: Told the number of images of each forward.
        health: Told how each forward went.
    """

    def __init__(
        self, line: Line, num_cores: int, on_batch: Callable[[int], object] = int, health: Health | None = None
    ) -> None:
        self._line = line
        self._on_batch = on_batch
        self._health = health or Health()
        self._shared = ThreadPoolExecutor(1, thread_name_prefix="paintbox-cores")
        self._threads = _start([self._run] * num_cores, "paintbox-core")

    def join(self) -> None:
        """Wait for the threads to end, once the line is closed."""
        _join(self._threads)
        self._shared.shutdown()

    def _run(self) -> None:
        take_cores(1)
        while (step := self._line.next_step()) is not None:
            if isinstance(step, Decoding):
                _decode(self._line, step)
            elif step.num_cores == 1:
                self._forward(step)
            else:
                self._shared.submit(self._forward_shared, step).result()
            del step  # or an idle thread would keep the last request and its model in memory

    def _forward(self, step: Forwarding) -> None:
        if (flight := launch(step.batch, self._on_batch, self._health)) is not None:
            land(flight, self._health)
        self._line.forwarded(step)

    def _forward_shared(self, step: Forwarding) -> None:
        take_cores(step.num_cores)
        self._forward(step)


class DeviceCrew:
    """One thread that owns the device, and threads that decode for it.

    It takes the next batch whenever the device is free; under load the line fills while the device works, so batches
    grow by themselves. Where the runner can do it, it works two deep: while the device computes a batch, the next one
    is put together and sent.

    Args:
        line: Where the works stand.
        decode_threads: How many threads decode.
        on_batch: Told the number of images of each forward.
        health: Told how each forward went.
    """

    def __init__(
        self, line: Line, decode_threads: int, on_batch: Callable[[int], object] = int, health: Health | None = None
    ) -> None:
        self._line = line
        self._on_batch = on_batch
        self._health = health or Health()
        self._threads = [
            *_start([self._forward], "paintbox-forward"),
            *_start([self._decode] * decode_threads, "paintbox-decode"),
        ]

    def join(self) -> None:
        """Wait for the threads to end, once the line is closed."""
        _join(self._threads)

    def _decode(self) -> None:
        while (image := self._line.next_image()) is not None:
            _decode(self._line, image)
            del image  # as below

    def _forward(self) -> None:
        flight: Flight | None = None
        while True:
            batch = self._line.next_batch(wait=flight is None)
            if batch is None and flight is None:
                return
            started = launch(batch, self._on_batch, self._health) if batch is not None else None
            if flight is not None:
                land(flight, self._health)
            flight = started
            if flight is not None and flight.batch[0][0].model.runner.depth == 1:
                land(flight, self._health)
                flight = None
            del batch, started  # or an idle thread would keep the last model in memory


def _decode(line: Line, image: Decoding) -> None:
    error: Exception | None = None
    try:
        image.work.decode(image.index)
    except Exception as raised:  # an edge: whoever waits gets it, the thread lives on
        error = raised
    line.decoded(image, error)


def _start(tasks: Sequence[Callable[[], None]], name: str) -> list[threading.Thread]:
    threads = [threading.Thread(target=task, name=f"{name}-{number}", daemon=True) for number, task in enumerate(tasks)]
    for thread in threads:
        thread.start()
    return threads


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
