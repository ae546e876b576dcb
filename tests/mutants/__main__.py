"""`python -m tests.mutants`: draw small changes of the library, and report those that no test notices.

This mutates the code of `paint_core`; `tests.mutations` mutates the files that the service reads.
"""

import argparse
import difflib
import hashlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.mutator import Mutant, compiles, find_mutants
from tests.mutants.reach import Reach, find_reach, nearest_tests
from tests.mutants.trials import Outcome, Trial, run_trials
from tests.project.paths import ROOT

_EQUIVALENT = Path(__file__).with_name("equivalent.json")


def main() -> int:
    """Run the mutants and return 1 if too many survive."""
    asked = _parse()
    os.chdir(ROOT)
    os.nice(19)
    equivalent: dict[str, str] = json.loads(_EQUIVALENT.read_text())
    print("finding which tests run which functions: minutes at first, then what has changed", flush=True)
    reach = find_reach(Path("build/mutants/reach.json"), asked.fresh)
    sources = {str(path): path.read_text(encoding="utf-8") for path in sorted(Path("paint_core").rglob("*.py"))}
    everything = [mutant for path, source in sources.items() for mutant in find_mutants(path, source)]
    drawn = _draw(everything, sources, asked)
    print(f"{len(drawn)} of {len(everything)} mutants of {len(sources)} files, seed {asked.seed}", flush=True)
    trials = [_trial(mutant, reach) for mutant in drawn if mutant.key not in equivalent]
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = run_trials(trials, Path(scratch), asked.processes, lambda outcome: _tell(outcome, sources))
    same = {mutant.key: equivalent[mutant.key] for mutant in drawn if mutant.key in equivalent}
    return _report(outcomes, same, sources, asked.least)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument(
        "--least", type=float, default=90.0, help="percent that must be killed, of those that change anything"
    )
    parser.add_argument("--keys", default="", help="run these mutants only, comma-joined")
    parser.add_argument("--under", default="paint_core", help="draw from files whose path begins so")
    parser.add_argument("--fresh", action="store_true", help="find again which tests run which functions")
    return parser.parse_args()


def _draw(mutants: Sequence[Mutant], sources: dict[str, str], asked: argparse.Namespace) -> list[Mutant]:
    """Draw by the keys' hashes, so that a change elsewhere in the library hardly changes what is drawn."""
    if asked.keys:
        return [mutant for mutant in mutants if mutant.key in asked.keys.split(",")]
    chosen: list[Mutant] = []
    for mutant in sorted(mutants, key=lambda each: hashlib.blake2b(f"{asked.seed}:{each.key}".encode()).digest()):
        if len(chosen) == asked.count:
            break
        if mutant.path.startswith(asked.under) and compiles(mutant.apply(sources[mutant.path])):
            chosen.append(mutant)
    return chosen


def _trial(mutant: Mutant, reach: dict[str, Reach]) -> Trial:
    tests = nearest_tests(reach, mutant.path, mutant.function)
    return Trial(mutant, tests, 60 + 4 * sum(reach[test].seconds for test in tests))


def _tell(outcome: Outcome, sources: dict[str, str]) -> None:
    mutant = outcome.trial.mutant
    where = f"{mutant.path}:{sources[mutant.path].count(chr(10), 0, mutant.start) + 1}"
    by = f" by {outcome.by}" if outcome.by else f" ({len(outcome.trial.tests)} tests)"
    print(f"{mutant.key} {mutant.kind:10} {where} {outcome.verdict}{by}", flush=True)


def _report(outcomes: Sequence[Outcome], same: dict[str, str], sources: dict[str, str], least: float) -> int:
    for outcome in outcomes:
        if outcome.verdict != "killed":
            print(f"\n== {outcome.trial.mutant.key} {outcome.verdict}, {len(outcome.trial.tests)} tests")
            print(_diff(outcome.trial.mutant, sources))
    for key, reason in same.items():
        print(f"\n== {key} equivalent: {reason}")
    counts = Counter(outcome.verdict for outcome in outcomes)
    detected = counts["killed"] + counts["timed out"]
    total = len(outcomes) + len(same)
    print(
        f"\n{total} mutants: {counts['killed']} killed, {counts['timed out']} timed out, {len(same)} equivalent, "
        f"{counts['survived']} survived; {100 * detected / max(1, total):.0f} % of all found, "
        f"{100 * detected / max(1, len(outcomes)):.0f} % of those that change anything"
    )
    return 0 if 100 * detected >= least * len(outcomes) else 1


def _diff(mutant: Mutant, sources: dict[str, str]) -> str:
    before = sources[mutant.path]
    lines = difflib.unified_diff(
        before.splitlines(), mutant.apply(before).splitlines(), mutant.path, mutant.path, lineterm="", n=2
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
