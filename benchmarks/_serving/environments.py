"""Virtual environments of the peers, made on first use in `.benchmarks/peers/`.

A peer's own packages are pinned and come first. Behind them a `.pth` file shows it the packages of the environment that
runs this benchmark: torch is 5 GB, and all are to run the same torch and the same open_clip anyway.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from _cache import CACHE, write_whole

PINS = {"litserve": ("litserve==0.2.19",), "bentoml": ("bentoml==1.4.40",)}
_STAMP = "complete"


def python_of(peer: str) -> str:
    """Return the interpreter of a peer's environment, which is made if it is not there.

    Args:
        peer: A key of `PINS`.

    Raises:
        CalledProcessError: pip could not install it; what it said is above.
    """
    folder = CACHE / "peers" / "-".join(PINS[peer]).replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / _STAMP).exists():
        print(f"installing {' '.join(PINS[peer])} in {folder.name}/ (once)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS[peer]], check=True)
        packages = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        shown = "\n".join(sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
        write_whole(Path(packages) / "zz-benchmark.pth", f"{shown}\n".encode())
        write_whole(folder / _STAMP, b"")
    return str(python)
