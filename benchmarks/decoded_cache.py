"""What the decoded cache is worth to the alpha search: one grid from uint8 arrays, one that decodes for every alpha.

Both search the same 21 alphas over the starter's four supported tasks, side by side in one run, alternating so that a
noisy machine disturbs both alike. Prints medians and their ratio.

    python benchmarks/decoded_cache.py [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from paint_core.alpha import evaluate_curve, grid
from paint_core.datasets import LabelledImages, decode_all
from paint_core.heads import build_head
from paint_core.models import BaseModel, load_base
from paint_core.starter import supported_archives

Files = dict[str, tuple[list[tuple[bytes, int]], tuple[str, ...]]]


def read_files() -> Files:
    """Return the encoded validation images of each supported task, with labels, and its classnames."""
    files: Files = {}
    for name, path in supported_archives().items():
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.namelist() if member.startswith("val/") and member.endswith(".png")]
            classnames = tuple(sorted({member.split("/")[1] for member in members}))
            images = [(archive.read(member), classnames.index(member.split("/")[1])) for member in members]
        files[name] = (images, classnames)
    return files


def decode(base: BaseModel, files: Files) -> dict[str, LabelledImages]:
    """Return the decoded images of each task."""
    return {name: decode_all(images, base.preprocess, classnames) for name, (images, classnames) in files.items()}


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    base, files = load_base("starter"), read_files()
    heads = {name: build_head(base, classnames, base.default_templates) for name, (_, classnames) in files.items()}
    generator = torch.Generator().manual_seed(0)
    tau = {
        name: 1e-3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in base.visual.state_dict().items()
        if tensor.is_floating_point()
    }

    def search(images: dict[str, LabelledImages], alphas: tuple[float, ...]) -> None:
        evaluate_curve(base, tau, {name: (heads[name], images[name]) for name in images}, alphas)

    def from_cache() -> None:
        search(decode(base, files), grid())

    def decoding_each_time() -> None:
        for alpha in grid():
            search(decode(base, files), (alpha,))

    samples = measure({"from_cache": from_cache, "decoding_each_time": decoding_each_time}, options.rounds)
    report(samples, sum(len(images) for images, _ in files.values()), options.json)


def measure(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way, one sample a round, measured in turns."""
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            samples[name].append(time.perf_counter() - started)
    return samples


def report(samples: dict[str, list[float]], num_images: int, path: Path | None) -> None:
    """Print medians with their spread, the ratio, and what they were measured on; also as JSON if a file is named."""
    seconds = {name: statistics.median(values) for name, values in samples.items()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    ratio = seconds["decoding_each_time"] / seconds["from_cache"]
    figures = {**seconds, "decoded_cache_speedup": ratio}
    print(f"python {' '.join(sys.argv)}: commit {commit}, {os.cpu_count()} cores, {platform.machine()}")
    print(f"{num_images} images, {len(grid())} alphas, {len(samples['from_cache'])} rounds")
    for name, values in samples.items():
        print(f"{name:24} {seconds[name]:8.2f} s (median; {min(values):.2f} to {max(values):.2f})")
    print(f"{'decoded_cache_speedup':24} {ratio:8.2f} x")
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
