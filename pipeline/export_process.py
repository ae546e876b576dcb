"""`python -m pipeline.export_process ORDER.json`: carries out one order of `pipeline.exporting`, then exits.

Its last line of standard output is its answer. It exits when its standard input ends: nobody waits for it any more.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import torch

from pipeline.exporting import Order, carry_out

_NICENESS = 5
"""Requests that are served on the same machine go first."""

_ORPHANED = 70


def main(path: Path) -> None:
    """Carry out the order in a file and print the answer."""
    os.nice(_NICENESS)
    torch.set_num_threads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    answer = carry_out(Order.from_json(path.read_text(encoding="utf-8")))
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


def _exit_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(_ORPHANED)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
