"""Mixing a large image tower with five task vectors: time against the memory's bandwidth, and the memory it takes.

A ViT-L/14 (random weights, about 1.2 GB) and five task vectors of its size in safetensors files, which stay in the
files and are read tensor by tensor. The bound is a pass that moves the same bytes and does nothing else: it copies the
base into new tensors and adds up each task vector, from files opened afresh. Both take turns. Mixing passes over each
number of a task vector twice, since it multiplies and adds with two roundings; the second pass is in the cache.

Memory is measured in a process of its own: how much its anonymous memory grows while mixing, at the peak, over the
least that it must, which is the result and one tensor. The files' pages do not count: they are the kernel's cache.

    python benchmarks/mixing.py [--quick] [--json FILE]

Needs about 8 GB of disk and, for files that stay in the cache, 11 GB of memory; `--quick` (ViT-B/32) a third of it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import open_clip
import safetensors.torch
import torch
from _report import Figure, measure, medians, parser, report
from torch import Tensor

from paint_core.weights import StoredTaskVector, Term, mix

NUM_VECTORS = 5
COEFFICIENTS = (0.3, 0.25, 0.2, 0.15, 0.1)
SAMPLING_SECONDS = 0.002


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--child", type=Path, help="only mix what lies in this folder, and say what memory it took")
    options = arguments.parse_args()
    if options.child:
        sys.stdout.write(json.dumps(memory_growth(options.child)))
        return
    with tempfile.TemporaryDirectory(prefix="paintbox-mixing-") as name:
        folder, model = Path(name), "ViT-B-32" if options.quick else "ViT-L-14"
        num_bytes = write_weights(folder, model)
        samples = time_rounds(folder, rounds=3 if options.quick else 7)
        command = [sys.executable, __file__, "--child", str(folder)]
        grown, least = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    seconds = medians(samples)
    moved = (NUM_VECTORS + 2) * num_bytes  # the base is read, the result is written
    figures = [
        Figure("time_over_bandwidth_bound", seconds["mix"] / seconds["bound"], "x", target=1.25, at_most=True),
        Figure("peak_over_minimum", grown / least, "x", target=1.05, at_most=True),
        Figure("mixing_gigabytes_per_second", moved / seconds["mix"] / 1e9, "GB/s"),
    ]
    print(f"{model}: {num_bytes / 1e9:.2f} GB, {NUM_VECTORS} task vectors")
    report(figures, options.json, samples)


def write_weights(folder: Path, model: str) -> int:
    """Return the bytes of the tower; its random weights and task vectors go into the folder."""
    config = open_clip.get_model_config(model)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in open_clip.CLIP(**config).visual.state_dict().items()}
    num_bytes = sum(4 * shape.numel() for shape in shapes.values())
    free = shutil.disk_usage(folder).free
    if free < 1.1 * (NUM_VECTORS + 1) * num_bytes:
        sys.exit(f"{folder} has {free / 1e9:.1f} GB free, which is too little: set TMPDIR to a larger disk")
    for index in range(NUM_VECTORS + 1):
        generator = torch.Generator().manual_seed(index)
        tensors = {name: 0.02 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        safetensors.torch.save_file(tensors, folder / f"{index}.safetensors")
    return num_bytes


def load(folder: Path) -> dict[str, Tensor]:
    """Return the base in memory of its own, as a loaded model holds it."""
    return {name: t.clone() for name, t in safetensors.torch.load_file(folder / "0.safetensors").items()}


def task_vectors(folder: Path, base: Mapping[str, Tensor]) -> list[StoredTaskVector]:
    """Return the task vectors, still in their files."""
    return [StoredTaskVector(folder / f"{index + 1}.safetensors", base) for index in range(NUM_VECTORS)]


def time_rounds(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of mixing and of the bound, after a first round that warms the files' cache."""
    base = load(folder)
    ways = {"bound": partial(move_the_bytes, folder, base), "mix": partial(mix_files, folder, base)}
    measure(ways, 1)
    return measure(ways, rounds)


def mix_files(folder: Path, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mix."""
    pairs = zip(task_vectors(folder, base), COEFFICIENTS, strict=True)
    return mix(base, [Term(tau, coefficient) for tau, coefficient in pairs])


def move_the_bytes(folder: Path, base: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], float]:
    """Return a copy of the base, and a sum that made every number of the task vectors pass through the processor."""
    taus = task_vectors(folder, base)
    copies = {name: torch.empty_like(tensor).copy_(tensor) for name, tensor in base.items()}
    return copies, sum(float(tau[name].sum()) for tau in taus for name in tau)


def memory_growth(folder: Path) -> tuple[int, int]:
    """Return the bytes by which anonymous memory grows while mixing, at the peak, and the least it must grow by."""
    base = load(folder)
    sizes = [tensor.nbytes for tensor in base.values()]
    mix({"w": torch.zeros(10)}, [Term({"w": torch.zeros(10)}, 0.5)])  # what torch allocates once, for good
    before = anonymous_bytes()
    peak, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLING_SECONDS):
            peak[0] = max(peak[0], anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    mixed = mix_files(folder, base)
    done.set()
    watcher.join()
    assert len(mixed) == len(base)
    return max(peak[0], anonymous_bytes()) - before, sum(sizes) + max(sizes)


def anonymous_bytes() -> int:
    """Return the resident memory of this process that belongs to no file."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
