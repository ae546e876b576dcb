"""Swaps under load: does any request fail, is any answer mixed, does anybody wait longer, does memory grow."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from _serving.client import Measured, Plan, finish, run, start
from _serving.load import percentile
from _serving.mixed import Cosines
from _serving.servers import Running
from _serving.versions import Service

_SETTLE_SECONDS = 2.0
_STEADY_SECONDS = 12.0


@dataclass(frozen=True)
class Swapped:
    """What swapping did in one round.

    Attributes:
        steady: Clients before and after, without a swap.
        swapping: The client while versions were swapped.
        seconds: Of each swap.
        statuses: Of the answers to the swaps that were not 200.
        resident: Memory in bytes after each swap.
    """

    steady: tuple[Measured, Measured]
    swapping: Measured
    seconds: list[float]
    statuses: list[int]
    resident: list[int]

    @property
    def num_failed(self) -> int:
        """Requests and swaps that were not answered with 200."""
        clients = (*self.steady, self.swapping)
        return len(self.statuses) + sum(sum(client.failed.values()) for client in clients)

    @property
    def num_mixed(self) -> int:
        """Answers that came from other weights than they said."""
        return sum(client.verdicts.get("mixed", 0) for client in (*self.steady, self.swapping))

    @property
    def steady_p99(self) -> float:
        """99th percentile in ms without swaps, before and after taken together."""
        return percentile([latency for client in self.steady for latency in client.latencies_ms], 0.99)

    @property
    def p99_over_steady(self) -> float:
        """What swapping did to the 99th percentile; 1: nothing."""
        return self.swapping.p99 / self.steady_p99


def megabytes_per_100_swaps(rounds: Sequence[Swapped]) -> float:
    """Return the slope of a straight line through the memory after the first quarter of all swaps: caches are full."""
    resident = [each for swapped in rounds for each in swapped.resident]
    later = resident[len(resident) // 4 :]
    slope, _ = np.polyfit(np.arange(len(later)), later, 1)
    return float(100 * slope / 1e6)


def swap(
    server: Running,
    service: Service,
    plan: Plan,
    versions: tuple[int, int],
    num_swaps: int,
    interval: float,
) -> Swapped:
    """Swap two versions in turn under the plan's load, one swap an interval.

    Args:
        server: The server.
        service: The same one.
        plan: The load, without its duration.
        versions: The versions.
        num_swaps: How many swaps.
        interval: Seconds from one to the next; a swap that takes longer makes the next one late.

    Returns:
        What it did to those who asked.
    """
    steady_seconds = min(_STEADY_SECONDS, num_swaps * interval)
    steady = dataclasses.replace(plan, seconds=steady_seconds, concurrency=None)
    before = run(steady)
    swapping = dataclasses.replace(steady, seconds=num_swaps * interval, seed=plan.seed + 1)
    seconds: list[float] = []
    statuses: list[int] = []
    resident: list[int] = []
    with start(swapping) as client:
        begun = time.perf_counter() + swapping.warm_up + _SETTLE_SECONDS
        for index, version in enumerate(itertools.islice(itertools.cycle(versions), num_swaps)):
            time.sleep(max(0.0, begun + index * interval - time.perf_counter()))
            asked = time.perf_counter()
            status = service.activate(version)
            seconds.append(time.perf_counter() - asked)
            resident.append(server.resident_bytes())
            if status != 200:
                statuses.append(status)
        during = finish(client)
    after = run(dataclasses.replace(steady, seed=plan.seed + 2))
    return Swapped((before, after), during, seconds, statuses, resident)


def expected_cosines(
    service: Service, versions: Sequence[int], photos: Sequence[bytes], labels: Sequence[str]
) -> dict[str, list[Cosines]]:
    """Return what each version says of each photograph, asked one by one while it alone is served."""
    found: dict[str, list[Cosines]] = {}
    for version in versions:
        if service.activate(version) != 200:
            raise SystemExit(f"version {version} could not be made active")
        found[str(version)] = list(service.cosines(photos, labels))
    return found
