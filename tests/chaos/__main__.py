"""`python -m tests.chaos`: many quick jobs through three workers while processes die. `make chaos` runs it."""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.chaos.run import run


def main() -> int:
    """Run, tell what came of it, and return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of an earlier run, to repeat it")
    parser.add_argument("--verbose", action="store_true", help="tell of each death")
    arguments = parser.parse_args()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"seed {arguments.seed}, {arguments.jobs} jobs")
    with tempfile.TemporaryDirectory(prefix="paintbox-chaos-") as folder:
        outcome = run(
            Path(folder), arguments.jobs, arguments.seed, console.print if arguments.verbose else lambda _: None
        )
    console.print(f"{outcome.seconds} s; jobs {outcome.statuses}; attempts {outcome.attempts}")
    console.print(f"killed {outcome.struck}; requests repeated {outcome.requests_repeated}")
    for sentence in outcome.broken:
        console.print(f"BROKEN: {sentence}")
    console.print("every promise held" if not outcome.broken else f"run it again with --seed {outcome.seed}")
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
