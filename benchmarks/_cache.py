"""Where benchmarks keep what is dear to make: a git-ignored folder at the top of the checkout."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("PAINTBOX_BENCHMARKS") or Path(__file__).resolve().parents[1] / ".benchmarks")
"""The folder; the variable points elsewhere."""


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, whoever else writes it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
    os.replace(file.name, path)
