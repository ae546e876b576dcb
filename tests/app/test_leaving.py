"""Clients that go before they are answered, and a process that goes."""

import dataclasses
import http.client
import io
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.app.conftest import free_port
from tests.app.gate import TextGate
from tests.app.world import World, open_world, serve
from tests.builders import digit_pngs
from tests.support.forking import Forked, Forks

SMALL = digit_pngs(3)[0]


def slow_image() -> bytes:
    """A picture that takes some 20 ms to decode and resize."""
    pixels = random.Random(0).randbytes(1000 * 1000 * 3)
    out = io.BytesIO()
    Image.frombytes("RGB", (1000, 1000), pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def body(image: bytes, num_images: int, labels: Sequence[str] = "ab") -> tuple[bytes, dict[str, str]]:
    """A form with so many images and labels, of one letter if they are a string."""
    parts = [f'--x\r\nContent-Disposition: form-data; name="candidate_labels"\r\n\r\n{label}\r\n' for label in labels]
    file = b'--x\r\nContent-Disposition: form-data; name="images"; filename="i.png"\r\n\r\n' + image + b"\r\n"
    data = "".join(parts).encode() + file * num_images + b"--x--\r\n"
    return data, {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(len(data))}


def wait_for(is_so: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def num_batches(world: World) -> float:
    count = world.services.metrics.registry.get_sample_value("paintbox_inference_batch_images_count")
    assert count is not None
    return count


@pytest.mark.parametrize(("path", "labels"), [("/v1/classify", "ab"), ("/v1/embed", "")])
def test_a_client_that_goes_frees_its_place_and_its_images_are_not_worked_on(
    tmp_path: Path, path: str, labels: str
) -> None:
    with open_world(tmp_path, decode_threads=1) as world, serve(world) as url:
        admission = world.services.engine.admission
        data, headers = body(slow_image(), 30, labels)
        lines = [f"{name}: {value}\r\n" for name, value in {"Host": "127.0.0.1", **headers}.items()]
        head = f"POST {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()
        batches = num_batches(world)
        with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) as connection:
            connection.sendall(head + data)
            wait_for(lambda: admission.num_images == 30)
        wait_for(lambda: admission.num_images == 0, 0.25)  # far less than it takes to decode them
        assert world.client.post(path, content=body(SMALL, 1, labels)[0], headers=headers).status_code == 200
        assert num_batches(world) <= batches + 2
        text = world.client.get("/metrics").text
        assert f'paintbox_http_requests_total{{method="POST",route="{path}",status="499"}} 1.0' in text


def test_labels_of_500_clients_who_have_gone_are_not_encoded(tmp_path: Path) -> None:
    with open_world(tmp_path) as world, serve(world) as url:
        engine = world.services.engine
        gate, model = TextGate(world.base.tokenizer), world.services.versions.require_active()
        world.services.versions.swap("active", dataclasses.replace(model, base=gate.before(model.base)))
        address = ("127.0.0.1", urlsplit(url).port or 0)
        for number in range(10):
            with ExitStack() as stack:
                for client in range(50):
                    data, headers = body(SMALL, 1, [f"{number} {client} {label}" for label in range(10)])
                    lines = [f"{name}: {value}\r\n" for name, value in {"Host": "127.0.0.1", **headers}.items()]
                    head = f"POST /v1/classify HTTP/1.1\r\n{''.join(lines)}\r\n".encode()
                    stack.enter_context(socket.create_connection(address)).sendall(head + data)
                wait_for(lambda: engine.admission.num_images == 50)
            wait_for(lambda: engine.admission.num_images == 0)
        assert engine.heads.admission.num_images == 500 * 10 * 3
        gate.open()
        data, headers = body(SMALL, 1, ["new", "labels"])
        assert world.client.post("/v1/classify", content=data, headers=headers).status_code == 200
        wait_for(lambda: engine.heads.admission.num_images == 0)
        assert sum(map(len, gate.slices)) <= 32 + 2 * 3
        assert "paintbox_inference_queue_texts 0.0" in world.client.get("/metrics").text.splitlines()
        assert world.client.get("/v1/system").json()["queued_texts"] == 0


@pytest.fixture
def process(tmp_path: Path, forks: Forks) -> Iterator[tuple[Forked, int]]:
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAINTBOX_")}
    environment |= {"PAINTBOX_DATA_DIR": str(tmp_path), "PAINTBOX_PORT": str(port), "PAINTBOX_DRAIN_SECONDS": "2"}
    with (tmp_path / "api.out").open("wb") as output:
        running = forks.launch([sys.executable, "-m", "app"], environment, output)
    try:
        wait_for(lambda: status_of(port, "/readyz") == 200, 60)
        yield running, port
    finally:
        running.kill()


def status_of(port: int, path: str) -> int | None:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status
    except OSError:
        return None


@pytest.mark.system
def test_told_to_stop_a_process_answers_what_is_under_way_and_ends_well(
    process: tuple[Forked, int],
) -> None:
    running, port = process
    answers: list[int] = []
    slow = body(slow_image(), 40)

    def ask() -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("POST", "/v1/classify", *slow)
            answers.append(connection.getresponse().status)

    def ask_on() -> None:
        """As a client that keeps its connection and asks again at once, until the server has gone."""
        data, headers = body(SMALL, 1)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while running.poll() is None:
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
            is_open = True
            while is_open:
                connection.request("POST", "/v1/classify", data, headers)
                response = connection.getresponse()
                response.read()
                answers.append(response.status)
                is_open = response.headers.get("Connection") != "close"
            connection.close()
            if is_draining.is_set():
                return

    is_draining = threading.Event()
    threads = [threading.Thread(target=ask) for _ in range(4)] + [threading.Thread(target=ask_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answers) > 20)
    running.send_signal(signal.SIGTERM)
    wait_for(lambda: status_of(port, "/readyz") == 503)
    assert status_of(port, "/livez") == 200
    is_draining.set()
    for thread in threads:
        thread.join(60)
    assert running.wait(30) == 0
    assert len(answers) > 24
    assert set(answers) == {200}
