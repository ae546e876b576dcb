"""The serving path of another checkout and of this one, in short bursts that alternate on one machine.

The speed of a shared machine drifts by 10 % within minutes. Bursts of a second that alternate between two servers
see the same machine, and the ratio of each pair of neighbours is hardly affected. Both servers are real processes
over HTTP. Processor time is that of the server process; wall time is that of a closed loop of clients.

    git worktree add ../before COMMIT && (cd ../before && make setup)
    python benchmarks/serving_pairs.py ../before [--model vitb32] [--rounds 20] [--loads c32,c1,x16] [--json FILE]

Without another checkout, this one is compared with itself: the ratios then show what is noise.
`c32` is 32 clients with one image each, `c1` one client, `x16` 8 clients with 16 images each, and `labels` 32 clients
with 1,000 labels instead of 10.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import _towers
from _report import Figure, parser, report
from _serving.bodies import find_photos, post_images
from _serving.client import CHECKOUT
from _serving.servers import Running, paintbox, serve

_NUM_BODIES = 40


@dataclass(frozen=True)
class Load:
    """A closed loop of clients.

    Attributes:
        clients: Number of clients.
        requests: Requests of each client per burst.
        images: Images per request.
        labels: Labels per request.
    """

    clients: int
    requests: int
    images: int = 1
    labels: int = 10

    @property
    def num_images(self) -> int:
        """Images per burst."""
        return self.clients * self.requests * self.images


_LOADS = {"c32": Load(32, 4), "c1": Load(1, 40), "x16": Load(8, 1, images=16), "labels": Load(32, 4, labels=1000)}


def main() -> None:
    """Measure and print the ratios, this checkout over the other."""
    arguments = parser(__doc__)
    arguments.add_argument("other", type=Path, nargs="?", default=CHECKOUT, help="with a .venv of its own")
    arguments.add_argument("--model", default="starter", help="starter, or a tower of _towers.py such as vitb32")
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--loads", default="c32,c1,x16", help="comma-separated")
    arguments.add_argument("--photos", type=Path, help="folder of photographs to send")
    options = arguments.parse_args()
    rounds = 6 if options.quick else options.rounds
    model = "starter" if options.model == "starter" else f"local-dir:{_towers.folder(options.model)}"
    photos, _ = find_photos(options.photos, CHECKOUT)
    names = options.loads.split(",")
    bodies = {name: _bodies(photos, _LOADS[name]) for name in names}
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        servers = [
            stack.enter_context(_start(checkout.resolve(), model, Path(scratch) / str(number)))
            for number, checkout in enumerate((options.other, CHECKOUT))
        ]
        for round_number in range(rounds + 2):  # the first two warm up
            for name in names:
                found = _pair(servers, _LOADS[name], bodies[name], starts_with=round_number % 2)
                if round_number >= 2:
                    for kind, (other, ours) in found.items():
                        samples.setdefault(f"{name}_{kind}_ratio", []).append(ours / other)
    report([figure for name, ratios in samples.items() for figure in _figures(name, ratios)], options.json)


def _figures(name: str, ratios: Sequence[float]) -> list[Figure]:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return [
        Figure(name, middle, "x", 1.05, at_most=True),
        Figure(f"{name}_quartile_1", low, "x"),
        Figure(f"{name}_quartile_3", high, "x"),
    ]


def _start(checkout: Path, model: str, folder: Path) -> AbstractContextManager[Running]:
    folder.mkdir()
    command = paintbox(folder / "data", model, str(checkout / ".venv" / "bin" / "python"))
    command = replace(command, variables={**command.variables, "PYTHONPATH": str(checkout)})
    return serve(command, folder / "log")


def _bodies(photos: Sequence[bytes], load: Load) -> list[bytes]:
    labels = json.dumps([f"label {number}" for number in range(load.labels)])
    groups = [
        [photos[(7 * start + index) % len(photos)] for index in range(load.images)] for start in range(_NUM_BODIES)
    ]
    fields = {"candidate_labels": labels, "top_k": "5"}
    return [post_images("/v1/classify", "images", group, fields) for group in groups]


def _pair(
    servers: Sequence[Running], load: Load, bodies: Sequence[bytes], starts_with: int
) -> dict[str, tuple[float, float]]:
    """Return processor and wall seconds of one burst on each server, in the servers' order."""
    cpu, wall = [0.0, 0.0], [0.0, 0.0]
    for number in (starts_with, 1 - starts_with):
        server = servers[number]
        before, start = server.cpu_seconds(), time.perf_counter()
        asyncio.run(_burst(server.port, load, bodies))
        wall[number] = time.perf_counter() - start
        cpu[number] = server.cpu_seconds() - before
    return {"cpu": (cpu[0], cpu[1]), "wall": (wall[0], wall[1])}


async def _burst(port: int, load: Load, bodies: Sequence[bytes]) -> None:
    async def run_client(client: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(load.requests):
            writer.write(bodies[(client * load.requests + number) % len(bodies)])
            await _read_answer(reader)
        writer.close()

    await asyncio.gather(*map(run_client, range(load.clients)))


async def _read_answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert b" 200 " in head.splitlines()[0], head
    length = next(line for line in head.splitlines() if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))


if __name__ == "__main__":
    main()
