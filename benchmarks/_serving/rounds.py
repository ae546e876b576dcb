"""What is measured of each model, in turns, and what comes out of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from _serving.bound import Job
from _serving.client import Measured
from _serving.lineup import LOWER, TOP_K, Lineup, single
from _serving.load import percentile
from _serving.versions import Service

PAINTBOX = "paintbox"
MANY_LABELS = tuple(f"label {index}" for index in range(1000))
IMAGES_A_REQUEST = 16
_OPEN_SHARE = 0.7


@dataclass(frozen=True)
class Lengths:
    """How long to measure.

    Attributes:
        rounds: Turns.
        busy: Seconds at concurrency 32, and of the bound.
        calm: Seconds at concurrency 8 and 1.
        open: Seconds of the open loop.
    """

    rounds: int
    busy: float
    calm: float
    open: float


@dataclass
class Measurements:
    """All measurements of one model, each a list with one entry a round.

    Attributes:
        bound: Images a second of the bound, by `32`, `32 overlapping` and `32 whole JPEG`.
        image_ms: Milliseconds of one image in the bound, at batch 1.
        clients: By server and load.
    """

    bound: dict[str, list[float]] = field(default_factory=dict)
    image_ms: list[float] = field(default_factory=list)
    clients: dict[tuple[str, str], list[Measured]] = field(default_factory=dict)

    @property
    def bound_per_second(self) -> float:
        """Images a second of the bound: the better of decoding before the forward and beside it."""
        return max(statistics.median(self.bound[way]) for way in ("32", "32 overlapping"))

    @property
    def bound_image_ms(self) -> float:
        """Milliseconds of the bound for one image by itself."""
        return statistics.median(self.image_ms)

    def per_second(self, server: str, load: str) -> float:
        """Median images a second."""
        return statistics.median(client.images_per_second for client in self.clients[server, load])

    def latency_ms(self, server: str, load: str, share: float) -> float:
        """Percentile of the latencies of all rounds."""
        found = self.clients[server, load]
        return percentile([latency for client in found for latency in client.latencies_ms], share)

    def best_peer(self, load: str, *, lower: bool) -> str | None:
        """The peer with the most images a second, with those in a lower precision or without; None: there is none."""
        peers = [
            server
            for server, which in self.clients
            if which == load and server != PAINTBOX and (lower or not server.endswith(LOWER))
        ]
        return None if not peers else max(peers, key=lambda server: self.per_second(server, load))


def measure(lineup: Lineup, lengths: Lengths, *, is_starter: bool) -> Measurements:
    """Measure everything in turns.

    Args:
        lineup: The servers.
        lengths: How long.
        is_starter: Whether to measure 16 images a request and 1,000 labels, too.
    """
    found = Measurements()
    for _ in range(lengths.rounds):
        _measure_bound(lineup, lengths, found)
        for name in lineup.servers:
            for load, concurrency in (("c32", 32), ("c8", 8), ("c1", 1)):
                seconds = lengths.busy if load == "c32" else lengths.calm
                _add(found, name, load, lineup.measure(name, single(concurrency, seconds)))
            if is_starter and name == PAINTBOX:
                _measure_ours(lineup, lengths, found)
    for name in lineup.servers:
        rate = _OPEN_SHARE * found.per_second(name, "c32")
        if rate == 0:
            print(f"  {name} answered nothing at concurrency 32, so no open loop", flush=True)
            continue
        _add(found, name, "open 70 %", lineup.measure(name, single(None, lengths.open, rate=rate)))
    return found


def _measure_bound(lineup: Lineup, lengths: Lengths, found: Measurements) -> None:
    ways = {
        "32": Job(32, lengths.busy),
        "32 overlapping": Job(32, lengths.busy, overlap=True),
        "32 whole JPEG": Job(32, lengths.calm, reduced=False),
    }
    for way, job in ways.items():
        found.bound.setdefault(way, []).append(lineup.measure_bound(job).images_per_second)
    found.image_ms.append(lineup.measure_bound(Job(1, lengths.calm)).batch_ms)


def _measure_ours(lineup: Lineup, lengths: Lengths, found: Measurements) -> None:
    usual = single(32, lengths.busy)
    stored = {"label_set": _store_labels(lineup, MANY_LABELS), "top_k": str(TOP_K)}
    plans = {
        "c32, 16 images": replace(usual, images=IMAGES_A_REQUEST),
        "c32, image as body": replace(usual, is_raw=True),
        "c32, 1000 labels": single(32, lengths.busy, labels=MANY_LABELS),
        "c32, 1000 stored": replace(usual, fields=stored),
    }
    for load, plan in plans.items():
        _add(found, PAINTBOX, load, lineup.measure(PAINTBOX, plan))


def _store_labels(lineup: Lineup, labels: Sequence[str]) -> str:
    server = lineup.servers[PAINTBOX]
    server.go_on()
    with Service(server.port) as service:
        identifier = service.store_labels(labels)
    server.pause()
    return identifier


def _add(found: Measurements, server: str, load: str, measured: Measured) -> None:
    if measured.failed:
        print(f"  {server}, {load}: FAILED requests by status {measured.failed}", flush=True)
    found.clients.setdefault((server, load), []).append(measured)


def table(found: Measurements) -> Iterator[str]:
    """Yield the lines of a table of all measurements."""
    for way, values in found.bound.items():
        yield f"  {'bound':10} batch {way:18} {statistics.median(values):8.1f} images/s  {_spread(values)}"
    yield f"  {'bound':10} batch 1, one after another {found.bound_image_ms:8.2f} ms an image"
    for (server, load), clients in found.clients.items():
        speeds = [client.images_per_second for client in clients]
        p50, p99 = (found.latency_ms(server, load, share) for share in (0.5, 0.99))
        client_ms = statistics.median(client.client_ms for client in clients)
        line = f"  {server:10} {load:18} {statistics.median(speeds):8.1f} images/s  {_spread(speeds):18}"
        yield f"{line} p50 {p50:8.1f} ms  p99 {p99:8.1f} ms  client {client_ms:.2f} ms a request"


def _spread(values: list[float]) -> str:
    return f"({min(values):.1f} to {max(values):.1f})"
