"""The load generator: closed loop (so many requests in flight, always) or open loop (arrivals that wait for nobody).

In an open loop a request's latency counts from the moment at which it was due, whether or not the generator was late in
sending it: a server that stalls is charged for everybody who came meanwhile.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Ask = Callable[[bytes], Awaitable[tuple[int, bytes]]]
"""Sends a request; gives the status and the body of its answer."""

_DRAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """One request and what became of it; times in seconds.

    Attributes:
        index: Which of the requests it was.
        due: When it was to be sent.
        sent: When it was.
        ended: When its answer was there.
        status: HTTP status; 0: none came.
    """

    index: int
    due: float
    sent: float
    ended: float
    status: int

    @property
    def latency_ms(self) -> float:
        """From when it was due to when its answer was there."""
        return 1000 * (self.ended - self.due)


@dataclass
class Load:
    """Sends requests and collects what becomes of them.

    Attributes:
        ask: Sends one.
        requests: Those to send, again and again, in an order that `seed` shuffles.
        seed: Of that order and of the arrivals.
        on_body: Told the index of a request and the body of its answer, if that has status 200.
        answers: In the order in which they came.
    """

    ask: Ask
    requests: Sequence[bytes]
    seed: int = 0
    on_body: Callable[[int, bytes], None] | None = None
    answers: list[Answer] = field(default_factory=list)

    async def closed(self, concurrency: int, seconds: float) -> None:
        """Keep `concurrency` requests in flight for so many seconds, then let the last ones end."""
        end = time.perf_counter() + seconds
        order = self._order()

        async def one_client() -> None:
            while (now := time.perf_counter()) < end:
                await self._send(next(order), now)

        await asyncio.gather(*(one_client() for _ in range(concurrency)))

    async def open(self, rate: float, seconds: float) -> None:
        """Send requests at random moments (a Poisson process), whatever becomes of earlier ones.

        Args:
            rate: Requests a second, on average.
            seconds: How long.
        """
        order, running = self._order(), set[asyncio.Task[None]]()
        start = time.perf_counter()
        for offset in arrivals(rate, seconds, self.seed):
            wait = start + offset - time.perf_counter()
            await asyncio.sleep(max(0.0, wait))  # 0 lets answers in while it is behind its schedule
            _start(self._send(next(order), start + offset), running)
        if running:
            await asyncio.wait(set(running), timeout=_DRAIN_SECONDS)
        for task in set(running):
            task.cancel()

    async def _send(self, index: int, due: float) -> None:
        sent, status = time.perf_counter(), 0
        try:
            status, body = await self.ask(self.requests[index])
            if status == 200 and self.on_body is not None:
                self.on_body(index, body)
        finally:
            self.answers.append(Answer(index, due, sent, time.perf_counter(), status))

    def _order(self) -> Iterator[int]:
        order = list(range(len(self.requests)))
        random.Random(self.seed).shuffle(order)
        return itertools.cycle(order)


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Yield the moments of a Poisson process, in seconds from its start."""
    source, moment = random.Random(seed), 0.0
    while (moment := moment + source.expovariate(rate)) < seconds:
        yield moment


def throughput(answers: Sequence[Answer], start: float, end: float) -> float:
    """Return good answers a second between the last one before `start` and the last one before `end`.

    Answers come in batches, so a window that cuts one in two would be wrong by up to a batch; from the end of one batch
    to the end of another it is exact.

    Args:
        answers: Those of a closed loop.
        start: Seconds, as `Answer` tells time.
        end: Likewise.
    """
    moments = sorted(answer.ended for answer in answers if answer.status == 200 and answer.ended <= end)
    before = sum(moment <= start for moment in moments)
    first = moments[before - 1] if before else start
    counted = moments[before:]
    return len(counted) / (counted[-1] - first) if counted else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all values do not exceed (nearest rank); NaN if there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def failures(answers: Sequence[Answer]) -> dict[str, int]:
    """Return how many answers were no good ones, by status."""
    return dict(Counter(str(answer.status) for answer in answers if answer.status != 200))


def _start(work: Coroutine[Any, Any, None], running: set[asyncio.Task[None]]) -> None:
    task = asyncio.ensure_future(work)
    running.add(task)
    task.add_done_callback(running.discard)
