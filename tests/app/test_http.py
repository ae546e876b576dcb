"""The ways in which clients speak HTTP: each works, or is refused in words; and clients that stop or go midway."""

import gzip
import http.client
import os
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.http.connections.limits import ConnectionLimits
from app.http.connections.table import Connections
from tests.app.wire import get, head, post, read_all, status_of, wait_until
from tests.app.world import World, check_problem, listen, serve
from tests.builders import digit_members, digit_pngs, write_zip

PNG = digit_pngs(3)[0]
CERTIFICATE = Path(__file__).with_name("localhost_for_tests.pem")
CLASSIFY = "/v1/classify?candidate_labels=a&candidate_labels=b"
TUS = {"Tus-Resumable": "1.0.0"}
PART = TUS | {"Content-Type": "application/offset+octet-stream"}


@pytest.fixture(scope="module")
def url(world: World) -> Iterator[str]:
    with serve(world) as opened:
        yield opened


def talk(address: Any, data: bytes) -> bytes:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if len(address) == 4 else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(60)
        connection.connect(address)
        connection.sendall(data)
        return read_all(connection)


def address_of(url: str) -> tuple[str, int]:
    return "127.0.0.1", int(url.rpartition(":")[2])


def classify(**headers: object) -> bytes:
    return post(CLASSIFY, PNG, Content_Type="image/png", **{"Connection": "close", **headers})


def test_http_1_0(url: str) -> None:
    assert status_of(talk(address_of(url), get("/livez", "1.0"))) == 200
    assert status_of(talk(address_of(url), post(CLASSIFY, PNG, "1.0", Content_Type="image/png"))) == 200


def test_a_client_that_waits_to_be_told_to_go_on(url: str) -> None:
    data = classify(Expect="100-continue")
    with socket.create_connection(address_of(url), timeout=60) as connection:
        connection.sendall(data[: -len(PNG)])
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(PNG)
        assert status_of(read_all(connection)) == 200
    with socket.create_connection(address_of(url), timeout=60) as connection:
        connection.sendall(head("POST", "/v1/classify", Content_Length=1 << 40, Expect="100-continue"))
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_an_upload_in_chunks(url: str, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "digits.zip", digit_members(range(2), train=2)).read_bytes()
    start = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\na\r\n'
    start += b'--x\r\nContent-Disposition: form-data; name="archive"; filename="a.zip"\r\n\r\n'
    whole = start + archive + b"\r\n--x--\r\n"
    chunks = (whole[at : at + 1000] for at in range(0, len(whole), 1000))
    response = httpx2.post(
        f"{url}/v1/datasets", content=chunks, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert response.status_code == 202, response.text


def test_large_bodies_on_one_connection(url: str) -> None:
    size = 8 << 20
    connection = http.client.HTTPConnection(*address_of(url), timeout=60)
    connection.request("POST", "/v1/uploads", headers=TUS | {"Upload-Length": str(3 * size)})
    begun = connection.getresponse()
    begun.read()
    first = connection.sock
    for offset in (0, size, 2 * size):
        connection.request("PATCH", begun.headers["location"], bytes(size), PART | {"Upload-Offset": str(offset)})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 204
        assert connection.sock is first
    connection.close()


def test_answers_are_not_compressed_and_say_so(url: str) -> None:
    response = httpx2.get(f"{url}/openapi.json", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in response.headers
    assert response.json()["openapi"]
    compressed = httpx2.post(url + CLASSIFY, content=gzip.compress(PNG), headers={"content-encoding": "gzip"})
    check_problem(compressed, 415, "unsupported_media_type")


def test_options_names_the_methods(url: str) -> None:
    response = httpx2.options(f"{url}/v1/system")
    check_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET"
    assert status_of(talk(address_of(url), head("OPTIONS", "*", Connection="close"))) == 404


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_ipv6(world: World) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("needs IPv6")
    with listen(world.client.app, Connections(ConnectionLimits()), listener) as address:
        request = classify(Host=f"[::1]:{address[1]}")
        assert status_of(talk(address, request)) == 200


def test_a_unix_socket(world: World, tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / "s")  # such paths have a limit of about a hundred bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with listen(world.client.app, Connections(ConnectionLimits()), listener) as address:
            assert status_of(talk(address, classify(Host="localhost"))) == 200
            large = post("/v1/nothing", bytes(4 << 20), Host="localhost", Connection="close")
            assert status_of(talk(address, large)) in (404, 413)


def test_tls(world: World) -> None:
    connections = Connections(ConnectionLimits())
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    with listen(world.client.app, connections, ssl_certfile=str(CERTIFICATE)) as (host, port):
        with httpx2.Client(base_url=f"https://localhost:{port}", verify=context) as client:
            assert client.post(CLASSIFY, content=PNG, headers={"content-type": "image/png"}).status_code == 200
            for _ in range(2):
                large = client.post("/v1/classify/nothing", content=bytes(8 << 20), headers={"connection": "close"})
                check_problem(large, 404, "route_not_found")
        plain = talk((host, port), get("/livez"))
        assert b"200" not in plain[:20]


def test_an_upload_whose_sender_went_silent_goes_on_from_where_it_was(world: World) -> None:
    limits = ConnectionLimits(body_seconds=0.5)
    with serve(world, limits) as url, socket.create_connection(address_of(url), timeout=60) as silent:
        begun = httpx2.post(f"{url}/v1/uploads", headers=TUS | {"Upload-Length": "3000"})
        place = begun.headers["location"]
        headers = {**PART, "Upload-Offset": 0, "Content-Length": 3000}
        silent.sendall(head("PATCH", place, **{name.replace("-", "_"): value for name, value in headers.items()}))
        silent.sendall(b"x" * 1000)  # and then nothing, with its connection open
        assert status_of(read_all(silent)) == 408
        assert httpx2.head(url + place, headers=TUS).headers["upload-offset"] == "1000"
        answer = httpx2.patch(url + place, content=b"y" * 2000, headers=PART | {"Upload-Offset": "1000"})
        assert answer.status_code == 204, answer.text
        assert answer.headers["upload-offset"] == "3000"


def test_two_hundred_slow_bodies_keep_nobody_waiting(world: World) -> None:
    connections = Connections(ConnectionLimits())
    with listen(world.client.app, connections) as address, ExitStack() as stack:
        slow = []
        for index in range(200):
            connection = stack.enter_context(socket.create_connection(address, timeout=60))
            path, kind = (
                ("/v1/classify", "image/png") if index % 2 else ("/v1/datasets", "multipart/form-data; boundary=x")
            )
            connection.sendall(head("POST", path, Content_Type=kind, Content_Length=100_000) + bytes(1000))
            slow.append(connection)
        wait_until(lambda: len(connections) == 200)
        for _ in range(10):
            assert status_of(talk(address, classify())) == 200
        for connection in slow:
            connection.sendall(bytes(1))  # none was ended
        assert connections.ended.total() == 0


def test_five_hundred_clients_that_go_midway_leave_nothing_behind(world: World) -> None:
    connections = Connections(ConnectionLimits())
    request = classify()

    def leave(index: int) -> None:
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(request[: 1 + index * len(request) // 500])

    with listen(world.client.app, connections) as address:
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(leave, range(500)))
        assert status_of(talk(address, request)) == 200
        wait_until(lambda: len(connections) == 0 and not connections.waiting)
        wait_until(lambda: world.services.engine.admission.num_images == 0)
