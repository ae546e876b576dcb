"""What `paintbox up` tells people: why it is not ready, that it is open; and signals and encodings it must survive."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.jobs.dispatcher import MemoryDispatcher
from app.main import create_app
from app.settings import AppSettings
from paintbox_launcher.command import StopSignals
from paintbox_launcher.installation import NOT_ANSWERING, Hindrances, find_hindrance
from registry.database import Database
from tests.app.world import LOCAL, add_version, check_problem, open_world, serve

PRINT = "from paintbox_launcher.command import print_what_can_be_printed as p; p(); print('Stopping …')"


def test_a_corrupt_active_version_is_told_with_what_to_do_and_can_be_rolled_back_from(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        version, sha256 = add_version(world.services, world.base, seed=1)
        assert world.client.put("/v1/aliases/active", json={"version": version}).status_code == 200
        path = world.services.blobs.fetch(sha256)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    with open_world(tmp_path) as world, serve(world) as url:
        told = find_hindrance(url)
        assert told is not None
        assert f"Version {version} cannot be loaded" in told
        assert sha256 in told
        assert f"paintbox --url {url} rollback" in told
        check_problem(world.client.put("/v1/aliases/active", json={"version": version}), 409, "activation_failed")
        assert world.client.post("/v1/aliases/active/rollback").json()["version"] == 1
        assert find_hindrance(url) is None
    assert find_hindrance(url) == NOT_ANSWERING


def test_hindrances_are_told_after_a_while_and_whenever_they_change() -> None:
    hindrances = Hindrances()
    seconds = [(0, "a"), (1, "a"), (9, "a"), (10, "a"), (11, "b"), (12, "a"), (13, None), (14, "a")]
    assert [hindrances.tell(text, now) for now, text in seconds] == [None, None, "a", None, "b", "a", None, None]
    slow = Hindrances()
    assert [slow.tell(NOT_ANSWERING, now) for now in (0, 20, 31, 40)] == [None, None, NOT_ANSWERING, None]


@pytest.fixture
def signals() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(("inherited", "stops"), [(signal.SIG_IGN, False), (signal.SIG_DFL, True)])
def test_a_hang_up_is_ignored_under_nohup_only(inherited: signal.Handlers, stops: bool) -> None:
    signal.signal(signal.SIGHUP, inherited)
    stop = StopSignals()
    os.kill(os.getpid(), signal.SIGHUP)
    assert stop.requested() is stops
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested()


def test_a_terminal_without_the_characters_is_no_reason_to_die() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", PRINT], env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"Stopping ?\n")


def test_probes_are_answered_while_the_services_open_behind_the_server(tmp_path: Path) -> None:
    settings = AppSettings.load(data_dir=tmp_path / "data", device="cpu")
    settings.make_directories()
    database = Database(settings.resolved_database_url)
    database.migrate()
    database.close()
    holder = sqlite3.connect(settings.data_dir / "paintbox.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")  # so it cannot be opened before we have looked
    app = create_app(settings, MemoryDispatcher(), listens_first=True)
    with TestClient(app, LOCAL) as client:
        for path, body in (("/livez", {"status": "ok"}), ("/v2/health/live", {"live": True})):
            response = client.get(path)
            assert (response.status_code, response.json()) == (200, body)
        for path in ("/readyz", "/v1/system", "/v1/classify", "/metrics"):
            check_problem(client.get(path), 503, "starting")
        assert client.get("/v2/health/ready").status_code == 503
        holder.execute("ROLLBACK")
        holder.close()
        deadline = time.monotonic() + 60
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.get("/v1/system").status_code == 200
    assert app.state.refusal is None


def test_services_that_cannot_be_opened_are_told_to_whoever_runs_the_server(tmp_path: Path) -> None:
    settings = AppSettings.load(data_dir=tmp_path / "data", device="cpu", bases=("no-such-base",))
    app = create_app(settings, MemoryDispatcher(), listens_first=True)
    with TestClient(app, LOCAL) as client:
        deadline = time.monotonic() + 60
        while app.state.refusal is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "PAINTBOX_BASES" in str(app.state.refusal)
        check_problem(client.get("/readyz"), 503, "starting")
