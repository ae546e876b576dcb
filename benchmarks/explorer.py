"""How soon the alpha explorer answers: 10,000 validation images of three tasks, over HTTP.

A real server on a real socket with a made-up patch of the starter's width, seven nodes and 30 classes a task. A move of
the slider sends both requests of the page: the accuracies at an alpha, and the images that change against alpha 0. The
time is the client's, one request after the other.

    python benchmarks/explorer.py [--quick] [--json FILE]
"""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path

import httpx2
import numpy as np
import torch
from _report import Figure, medians, parser, report
from lists import serve

from app.runtime.logs import set_up_logging
from contract.patch_request import PatchRequest
from paint_core.alpha import FeatureCurve
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.datasets import DatasetContent, DatasetOptions, Datasets
from registry.patches import Patches
from registry.shards import write_shard

NUM_IMAGES, NUM_TASKS, NUM_CLASSES, WIDTH = 10_000, 3, 30, 192
NODES = (0.0, 0.15, 0.35, 0.4, 0.55, 0.85, 1.0)
MOST_MILLISECONDS = 50.0
SPLITS = ("train", "validation", "test")


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    set_up_logging("WARNING")
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as (url, database):
        patch, task = make_patch(database, FileBlobStore(Path(folder) / "blobs"), Path(folder))
        alphas = np.random.default_rng(0).uniform(0, 1, 20 if options.quick else 200).round(2)
        with httpx2.Client(base_url=url, trust_env=False) as http:
            move(http, patch, task, 0.5)  # which loads the features
            samples = {"curve": [], "changes": []}
            for alpha in alphas:
                for name, seconds in move(http, patch, task, float(alpha)).items():
                    samples[name].append(seconds)
    both = [sum(pair) for pair in zip(*samples.values(), strict=True)]
    seconds = medians({**samples, "move": both})
    figures = [Figure("move_milliseconds", 1000 * seconds["move"], "ms", MOST_MILLISECONDS, at_most=True)]
    figures += [Figure(f"{name}_milliseconds", 1000 * seconds[name], "ms") for name in samples]
    report(figures, options.json, {**samples, "move": both})


def move(http: httpx2.Client, patch: str, task: str, alpha: float) -> dict[str, float]:
    """Return the seconds of each request that a move of the slider to an alpha sends."""
    found = {}
    for name, query in {"curve": {"alpha": alpha}, "changes": {"to": alpha, "task": task, "limit": 24}}.items():
        started = time.perf_counter()
        http.get(f"/v1/patches/{patch}/{name}", params=query).raise_for_status().json()
        found[name] = time.perf_counter() - started
    return found


def make_patch(database: Database, blobs: FileBlobStore, folder: Path) -> tuple[str, str]:
    """Put a finished patch with an interpolant into the database, and return its id and that of its first task."""
    sizes = [NUM_IMAGES // NUM_TASKS + (index < NUM_IMAGES % NUM_TASKS) for index in range(NUM_TASKS)]
    tasks = [_add_dataset(database, blobs, folder, size) for size in sizes]
    curve = _made_up(dict(zip(tasks, sizes, strict=True)))
    sha256 = blobs.put_bytes(curve.to_bytes())
    with database.write() as session:
        request = PatchRequest(name="a patch", tasks=tuple(tasks[:1]), supported=tuple(tasks[1:]))
        row = Patches(session).submit(request, "starter")
        stage = {
            "key": f"task:{tasks[0]}",
            "rule": "combined",
            "alpha": 1.0,
            "profile": "flat",
            "reason": "",
            "patching": tasks[:1],
            "supported": tasks[1:],
            "curves": {"flat": []},
        }
        row.report = {"alpha": 1.0, "reason": "", "stages": [stage], "tasks": [], "interpolants": {"flat": sha256}}
        row.version_id = 1
        return row.id, tasks[0]


def _add_dataset(database: Database, blobs: FileBlobStore, folder: Path, num_images: int) -> str:
    path = folder / "validation.parquet"
    names = tuple(f"class {number}" for number in range(NUM_CLASSES))
    write_shard(path, ((b"", f"{index}.png", index % NUM_CLASSES) for index in range(num_images)), names)
    shards = {split: {"sha256": blobs.put_file(path), "num_images": num_images} for split in SPLITS}
    with database.write() as session:
        datasets = Datasets(session)
        row, _ = datasets.submit("pictures", secrets.token_hex(32), DatasetOptions())
        counts = {split: dict.fromkeys(names, num_images // NUM_CLASSES) for split in SPLITS}
        datasets.complete(row.id, DatasetContent(names, (), shards, counts, []))
        return row.id


def _made_up(sizes: dict[str, int]) -> FeatureCurve:
    """Return features that move from one random place to another near it, so that some answers change."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    ends = {name: (draw(count, WIDTH), draw(count, WIDTH)) for name, count in sizes.items()}
    return FeatureCurve(
        nodes=NODES,
        features={name: torch.stack([first + 0.3 * a * last for a in NODES]) for name, (first, last) in ends.items()},
        labels={name: torch.arange(count) % NUM_CLASSES for name, count in sizes.items()},
        heads={name: torch.nn.functional.normalize(draw(NUM_CLASSES, WIDTH), dim=1) for name in sizes},
        classnames={name: tuple(f"class {number}" for number in range(NUM_CLASSES)) for name in sizes},
        logit_scale=100.0,
    )


if __name__ == "__main__":
    main()
