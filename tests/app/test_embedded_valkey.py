"""The embedded Valkey server: a real one, closed to others, that starts whatever became of its files."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from paintbox_launcher.embedded_valkey import EmbeddedValkey
from paintbox_launcher.supervision import Backoff, ProcessSupervisor


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[EmbeddedValkey, ProcessSupervisor]]:
    valkey = EmbeddedValkey(tmp_path / 'a "folder" with spaces' / "valkey")
    supervisor = ProcessSupervisor(lambda _: None, Backoff(0.05, 0.1))
    supervisor.start(valkey.child(tmp_path / "valkey.log", {}))
    wait_for(valkey, supervisor)
    yield valkey, supervisor
    supervisor.stop()


def wait_for(valkey: EmbeddedValkey, supervisor: ProcessSupervisor) -> None:
    deadline = time.monotonic() + 20
    while not valkey.answers():
        assert time.monotonic() < deadline
        supervisor.poll()
        time.sleep(0.05)


def kill(supervisor: ProcessSupervisor) -> None:
    process = psutil.Process(supervisor.pid("valkey"))
    process.kill()
    while supervisor.pid("valkey") == process.pid:
        supervisor.poll()


def test_only_who_knows_the_password_gets_in(running: tuple[EmbeddedValkey, ProcessSupervisor]) -> None:
    valkey, supervisor = running
    with (
        Redis(port=valkey.port) as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.ping()
    process = psutil.Process(supervisor.pid("valkey"))
    assert valkey.password not in " ".join([*process.cmdline(), *process.environ().values()])
    assert valkey.password not in repr(valkey)
    assert (valkey.folder / "valkey.conf").stat().st_mode & 0o077 == 0


def test_what_was_written_survives_a_kill(running: tuple[EmbeddedValkey, ProcessSupervisor]) -> None:
    valkey, supervisor = running
    with Redis.from_url(valkey.url) as connection:
        connection.rpush("queue", "job")
        time.sleep(1.2)  # it syncs every second
    kill(supervisor)
    wait_for(valkey, supervisor)
    with Redis.from_url(valkey.url) as connection:
        assert connection.lrange("queue", 0, -1) == [b"job"]


def test_a_server_whose_folder_was_deleted_starts_again(running: tuple[EmbeddedValkey, ProcessSupervisor]) -> None:
    valkey, supervisor = running
    shutil.rmtree(valkey.folder)
    kill(supervisor)
    wait_for(valkey, supervisor)


def test_a_server_that_cannot_read_its_files_starts_without_them(
    running: tuple[EmbeddedValkey, ProcessSupervisor],
) -> None:
    valkey, supervisor = running
    kill(supervisor)
    for path in (valkey.folder / "appendonlydir").iterdir():
        path.write_bytes(os.urandom(4096))
    wait_for(valkey, supervisor)
