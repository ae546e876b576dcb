"""The processes of an installation with three workers, all of them real, and how to find and kill them."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from paintbox_launcher.embedded_valkey import EmbeddedValkey, free_port
from paintbox_launcher.installation import find_hindrance
from paintbox_launcher.supervision import Backoff, ChildSpec, ProcessSupervisor
from registry.database import Database
from tests.project.paths import ROOT

WORKERS = ("worker-1", "worker-2", "worker-3")
START_SECONDS = 90.0
_SETTINGS = {
    "LEASE_SECONDS": "3",
    "HEARTBEAT_SECONDS": "0.3",
    "REDISPATCH_AFTER_SECONDS": "1",
    "REAPER_INTERVAL_SECONDS": "0.5",
    "DEVICE": "cpu",
    "DECODE_THREADS": "1",
}


class Installation:
    """API, Valkey and workers over one data directory."""

    def __init__(self, folder: Path, on_event: Callable[[str], None]) -> None:
        self.data_dir = folder / "data"
        self.data_dir.mkdir(parents=True)
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.valkey = EmbeddedValkey(self.data_dir / "valkey")
        self.supervisor = ProcessSupervisor(on_event, Backoff(0.1, 0.5, 30.0))
        self.database = Database(f"sqlite:///{self.data_dir / 'paintbox.db'}")

    def start(self) -> None:
        """Start everything and wait until it is ready."""
        self.database.migrate()
        self.supervisor.start(self.valkey.child(self._log("valkey"), {"PATH": os.environ.get("PATH", "")}))
        self._start("api", "app")
        for name in WORKERS:
            self._start(name, "tests.chaos.worker", name)
        deadline = time.monotonic() + START_SECONDS
        while find_hindrance(self.url) is not None:
            assert time.monotonic() < deadline, self._log("api").read_text()
            self.supervisor.poll()
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop everything; no trainer outlives its worker."""
        for name in WORKERS:
            self.resume(name)
        self.supervisor.stop()
        self.database.close()

    def kill(self, name: str) -> bool:
        """SIGKILL a child and return whether it was running; Valkey loses its data, too."""
        pid = self.supervisor.pid(name)
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        while self.supervisor.pid(name) == pid:
            self.supervisor.poll()
            time.sleep(0.01)
        if name == "valkey":
            shutil.rmtree(self.valkey.folder)
        return True

    def trainers(self) -> list[psutil.Process]:
        """The trainers that run now."""
        return [each for each in self._descendants() if "tests.chaos.trainer" in _command(each)]

    def pause(self, name: str) -> bool:
        """SIGSTOP a worker, whose trainer goes on, and return whether it was running."""
        pid = self.supervisor.pid(name)
        if pid is not None:
            os.kill(pid, signal.SIGSTOP)
        return pid is not None

    def resume(self, name: str) -> None:
        """Let a worker go on that was paused, unless it was killed meanwhile."""
        pid = self.supervisor.pid(name)
        if pid is not None:
            os.kill(pid, signal.SIGCONT)

    def _descendants(self) -> list[psutil.Process]:
        found = []
        for name in WORKERS:
            pid = self.supervisor.pid(name)
            with suppress(psutil.Error):
                found += psutil.Process(pid).children(recursive=True) if pid else []
        return found

    def _start(self, name: str, module: str, *arguments: str) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PAINTBOX_")}
        environment |= {f"PAINTBOX_{key}": value for key, value in _SETTINGS.items()}
        environment |= {
            "PAINTBOX_DATA_DIR": str(self.data_dir),
            "PAINTBOX_PORT": str(self.port),
            "PAINTBOX_BROKER_URL": self.valkey.url,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }
        command = (sys.executable, "-m", module, *arguments)
        self.supervisor.start(ChildSpec(name=name, command=command, environment=environment, log_path=self._log(name)))

    def _log(self, name: str) -> Path:
        return self.data_dir / "logs" / f"{name}.log"


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline()) if process.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []
