"""Receivers of webhooks, good and slow, and jobs that end for them to be told of."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from app.settings import parse_secret
from contract.jobs import JobKind
from registry.database import Database
from registry.deliveries import Deliveries
from registry.jobs import Jobs

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = parse_secret(SECRET)


@dataclass
class Receiver:
    """A real HTTP server; `answers` are the statuses of the next requests, 200 once they are used up."""

    port: int = 0
    answers: list[int] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, headers, _ in self.requests]


@contextmanager
def receive() -> Iterator[Receiver]:
    """A receiver that listens."""
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            state.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(state.answers.pop(0) if state.answers else 200)
            self.send_header("location", f"{state.origin}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

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


def end_job(database: Database, url: str) -> str:
    with database.write() as session:
        jobs = Jobs(session)
        job = jobs.create(JobKind.PATCH, "pt_1", webhook_url=url)
        jobs.request_cancel(job.id)
    return job.id


def state_of(database: Database, job_id: str) -> tuple[str, int, str | None]:
    with database.read() as session:
        row = Deliveries(session).newest_of(job_id)
    assert row is not None
    return row.state, row.num_tries, row.last_error


class Dripper:
    """A receiver that never finishes an answer: it sends a byte now and then, of the head or of the body."""

    def __init__(self, head: bytes = b"HTTP/1.1 200 OK\r\nx: ") -> None:
        self._head = head
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.paths: list[bytes] = []
        self.most_open = self.num_open = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._drip, args=(client,)))
            self._threads[-1].start()

    def _drip(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            self.paths.append(client.recv(65_536).split(b" ")[1])
            self.num_open += 1
            self.most_open = max(self.most_open, self.num_open)
            client.sendall(self._head)
            client.settimeout(0.05)
            while not self._stopping.is_set():
                client.sendall(b"x")
                with suppress(TimeoutError):
                    if client.recv(1) == b"":
                        break
        self.num_open -= 1


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
