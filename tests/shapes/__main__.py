"""Prints what comes of each shape as a Markdown table: `python -m tests.shapes`."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.shapes.shape import Outcome, Shape, matches, try_shape
from tests.shapes.table import SHAPES


def _tell(shape: Shape, outcome: Outcome) -> str:
    if outcome.code:
        return f"refused, `{outcome.code}`: {outcome.detail} {outcome.advice}".replace("|", "\\|").replace("\n", " ")
    splits = ", ".join(f"{split or 'no split'} {count}" for split, count in outcome.splits.items())
    warnings = f"; warns: {', '.join(outcome.warnings)}" if outcome.warnings else ""
    return f"read: {len(outcome.classes)} classes; {splits}{warnings}"


def main() -> int:
    """Print the table; return how many shapes did not come out as they must."""
    wrong = 0
    print("| data set | as it must | outcome |\n|---|---|---|")
    for shape in SHAPES:
        with TemporaryDirectory() as folder:
            outcome = try_shape(shape, Path(folder))
        is_right = matches(shape, outcome)
        wrong += not is_right
        print(f"| {shape.name} | {'yes' if is_right else '**no**'} | {_tell(shape, outcome)} |")
    print(f"\n{len(SHAPES)} shapes, {wrong} wrong.", file=sys.stderr)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
