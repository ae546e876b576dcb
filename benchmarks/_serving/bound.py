"""The bound: decode, preprocess, forward and scores of the same images in one process with all cores, without HTTP.

`python -m _serving.bound MODEL PHOTOS` loads a model, says `ready`, and then measures once for each line of JSON that
it is given. It runs the code that Paintbox serves with: the same decoder, the same tower, the same scores.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from _serving.bodies import find_photos
from _serving.client import CHECKOUT


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        batch: Images a forward.
        seconds: How long.
        reduced: Whether large JPEGs may be decoded at a fraction of their size, as Paintbox serves.
        overlap: Whether the next batch is decoded while one is in the tower.
    """

    batch: int
    seconds: float
    reduced: bool = True
    overlap: bool = False


@dataclass(frozen=True)
class Bound:
    """What was measured.

    Attributes:
        images_per_second: Over the whole time.
        batch_ms: Median milliseconds of a batch, one after the other; of one image if that is the batch.
    """

    images_per_second: float
    batch_ms: float


class Process:
    """A bound process that has its model loaded.

    Args:
        process: Speaks JSON lines.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._system = psutil.Process(process.pid)
        self._told()  # "ready"

    def measure(self, job: Job) -> Bound:
        """Return what it measures."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(job)) + "\n")
        self._process.stdin.flush()
        return Bound(**json.loads(self._told()))

    def pause(self) -> None:
        """Hold it still."""
        self._system.suspend()

    def go_on(self) -> None:
        """Let it run again."""
        self._system.resume()

    def _told(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the bound's process ended; what it wrote is above")
        return line


@contextmanager
def open_bound(model: str, photos: str | None) -> Iterator[Process]:
    """Start a bound process and yield it.

    Args:
        model: Reference of the model.
        photos: Folder of photographs; None: the default.

    Yields:
        Process: It is stopped when the context ends.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "_serving.bound", model, photos or ""],
        cwd=CHECKOUT / "benchmarks",
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Process(process)
    finally:
        process.kill()
        process.wait()


class _Pipeline:
    """Bytes to scores, by the code that serves."""

    def __init__(self, model: str, labels: Sequence[str]) -> None:

        from app.models.served_model import ServedModel
        from paint_core.models import build_head, load_base

        base = load_base(model)
        self._served = ServedModel(1, base, base.visual)
        self._head = build_head(base, labels, base.default_templates)
        self._num_threads = len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._num_threads)

    def decode(self, images: Sequence[bytes], reduced: bool) -> list[Future[object]]:
        """Start decoding."""
        decode = self._served.base.preprocess.decode
        return [self._pool.submit(decode, image, reduced=reduced) for image in images]

    def finish(self, decoded: Sequence[Future[object]]) -> None:
        """Forward and score."""
        import torch

        from app.inference.scoring import scores
        from paint_core.models.heads import logits

        pixels = torch.stack([torch.from_numpy(each.result()) for each in decoded])
        cosines = logits(self._served.encode(pixels), self._head, 1.0)
        scores(cosines.numpy(), self._served.base.logit_scale, self._served.base.logit_bias, multi_label=False).tolist()


def measure(pipeline: _Pipeline, photos: Sequence[bytes], job: Job) -> Bound:
    """Return what one job measures."""
    source = itertools.cycle(photos)

    def next_batch() -> list[Future[object]]:
        return pipeline.decode([next(source) for _ in range(job.batch)], job.reduced)

    run = _overlapping if job.overlap else _alternating
    steps = run(next_batch, pipeline.finish)
    for _ in range(2):
        next(steps)
    start, ends = time.perf_counter(), [time.perf_counter()]
    while ends[-1] - start < job.seconds:
        next(steps)
        ends.append(time.perf_counter())
    spans = [1000 * (later - earlier) for earlier, later in itertools.pairwise(ends)]
    return Bound(job.batch * len(spans) / (ends[-1] - start), statistics.median(spans))


def _alternating(
    next_batch: Callable[[], list[Future[object]]], finish: Callable[[list[Future[object]]], None]
) -> Iterator[None]:
    while True:
        finish(next_batch())
        yield


def _overlapping(
    next_batch: Callable[[], list[Future[object]]], finish: Callable[[list[Future[object]]], None]
) -> Iterator[None]:
    coming = next_batch()
    while True:
        batch, coming = coming, next_batch()
        finish(batch)
        yield


def main() -> None:
    """Load, then measure for each line."""
    from paint_core.runtime.allocator import keep_freed_memory

    keep_freed_memory()  # the bound is to be as fast as can be
    photos, _ = find_photos(Path(sys.argv[2]) if sys.argv[2] else None, CHECKOUT)
    pipeline = _Pipeline(sys.argv[1], [f"label {index}" for index in range(10)])
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(measure(pipeline, photos, Job(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    main()
