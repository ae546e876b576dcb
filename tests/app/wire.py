"""A real server in front of a small application, and what it says to bytes that no client would send."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from app.http.connections.limits import ConnectionLimits
from app.http.connections.table import Connections
from tests.app.world import listen

MUCH = 8 << 20
"""More than the system keeps of what is written to a socket that nobody reads."""


@dataclass
class SmallApp:
    """An application whose paths say what it does with a request.

    Attributes:
        bodies: What came of the body of each request whose client went, or that was read.
        gone: How many requests saw their client go.
    """

    bodies: list[bytes] = field(default_factory=list)
    gone: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["path"] == "/later":
            await asyncio.sleep(1.0)
        body = await self._read(receive) if scope["path"] in ("/read", "/later") else b""
        if body is None:
            return
        if scope["path"] == "/wait":
            await self._until_gone(receive)
            return
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for part in (b"one ", b"", b"two "):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"three"})
            return
        names = b",".join(b"%s=%s" % (name, value) for name, value in scope["headers"])
        answer = bytes(MUCH) if scope["path"] == "/much" else b"%d %s" % (len(body), names)
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _read(self, receive: Any) -> bytes | None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                self.bodies.append(body)
                return None
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        return body

    async def _until_gone(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            await asyncio.sleep(0)
        self.gone += 1


@dataclass
class Wire:
    """A running server.

    Attributes:
        app: In front of which it runs.
        connections: That it has.
        address: Where it listens.
    """

    app: SmallApp
    connections: Connections
    address: Any

    def connect(self) -> socket.socket:
        """A connection; nothing is waited for longer than a test may take."""
        return socket.create_connection(self.address, timeout=60)

    def talk(self, data: bytes) -> bytes:
        """All that the server says to these bytes until it closes the connection; b"" too if it is reset."""
        with self.connect() as connection:
            sender = threading.Thread(target=_send, args=(connection, data))
            sender.start()
            answer = read_all(connection)
            sender.join()
        return answer


def _send(connection: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        connection.sendall(data)


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed or reset."""
    answer = b""
    with suppress(ConnectionError):
        while part := connection.recv(1 << 20):
            answer += part
    return answer


@contextmanager
def open_wire(**limits: Any) -> Iterator[Wire]:
    """A running server with these limits."""
    app, connections = SmallApp(), Connections(ConnectionLimits(**limits))
    with listen(app, connections) as address:
        yield Wire(app, connections, address)


def get(path: str = "/", version: str = "1.1", **headers: object) -> bytes:
    """The head of a request without a body."""
    return head("GET", path, version, **headers)


def post(path: str, body: bytes, version: str = "1.1", **headers: object) -> bytes:
    """A request with a body."""
    return head("POST", path, version, Content_Length=len(body), **headers) + body


def head(method: str, path: str, version: str = "1.1", **headers: object) -> bytes:
    """The head of a request; underscores of names are hyphens."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in {"Host": "127.0.0.1", **headers}.items()]
    return f"{method} {path} HTTP/{version}\r\n{''.join(lines)}\r\n".encode()


def status_of(answer: bytes) -> int:
    """The status of an answer."""
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer[9:12])


def wait_until(is_so: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    for _ in range(6000):
        if is_so():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never became so")
