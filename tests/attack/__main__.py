"""`python -m tests.attack`: abuse a real service, print what an honest client noticed; status 1 if it was too much."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.attack.run import ABUSES, run


def main() -> int:
    """Attack, print what came of it and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each abuse goes on")
    parser.add_argument("--only", action="append", choices=sorted(ABUSES), default=[], help="abuses; default: all")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="paintbox-attack-") as folder:
        outcome = run(Path(folder), asked.seconds, asked.only, lambda line: print(line, flush=True))
    timings = outcome.timings
    num_requests = sum(map(len, timings.seconds.values()))
    print(
        f"honest client: {num_requests} requests, median {timings.percentile(0.5):.3f} s, "
        f"p99 {timings.percentile(0.99):.3f} s, worst {timings.percentile(1.0):.3f} s; "
        f"memory {outcome.peak_bytes / 1e9:.2f} GB; stopped in {outcome.stopped_seconds:.1f} s"
    )
    faults = list(outcome.faults())
    for fault in faults:
        print(f"BROKEN: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
