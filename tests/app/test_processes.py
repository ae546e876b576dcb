"""API processes that share one port: real ones."""

import http.client
import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from app.runtime.ports import listen_on_own_port
from app.settings import AppSettings, num_cores
from pipeline.devices import choose_device
from registry.database import utc_now
from registry.errors import ConfigurationError
from registry.replicas import Identity, Replicas, Serving
from tests.app.conftest import free_port
from tests.app.test_leaving import body, status_of, wait_for
from tests.app.world import open_world
from tests.builders import digit_pngs
from tests.support.forking import Forked, Forks

IMAGE = digit_pngs(3)[0]
NUM_PROCESSES = 2


def port_with_free_ones_after_it() -> int:
    while True:
        port = free_port()
        with ExitStack() as stack:
            try:
                for each in range(port, port + NUM_PROCESSES + 1):
                    stack.enter_context(socket.create_server(("127.0.0.1", each)))
            except (OSError, OverflowError):
                continue
            return port


def environment(folder: Path, port: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PAINTBOX_")}
    return kept | {
        "PAINTBOX_DATA_DIR": str(folder),
        "PAINTBOX_PORT": str(port),
        "PAINTBOX_PROCESSES": str(NUM_PROCESSES),
        "PAINTBOX_REPLICA_INTERVAL_SECONDS": "0.2",
    }


def ask(port: int, path: str = "/v1/system") -> tuple[int, str]:
    """The answer of a request over a new connection: the kernel chooses the process."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def who_answers(port: int, times: int = 40) -> Counter[str]:
    return Counter(json.loads(ask(port)[1])["replica"] for _ in range(times))


@pytest.fixture
def start(tmp_path: Path, forks: Forks) -> Iterator[Callable[[int], Forked]]:
    started: list[Forked] = []

    def launch(port: int) -> Forked:
        with (tmp_path / f"api-{len(started)}.out").open("wb") as output:
            started.append(forks.launch([sys.executable, "-m", "app"], environment(tmp_path / "data", port), output))
        return started[-1]

    yield launch
    for each in started:
        each.kill()


@pytest.mark.system
def test_processes_share_a_port_and_one_that_is_killed_or_starts_costs_no_request(
    tmp_path: Path, start: Callable[[int], Forked]
) -> None:
    port = port_with_free_ones_after_it()
    first, second = start(port), start(port)
    wait_for(lambda: [status_of(port + number, "/readyz") for number in (1, 2)] == [200, 200], 60)
    own = {json.loads(ask(port + number)[1])["replica"] for number in (1, 2)}
    assert len(own) == 2
    assert set(who_answers(port)) == own  # 40 connections that all reach one process: once in 10^12
    assert all("paintbox_http_requests_total" in ask(port + number, "/metrics")[1] for number in (1, 2))

    third = start(port)
    assert third.wait(60) == 2
    assert f"ports {port + 1} to {port + 2} are in use" in (tmp_path / "api-2.out").read_text()

    first.send_signal(signal.SIGKILL)
    first.wait(30)
    (left,) = who_answers(port)  # the kernel knows at once
    assert left in own
    again = start(port)
    statuses = Counter[int]()
    while len(who_answers(port, 10)) == 1:  # never a connection to the one that is still loading
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("POST", "/v1/classify", *body(IMAGE, 1))
            statuses[connection.getresponse().status] += 1
        assert again.poll() is None
    assert set(statuses) == {200}
    for process in (second, again):
        process.send_signal(signal.SIGTERM)
    assert [process.wait(30) for process in (second, again)] == [0, 0]


@pytest.mark.system
def test_a_port_that_another_program_uses_is_not_shared(tmp_path: Path, start: Callable[[int], Forked]) -> None:
    port = port_with_free_ones_after_it()
    with socket.create_server(("127.0.0.1", port)):
        assert start(port).wait(60) == 2
    assert f"PAINTBOX_PORT: cannot share port {port}" in (tmp_path / "api-0.out").read_text()


def test_each_process_has_a_port_of_its_own() -> None:
    port = port_with_free_ones_after_it()
    with listen_on_own_port("127.0.0.1", port, 2) as one, listen_on_own_port("127.0.0.1", port, 2) as two:
        assert [each.getsockname()[1] for each in (one, two)] == [port + 1, port + 2]
        with pytest.raises(ConfigurationError, match=f"ports {port + 1} to {port + 2} are in use"):
            listen_on_own_port("127.0.0.1", port, 2)
    with pytest.raises(ConfigurationError, match="PAINTBOX_HOST"):
        listen_on_own_port("192.0.2.1", port, 2)


def test_processes_divide_the_cores_and_need_a_fixed_port(tmp_path: Path) -> None:
    assert AppSettings.load(data_dir=tmp_path, processes=2).decode_threads == max(1, num_cores() // 2)
    assert AppSettings.load(data_dir=tmp_path, processes=2, decode_threads=3).decode_threads == 3
    for port in (0, 65_534):
        with pytest.raises(ConfigurationError, match="PAINTBOX_PROCESSES: several processes need a fixed port"):
            AppSettings.load(data_dir=tmp_path, port=port, processes=2)


def test_several_processes_do_not_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigurationError, match="several processes share a CPU, not a GPU"):
        choose_device("auto", num_processes=2)
    assert choose_device("auto").type == "cuda"
    assert choose_device("cpu", num_processes=2).type == "cpu"


@pytest.mark.parametrize(("name", "code"), [("{host}:1", "not_found"), ("elsewhere:1", "upload_elsewhere")])
def test_an_unknown_upload_may_be_with_a_process_of_another_machine_only(tmp_path: Path, name: str, code: str) -> None:
    """Processes of one machine share the folder of uploads."""
    with open_world(tmp_path, processes=2) as world:
        host = world.services.replica.identity.host.rpartition(":")[0]
        with world.services.database.write() as session:
            Replicas(session).announce(Identity("rep_other", name.format(host=host), utc_now()), Serving(1))
        form = {"upload": "0" * 32, "name": "x"}
        answer = world.client.post("/v1/datasets", data=form)
        assert answer.json()["code"] == code
