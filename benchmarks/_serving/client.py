"""The client process: `python -m _serving.client < plan.json` loads a server and prints what it measured as JSON.

A process of its own, so that its event loop never waits for ours; it imports neither torch nor numpy. What it costs the
cores that it shares with the server is measured and told.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvloop

from _serving.bodies import find_photos, group, post, post_images
from _serving.connections import Connections
from _serving.load import Answer, Load, failures, percentile, throughput
from _serving.mixed import Judge

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Plan:
    """What to send, where, and how fast.

    Attributes:
        port: Where the server listens.
        path: Path of the URL.
        image_field: Name of the form's field that holds the images.
        fields: Its other fields.
        photos: Folder of photographs; None: the default.
        images: Images a request.
        is_raw: Whether the image itself is the body, with all else in the query; then `images` is 1.
        concurrency: Requests in flight in a closed loop; None: an open one.
        rate: Requests a second in an open loop.
        seconds: How long to measure.
        warm_up: Seconds before that.
        seed: Of order and arrivals.
        expected: For `Judge`: cosines by label, by version and photograph; None: answers are not looked at.
    """

    port: int
    path: str
    image_field: str = "images"
    fields: Mapping[str, str] = field(default_factory=dict)
    photos: str | None = None
    images: int = 1
    is_raw: bool = False
    concurrency: int | None = None
    rate: float = 0.0
    seconds: float = 10.0
    warm_up: float = 2.0
    seed: int = 0
    expected: Mapping[str, list[dict[str, float]]] | None = None


@dataclass(frozen=True)
class Measured:
    """What a client measured.

    Attributes:
        images_per_second: Good answers times images a request.
        latencies_ms: Of good answers after the warm-up.
        failed: Other answers by status, those of the warm-up among them; 0: none came.
        client_ms: Processor time of the client a request.
        late_ms: 99th percentile of how late the client sent a request of an open loop.
        verdicts: What `Judge` found.
    """

    images_per_second: float
    latencies_ms: list[float]
    failed: dict[str, int]
    client_ms: float
    late_ms: float
    verdicts: dict[str, int]

    @property
    def p50(self) -> float:
        """Median latency in ms."""
        return percentile(self.latencies_ms, 0.5)

    @property
    def p99(self) -> float:
        """99th percentile of latency in ms."""
        return percentile(self.latencies_ms, 0.99)


def run(plan: Plan) -> Measured:
    """Return what a client process measures."""
    with start(plan) as process:
        return finish(process)


def start(plan: Plan) -> subprocess.Popen[str]:
    """Return a client process that has its plan; `finish` waits for it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "_serving.client"],
        cwd=CHECKOUT / "benchmarks",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(plan)))
    process.stdin.close()
    return process


def finish(process: subprocess.Popen[str]) -> Measured:
    """Return what the client measured, once it has ended."""
    assert process.stdout is not None
    told = process.stdout.read()
    if process.wait() != 0:
        raise SystemExit("the client failed; what it wrote is above")
    return Measured(**json.loads(told))


def measure(plan: Plan) -> Measured:
    """Load the server as planned, in this process."""
    photos, _ = find_photos(Path(plan.photos) if plan.photos else None, CHECKOUT)
    requests = [_encode(plan, images) for images in group(photos, plan.images)]
    judge = Judge(plan.expected or {})
    return uvloop.run(_measure(plan, requests, judge))


def _encode(plan: Plan, images: Sequence[bytes]) -> bytes:
    if plan.is_raw:
        return post(f"{plan.path}?{urlencode(plan.fields)}", "image/jpeg", images[0])
    return post_images(plan.path, plan.image_field, images, plan.fields)


async def _measure(plan: Plan, requests: list[bytes], judge: Judge) -> Measured:
    connections = Connections(plan.port)
    load = Load(connections.ask, requests, plan.seed, judge.look if plan.expected else None)
    start, cpu = time.perf_counter(), time.process_time()
    whole = plan.warm_up + plan.seconds
    if plan.concurrency is None:
        await load.open(plan.rate, whole)
    else:
        await load.closed(plan.concurrency, whole)
    cpu = time.process_time() - cpu
    connections.close()
    await asyncio.sleep(0)
    return _sum_up(plan, load.answers, start + plan.warm_up, start + whole, cpu, judge)


def _sum_up(plan: Plan, answers: list[Answer], start: float, end: float, cpu: float, judge: Judge) -> Measured:
    good = [answer for answer in answers if answer.status == 200]
    is_open = plan.concurrency is None
    counted = [answer for answer in good if start <= (answer.due if is_open else answer.ended) <= end]
    late = [1000 * (answer.sent - answer.due) for answer in counted]
    return Measured(
        images_per_second=plan.images * throughput(answers, start, end),
        latencies_ms=[round(answer.latency_ms, 3) for answer in counted],
        failed=failures(answers),
        client_ms=1000 * cpu / max(1, len(answers)),
        late_ms=percentile(late, 0.99) if late else 0.0,
        verdicts=dict(judge.verdicts),
    )


def main() -> None:
    """Read a plan, measure, print."""
    plan: dict[str, Any] = json.load(sys.stdin)
    json.dump(asdict(measure(Plan(**plan))), sys.stdout)


if __name__ == "__main__":
    main()
