"""Run as many API processes on one port as `PAINTBOX_PROCESSES` says: `python -m _serving.several`."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

from paintbox_launcher.supervision import ChildSpec, ProcessSupervisor


def main() -> None:
    """Start them and keep them running until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    supervisor = ProcessSupervisor(on_event=print)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(int(os.environ["PAINTBOX_PROCESSES"])):
            log = Path(folder) / f"api-{number}.log"
            supervisor.start(ChildSpec(
                name=f"api-{number}", command=(sys.executable, "-m", "app"), environment=os.environ, log_path=log
            ))  # fmt: skip
        while not stop.wait(0.1):
            supervisor.poll()
        supervisor.stop()


if __name__ == "__main__":
    main()
