"""Evaluating versions over the bare forward pass of the same images: what storing, scoring and comparing cost.

The worker's step measures one version on 10,000 images of 64 px, with everything that it stores: scores, confusion
matrix, and the predictions of each image as Parquet. The reference runs the image tower over the same decoded images
and does nothing else. Both take turns. Then one job evaluates 20 versions (or N), which decodes the images once.

    python benchmarks/evaluation.py [--quick] [--rounds N] [--versions N] [--json FILE]
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from _report import Figure, medians, parser, report
from PIL import Image

from contract.evaluations import EvaluationReport, EvaluationRequest
from contract.lineage import Lineage
from paint_core.data import decode_all
from paint_core.evaluation import encode
from paint_core.models import BaseModel, load_base
from paint_core.weights import save_task_vector
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.datasets import DatasetContent, DatasetOptions, Datasets
from registry.evaluations import Evaluations
from registry.jobs import Jobs
from registry.shards import read_shard, write_shard
from registry.versions import TermSpec, Versions
from worker.job_context import JobContext
from worker.messages import Channel
from worker.settings import WorkerSettings
from worker.steps.evaluate import evaluate

NUM_CLASSES, NUM_VERSIONS = 10, 20


class Bench:
    """A registry in a temporary folder, with one data set and as many versions as are asked for.

    Args:
        folder: Empty.
        num_images: Of the data set.
    """

    def __init__(self, folder: Path, num_images: int) -> None:
        self.settings = WorkerSettings.load(data_dir=folder)
        self.settings.make_directories()
        self.database = Database(self.settings.resolved_database_url)
        self.database.migrate()
        self.blobs = FileBlobStore(self.settings.blob_dir)
        self.base = load_base("starter")
        with self.database.write() as session:
            Versions(session).ensure_base(
                ref="starter",
                fingerprint=self.base.fingerprint,
                embed_dim=self.base.embed_dim,
                image_size=self.base.image_size,
            )
        self.shard = folder / "test.parquet"
        self.dataset = self._add_dataset(num_images)

    def _add_dataset(self, num_images: int) -> str:
        names = tuple(f"class {number}" for number in range(NUM_CLASSES))
        write_shard(self.shard, _pictures(num_images), names)
        held = {"test": {"sha256": self.blobs.put_file(self.shard), "num_images": num_images}}
        with self.database.write() as session:
            datasets = Datasets(session)
            row, _ = datasets.submit("pictures", "0" * 64, DatasetOptions())
            content = DatasetContent(names, (), held, {"test": dict.fromkeys(names, num_images // NUM_CLASSES)}, [])
            datasets.complete(row.id, content)
            return row.id

    def add_version(self, seed: int) -> int:
        """Return a new version: the base plus small random numbers."""
        generator = torch.Generator().manual_seed(seed)
        tau = {
            name: 1e-3 * torch.randn(tensor.shape, generator=generator)
            for name, tensor in self.base.visual.state_dict().items()
            if tensor.is_floating_point()
        }
        sha256 = self.blobs.put_bytes(save_task_vector(tau, {}))
        with self.database.write() as session:
            versions = Versions(session)
            versions.add_task_vector(
                sha256=sha256,
                base_fingerprint=self.base.fingerprint,
                num_bytes=1,
                relative_norm=0.01,
                job_id=f"job_{seed}",
            )
            row = versions.register(
                name="a version",
                base_fingerprint=self.base.fingerprint,
                terms=[TermSpec(sha256, 1.0)],
                probe=[],
                lineage=Lineage(),
            )
            return row.id

    def evaluate(self, versions: list[int]) -> EvaluationReport:
        """Return the report of an evaluation, done in this process."""
        with self.database.write() as session:
            request = EvaluationRequest(versions=tuple(versions), dataset=self.dataset)
            row = Evaluations(session).submit(request)
            identifier, job_id = row.id, row.job_id
            lease = Jobs(session).lease(job_id, "a benchmark", 3600)
        assert lease is not None
        channel = Channel(io.StringIO())
        evaluate(JobContext(identifier, {}, lease, self.database, self.blobs, channel, self.settings))
        with self.database.read() as session:
            return EvaluationReport.of_stored(Evaluations(session).get(identifier).report or {})


def _pictures(count: int) -> Iterator[tuple[bytes, str, int]]:
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
        yield out.getvalue(), f"{number}.jpg", number % NUM_CLASSES


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int)
    arguments.add_argument("--versions", type=int, default=NUM_VERSIONS, help="evaluated by one job")
    options = arguments.parse_args()
    num_images, rounds = (1_000, 1) if options.quick else (10_000, options.rounds or 3)
    samples: dict[str, list[float]] = {name: [] for name in ("forward", "evaluate", "decode", "whole")}
    with tempfile.TemporaryDirectory(prefix="paintbox-evaluation-") as name:
        bench = Bench(Path(name), num_images)
        images = decode_all(read_shard(bench.shard), bench.base.preprocess, ("any",) * NUM_CLASSES).images
        _forward(bench.base, images[:256])
        for number in range(rounds):
            samples["forward"].append(_seconds_of_forward(bench.base, images))
            start = time.perf_counter()
            timings = bench.evaluate([bench.add_version(number)]).timings_seconds
            samples["whole"].append(time.perf_counter() - start)
            for stage in ("decode", "evaluate"):
                samples[stage].append(timings[stage])
        many = [bench.add_version(100 + number) for number in range(2 if options.quick else options.versions)]
        together = bench.evaluate(many).timings_seconds
    seconds = medians(samples)
    print(f"starter: {num_images:,} images of 64 px, {len(many)} versions in one job")
    figures = [
        Figure("rate_over_forward", seconds["forward"] / seconds["evaluate"], "x", target=0.9),
        Figure("rate_with_decoding_over_forward", seconds["forward"] / (seconds["evaluate"] + seconds["decode"]), "x"),
        Figure("rate_with_loading_over_forward", seconds["forward"] / seconds["whole"], "x"),
        Figure(
            "decode_seconds_of_many_over_one", together["decode"] / seconds["decode"], "x", target=1.5, at_most=True
        ),
        Figure("images_per_second", num_images / seconds["evaluate"], "images/s"),
    ]
    report(figures, options.json, samples)


def _forward(base: BaseModel, images: torch.Tensor) -> torch.Tensor:
    return encode(base.visual, images, base.preprocess)


def _seconds_of_forward(base: BaseModel, images: torch.Tensor) -> float:
    start = time.perf_counter()
    _forward(base, images)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
