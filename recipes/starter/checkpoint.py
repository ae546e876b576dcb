"""Export the averaged weights of a run that is not finished: `python -m recipes.starter.checkpoint RUN INTO`.

The model's pictures are as large as those of the checkpoint's last step: small ones before the run changes over.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from safetensors.torch import load_file

from recipes.starter.model import export
from recipes.starter.train import Settings


def main() -> int:
    """Write the model and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("into", type=Path, help="the model's folder")
    arguments = parser.parse_args()
    steps, side = export_checkpoint(arguments.run, arguments.into)
    sys.stdout.write(f"{steps:,} steps, {side} pixels\n")
    return 0


def export_checkpoint(run: Path, into: Path) -> tuple[int, int]:
    """Write a run's averaged weights as an open_clip folder, and return its steps and its pictures' side.

    Args:
        run: Folder with `settings.json` and a checkpoint.
        into: The model's folder.
    """
    settings = Settings(**json.loads((run / "settings.json").read_text(encoding="utf-8")))
    (average,) = run.glob("average-*.safetensors")
    steps = int(average.stem.rpartition("-")[2])
    side = settings.side(max(0, steps - 1))
    export(load_file(average), settings.tower, into, side)
    return steps, side


if __name__ == "__main__":
    sys.exit(main())
