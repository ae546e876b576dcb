"""The bundled program of the starter's tower: `python -m recipes.starter.program MODEL INTO`.

It depends on the architecture alone, so weights that are trained anew need no other one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from paint_core.models import load_base
from paint_core.programs.conversion import convert
from pipeline.programs import architecture, save


def main() -> int:
    """Convert and write; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="open_clip folder")
    parser.add_argument("into", type=Path, help="where the program's folder goes")
    arguments = parser.parse_args()
    base = load_base(f"local-dir:{arguments.model}")
    target = arguments.into / architecture(base.visual, base.preprocess)
    save(convert(base.visual, base.preprocess), target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
