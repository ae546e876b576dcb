"""A real Paintbox service, and an HTTP server in the place of Label Studio that has images."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.paintbox_client.conftest import Served, served

__all__ = ["Served", "served"]
TOKEN = "0123456789abcdef"


@dataclass
class ImageServer:
    """Serves files to whoever sends the token, and redirects; `asked` has `(path, authorization)` of each request."""

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    needs_token: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def listen_for_images() -> Iterator[ImageServer]:
    state = ImageServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization")
            state.asked.append((self.path, given))
            if self.path in state.redirects:
                return self._answer(302, location=state.redirects[self.path])
            if state.needs_token and given not in (f"Token {TOKEN}", "Bearer access"):
                return self._answer(401)
            content = state.files.get(self.path)
            return self._answer(404) if content is None else self._answer(200, content)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.asked.append((self.path, None))
            is_known = self.path == "/api/token/refresh" and b"a.b.c" in body
            return self._answer(200, b'{"access": "access"}') if is_known else self._answer(401)

        def _answer(self, status: int, content: bytes = b"", location: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def studio() -> Iterator[ImageServer]:
    with listen_for_images() as server:
        yield server


@pytest.fixture
def elsewhere() -> Iterator[ImageServer]:
    with listen_for_images() as server:
        yield server
