"""What every benchmark shares: its arguments, timing in turns, and a report that can be doubted.

options = parser(__doc__).parse_args()
samples = measure({"ours": ours, "reference": reference}, rounds=3)
report([Figure("speedup", ratio, "x", target=5)], options.json, samples)
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

Samples = Mapping[str, Sequence[float]]
"""Seconds of each way of doing something, one sample a round."""


@dataclass(frozen=True)
class Figure:
    """One result.

    Attributes:
        name: unique within the benchmark; what RESULTS.md and the JSON file call it.
        value: the result.
        unit: `x`, `s`, `points`, `images/s`, ...
        target: what it should reach; None if nothing was promised.
        at_most: whether the target is an upper limit; if not, it is a lower one.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the value reaches the target."""
        if self.target is None:
            return True
        return self.value <= self.target if self.at_most else self.value >= self.target


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of `--quick` and `--json FILE`, for a program to add its own arguments to.

    Args:
        description: The program's `__doc__`.
    """
    arguments = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="fewer rounds, seeds and images; figures are rough")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    return arguments


def measure(
    ways: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Return the seconds of each way, measured in turns, so that a noisy machine disturbs all alike.

    Args:
        ways: What to run, by name.
        rounds: How often each.
        clock: `time.process_time` counts the processor time of this process, which other work hardly changes.
    """
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            started = clock()
            run()
            samples[name].append(clock() - started)
    return samples


def medians(samples: Samples) -> dict[str, float]:
    """Return the median seconds of each way."""
    return {name: statistics.median(values) for name, values in samples.items()}


def report(figures: Sequence[Figure], json_file: Path | None = None, samples: Samples | None = None) -> None:
    """Print the figures with command, commit and hardware; write them as JSON if a file is named.

    Args:
        figures: In the order to print them.
        json_file: Where a list of `{name, value, unit, target}` goes.
        samples: Timings to print with their spread.
    """
    print(f"command   python {' '.join(sys.argv)}\ncommit    {commit()}\nhardware  {hardware()}")
    for name, values in (samples or {}).items():
        middle = statistics.median(values)
        spread = f"median of {len(values)}; {min(values):.3f} to {max(values):.3f}"
        print(f"{name:32} {middle:10.3f} s        ({spread})")
    for figure in figures:
        print(f"{figure.name:32} {figure.value:10.3f} {figure.unit:8} {_verdict(figure)}".rstrip())
    if json_file is not None:
        json_file.write_text(json.dumps([_as_json(figure) for figure in figures], indent=2) + "\n", encoding="utf-8")


def commit() -> str:
    """Return the short hash of the checkout, `-dirty` behind it if files differ; `unknown` outside one."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    folder = Path(__file__).resolve().parent
    try:
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def hardware() -> str:
    """Return the processor with the cores this process may use, torch's threads, and the GPU if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{_processor()}, {cores} cores, {torch.get_num_threads()} threads", f"torch {torch.__version__}"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return "; ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.processor() or platform.machine()


def _verdict(figure: Figure) -> str:
    if figure.target is None:
        return ""
    rule = "at most" if figure.at_most else "at least"
    return f"target {rule} {figure.target:g}: {'met' if figure.is_met else 'MISSED'}"


def _as_json(figure: Figure) -> dict[str, object]:
    return {name: value for name, value in asdict(figure).items() if name != "at_most"}
