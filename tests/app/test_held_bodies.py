"""The bodies that are held in memory at once have a limit, and who sends much does not keep out who sends little."""

import asyncio
import gzip
import select
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from app.http.held_bodies import SMALL_BYTES, HeldBodies
from app.settings import AppSettings
from registry.errors import ConfigurationError
from tests.app.wire import head, read_all, status_of, wait_until
from tests.app.world import World, check_plain_error, check_problem, open_world, serve
from tests.builders import digit_pngs

MIB = 1 << 20


class Request:
    """One request in front of `HeldBodies`, whose application reads its body and then waits to be let go."""

    def __init__(self, held: HeldBodies, method: str = "POST", path: str = "/v1/classify") -> None:
        self.parts: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.read = 0
        self.go = asyncio.Event()
        headers = [(b"transfer-encoding", b"chunked")]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "state": {}}
        scope["request"] = self
        self.task = asyncio.create_task(held(scope, self.parts.get, self._send))

    async def send(self, num_bytes: int, more: bool = True) -> None:
        """Send a part and let everybody react."""
        self.parts.put_nowait({"type": "http.request", "body": bytes(num_bytes), "more_body": more})
        for _ in range(10):
            await asyncio.sleep(0)

    @property
    def is_refused(self) -> bool:
        """Whether there was no room for it."""
        if not self.task.done():
            return False
        error = self.task.exception()
        assert isinstance(error, HTTPException)
        assert error.status_code == 429
        assert error.headers is not None
        assert error.headers["Retry-After"]
        return True

    async def _send(self, message: Any) -> None:
        raise AssertionError(message)


async def read_and_wait(scope: Any, receive: Any, send: Any) -> None:
    request, more = scope["request"], True
    while more:
        message = await receive()
        request.read += len(message["body"])
        more = message["more_body"]
    await request.go.wait()


def bodies(max_bytes: int) -> HeldBodies:
    return HeldBodies(read_and_wait, max_bytes)


def test_the_largest_body_that_is_not_complete_makes_room() -> None:
    async def run() -> None:
        held = bodies(16 * MIB)
        large, larger, honest = Request(held), Request(held), Request(held)
        await large.send(4 * MIB)
        await larger.send(7 * MIB)
        await honest.send(2 * MIB, more=False)
        assert larger.is_refused
        assert not large.is_refused
        assert honest.read == 2 * MIB
        await large.send(7 * MIB)
        assert large.is_refused
        honest.go.set()
        await honest.task
        again = Request(held)
        await again.send(12 * MIB, more=False)
        assert again.read == 12 * MIB
        again.go.set()
        await again.task

    asyncio.run(run())


def test_large_bodies_leave_a_quarter_of_the_room_to_small_ones() -> None:
    async def run() -> None:
        held = bodies(16 * MIB)
        complete = [Request(held) for _ in range(2)]
        for request in complete:
            await request.send(6 * MIB, more=False)
        refused = Request(held)
        await refused.send(2 * MIB)
        assert refused.is_refused
        small = [Request(held) for _ in range(5)]
        for request in small:
            await request.send(SMALL_BYTES, more=False)
        assert [request.is_refused for request in small] == [False] * 4 + [True]
        for request in (*complete, *small[:4]):
            request.go.set()
            await request.task

    asyncio.run(run())


def test_what_is_written_to_disk_is_not_counted() -> None:
    async def run() -> None:
        held = bodies(16)
        uploads = [Request(held, "PATCH", "/v1/uploads/x"), Request(held, "POST", "/v1/datasets")]
        for request in uploads:
            await request.send(1000, more=False)
            assert request.read == 1000
            request.go.set()
            await request.task

    asyncio.run(run())


def test_somebody_elses_cancel_stays_one() -> None:
    async def run() -> None:
        request = Request(bodies(16 * MIB))
        await request.send(1)
        request.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request.task

    asyncio.run(run())


def test_unfinished_bodies_do_not_keep_an_honest_client_out(tmp_path: Path) -> None:
    limits = {"max_request_bytes": 3 * MIB, "max_held_bytes": 8 * MIB}
    with open_world(tmp_path, **limits) as world, serve(world) as url, ExitStack() as stack:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        greedy = []
        for _ in range(12):
            connection = stack.enter_context(socket.create_connection(address, timeout=60))
            start = head("POST", "/v1/classify", Content_Type="image/png", Content_Length=3 * MIB)
            connection.sendall(start + bytes(2 * MIB))
            greedy.append(connection)
        honest = head(
            "POST",
            "/v1/classify?candidate_labels=a&candidate_labels=b",
            Content_Type="image/png",
            Content_Length=len(digit_pngs(3)[0]),
            Connection="close",
        )
        connection = stack.enter_context(socket.create_connection(address, timeout=60))
        connection.sendall(honest + digit_pngs(3)[0])
        assert status_of(read_all(connection)) == 200
        wait_until(lambda: len(select.select(greedy, [], [], 0)[0]) >= 9)
        answered = select.select(greedy, [], [], 0)[0]
        assert {connection.recv(12) for connection in answered} == {b"HTTP/1.1 429"}


@pytest.mark.parametrize("header", ["content-encoding", "transfer-encoding"])
@pytest.mark.parametrize("path", ["/v1/classify", "/v1/embed", "/v1/patches", "/v1/label-sets", "/v1/datasets"])
def test_a_compressed_body_is_refused_by_every_route(world: World, path: str, header: str) -> None:
    headers = {"content-type": "application/json", header: "gzip"}
    problem = check_problem(
        world.client.post(path, content=gzip.compress(b"{}"), headers=headers), 415, "unsupported_media_type"
    )
    assert "gzip" in problem["detail"]
    assert "without compression" in problem["next"]


def test_a_compressed_body_is_refused_by_the_protocols_and_identity_is_no_compression(world: World) -> None:
    for path in ("/v2/models/paintbox/infer", "/hf/zero-shot-image-classification"):
        response = world.client.post(path, content=b"{}", headers={"content-encoding": "br"})
        assert "br" in check_plain_error(response, 415)
    response = world.client.post("/v1/patches", content=b"{}", headers={"content-encoding": "identity"})
    assert response.status_code == 422


def test_the_room_must_hold_a_body() -> None:
    with pytest.raises(ConfigurationError, match="PAINTBOX_MAX_HELD_BYTES"):
        AppSettings.load(max_held_bytes=100 << 20)
