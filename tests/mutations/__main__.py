"""`python -m tests.mutations`: read many mutated inputs, print what came of them; status 1 if anything went wrong."""

import argparse
import sys

from tests.mutations.run import run


def main() -> int:
    """Read all kinds and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--archives", type=int, default=2_000)
    parser.add_argument("--models", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    num_findings = 0
    for kind in ("images", "archives", "models"):
        report = run(kind, getattr(asked, kind), asked.seed)
        print(report, flush=True)
        for finding in report.findings[:50]:
            print(f"  {finding}")
        num_findings += len(report.findings)
    return 1 if num_findings else 0


if __name__ == "__main__":
    sys.exit(main())
