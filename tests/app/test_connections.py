"""What a peer may send, and how long it may keep the service waiting."""

import asyncio
import json
import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from app.http.connections.limits import ConnectionLimits, choose_max_connections, raise_open_files
from app.http.connections.table import Connections
from registry.errors import ConfigurationError
from tests.app.wire import MUCH, Wire, get, head, open_wire, post, read_all, status_of, wait_until

CHUNKED = head("POST", "/read", Transfer_Encoding="chunked", Connection="close")


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """A server whose peers are soon called silent."""
    times = {"head_seconds": 0.3, "body_seconds": 0.3, "keep_alive_seconds": 0.3, "drain_pause_seconds": 0.3}
    with open_wire(**times, send_seconds=1.0) as opened:
        yield opened


@pytest.fixture(scope="module")
def patient() -> Iterator[Wire]:
    """A server with the limits that the product has."""
    with open_wire() as opened:
        yield opened


def problem_of(answer: bytes, status: int) -> str:
    """The code of the problem that an answer must be."""
    assert status_of(answer) == status
    head, _, body = answer.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert b"connection: close" in head.lower()
    assert b"content-type: application/problem+json" in head.lower()
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["next"]
    return str(problem["code"])


def send_for_ever(connection: socket.socket, data: bytes, pause: float = 0.0) -> None:
    """Send until the server has ended the connection."""
    connection.settimeout(60)
    with suppress(ConnectionError):
        while True:
            connection.sendall(data)
            time.sleep(pause)


@pytest.mark.parametrize(
    "data",
    [
        get(A="x" * 70_000),
        get("/" + "x" * 70_000),
        get(**{f"A{index}": "" for index in range(200)}),
        get(A="x" * 70_000)[:-4],
        get("/" + "x" * 300_000)[:-20],
        b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 20_000,
        b"G" * 70_000,
    ],
    ids=["value", "url", "number", "value without end", "url without end", "number without end", "method"],
)
def test_a_head_that_is_too_large_is_refused_before_its_end(patient: Wire, data: bytes) -> None:
    answer = patient.talk(data)
    assert problem_of(answer, 400 if data.startswith(b"GG") else 431) in ("head_too_large", "bad_request")


def test_most_of_an_endless_head_is_never_read(patient: Wire) -> None:
    with patient.connect() as connection:
        connection.sendall(get(A="x" * 70_000)[:-4])
        assert problem_of(read_all(connection), 431) == "head_too_large"
        send_for_ever(connection, bytes(1 << 20))
    assert patient.connections.ended["drain"] > 0


@pytest.mark.parametrize(
    "tail",
    [b"1\r\nx\r\n0\r\nX: " + b"y" * 300_000, b"1\r\nx\r\n0\r\n" + b"a:b\r\n" * 60_000, b"1;" + b"y" * 300_000],
    ids=["trailer", "trailers", "chunk extension"],
)
def test_framing_without_end_is_refused(patient: Wire, tail: bytes) -> None:
    assert problem_of(patient.talk(CHUNKED + tail), 431) == "head_too_large"


def test_chunks_of_one_byte_are_read(patient: Wire) -> None:
    answer = patient.talk(CHUNKED + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")
    assert b"\r\n\r\n50000 " in answer


def test_trailers_are_no_headers(patient: Wire) -> None:
    with patient.connect() as connection:
        connection.sendall(CHUNKED + b"1\r\nx\r\n")
        time.sleep(0.05)
        connection.sendall(b"0\r\nAuthorization: Bearer x\r\n\r\n")
        assert b"authorization" not in read_all(connection)


def test_silence_before_a_request_ends_the_connection(wire: Wire) -> None:
    assert wire.talk(b"") == b""
    assert problem_of(wire.talk(b"GET / HT"), 408) == "head_timeout"
    assert problem_of(wire.talk(get()[:-2]), 408) == "head_timeout"


def test_a_head_that_drips_has_no_more_time_than_one_that_stops(wire: Wire) -> None:
    with wire.connect() as connection:
        connection.settimeout(0.05)
        for byte in get(A="x" * 1000):
            connection.sendall(bytes([byte]))
            try:
                answer = connection.recv(1000)
                break
            except TimeoutError:
                continue
    assert status_of(answer) == 408


def test_blank_lines_keep_no_connection_open(wire: Wire) -> None:
    with wire.connect() as connection:
        connection.sendall(get())
        send_for_ever(connection, b"\r\n", 0.05)


def test_an_idle_connection_lives_as_long_as_the_setting_says() -> None:
    with open_wire(keep_alive_seconds=1.0) as quick:
        started = time.monotonic()
        assert quick.talk(get() * 2).count(b"HTTP/1.1 200") == 2
        assert time.monotonic() - started >= 1.0
    assert ConnectionLimits().keep_alive_seconds >= 75  # balancers keep theirs for 60


@pytest.mark.parametrize("sent", [b"", b"abc"])
def test_a_body_that_stops_ends_the_request_and_what_came_is_kept(wire: Wire, sent: bytes) -> None:
    gone = wire.app.gone
    answer = wire.talk(head("POST", "/read", Content_Length=100) + sent)
    assert problem_of(answer, 408) == "body_timeout"
    wait_until(lambda: wire.app.gone == gone + 1)
    assert wire.app.bodies[-1] == sent


def test_a_body_that_drips_is_called_silent() -> None:
    with open_wire(body_seconds=0.5, min_bytes_per_second=1000) as slow, slow.connect() as connection:
        connection.sendall(head("POST", "/read", Content_Length=1000))
        while not slow.connections.ended["body_timeout"]:
            connection.sendall(b"x")
            time.sleep(0.05)
        assert problem_of(read_all(connection), 408) == "body_timeout"


def test_a_client_that_is_not_yet_told_to_go_on_is_not_called_silent(wire: Wire) -> None:
    ended = wire.connections.ended["body_timeout"]
    with wire.connect() as connection:
        connection.sendall(head("POST", "/later", Content_Length=3, Expect="100-continue", Connection="close"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        assert wire.connections.ended["body_timeout"] == ended
        connection.sendall(b"abc")
        assert status_of(read_all(connection)) == 200


def test_a_peer_that_takes_nothing_of_its_answer_is_cut_off(wire: Wire) -> None:
    before = wire.connections.ended["send_timeout"]
    with wire.connect() as connection:
        connection.sendall(get("/much", Connection="close"))
        wait_until(lambda: wire.connections.ended["send_timeout"] == before + 1)
        assert len(read_all(connection)) < MUCH


def test_a_peer_that_takes_its_answer_slowly_gets_all_of_it(wire: Wire) -> None:
    with wire.connect() as connection:
        connection.sendall(get("/much", Connection="close"))
        size = 0
        while part := connection.recv(300_000):
            size += len(part)
            time.sleep(0.08)
    assert size > MUCH


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_an_answer_before_the_body_arrives_though_all_of_the_body_is_sent_first(
    patient: Wire, version: str, connection: str
) -> None:
    with patient.connect() as peer:
        peer.sendall(post("/", bytes(40 << 20), version, Connection=connection))
        assert peer.recv(12) == b"HTTP/1.1 200"


def test_no_more_of_an_unwanted_body_is_read_than_the_limit() -> None:
    for closes in ("close", "keep-alive"):
        with open_wire(max_drain_bytes=1 << 20) as narrow:
            with narrow.connect() as peer:
                peer.sendall(head("POST", "/", Content_Length=1 << 40, Connection=closes))
                send_for_ever(peer, bytes(1 << 20))
            assert narrow.connections.ended["drain"] == 1


def test_an_unwanted_body_that_stops_ends_the_connection(wire: Wire) -> None:
    for closes in ("close", "keep-alive"):
        assert status_of(wire.talk(head("POST", "/", Content_Length=100, Connection=closes) + b"abc")) == 200


def test_beyond_the_limit_the_connection_that_was_silent_longest_makes_room() -> None:
    with open_wire(max_connections=3) as small, ExitStack() as stack:

        def opened(data: bytes) -> socket.socket:
            connection = stack.enter_context(small.connect())
            connection.sendall(data)
            return connection

        def waiting(number: int) -> None:
            wait_until(lambda: len(small.connections) == 3 and len(small.connections.waiting) == number)

        half = opened(head("POST", "/read", Content_Length=2, Connection="close") + b"x")
        busy = opened(get("/wait"))
        wait_until(lambda: len(small.connections) == 2 and len(small.connections.waiting) == 1)
        idle = opened(b"")
        waiting(2)
        assert status_of(small.talk(get(Connection="close"))) == 200  # in the place of the body that stopped
        assert read_all(half) == b""
        second = opened(get("/wait"))
        waiting(1)
        assert status_of(small.talk(get(Connection="close"))) == 200
        assert read_all(idle) == b""
        third = opened(get("/wait"))
        waiting(0)
        assert problem_of(small.talk(get()), 503) == "too_many_connections"
        for connection in (busy, second, third):
            connection.close()


def test_pipelined_requests_are_answered_in_order_and_bounded(patient: Wire) -> None:
    answer = patient.talk(
        b"".join(get(N=f"{index};", Connection="close" if index == 19 else "") for index in range(20))
    )
    assert [int(number) for number in re.findall(rb"n=(\d+)", answer)] == list(range(20))
    assert patient.talk(get() * 5000) == b""
    assert patient.connections.ended["too_many_pipelined"] > 0


def test_a_client_that_goes_is_noticed_by_the_request_that_others_are_pipelined_behind(patient: Wire) -> None:
    gone = patient.app.gone
    with patient.connect() as connection:
        connection.sendall(get("/wait") + get() + get())
    wait_until(lambda: patient.app.gone == gone + 1)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_a_wish_for_another_protocol_is_ignored_and_the_body_is_read(
    patient: Wire, protocol: bytes, framing: bytes
) -> None:
    head = b"POST /read HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
    answer = patient.talk((head + framing) * 3 + get(Connection="close"))
    assert answer.count(b"\r\n\r\n5 host=x") == 3
    assert answer.count(b"HTTP/1.1 200") == 4


def test_the_host_of_an_absolute_url_is_the_one_that_counts(patient: Wire) -> None:
    assert b"host=evil:8" in patient.talk(get("http://evil:8/", Connection="close"))
    assert b"host=[::1]" in patient.talk(get("http://[::1]/", Connection="close"))
    for url in ("http://user@evil/", "evil:80", "http://", "http:///x", "x"):
        assert problem_of(patient.talk(get(url)), 400) == "bad_request"


def test_what_is_no_http_is_refused_in_words(patient: Wire) -> None:
    for data in (b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\n\r\n"):
        assert problem_of(patient.talk(data), 400) == "bad_request"


def test_an_answer_of_unknown_length_ends_with_the_connection_in_http_1_0(patient: Wire) -> None:
    head, _, body = patient.talk(get("/stream", "1.0")).partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert body == b"one two three"
    assert b"5\r\nthree\r\n0\r\n\r\n" in patient.talk(get("/stream", Connection="close"))


class Peer:
    """A connection that notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []

    def check(self, now: float) -> None:
        self.calls.append(("check", now))

    def postpone(self, seconds: float) -> None:
        self.calls.append(("postpone", seconds))

    def crowd_out(self) -> None: ...

    def turn_away(self) -> None: ...


def test_time_in_which_the_service_did_not_read_is_not_held_against_a_peer() -> None:
    peer, connections = Peer(), Connections(ConnectionLimits(head_seconds=0.1))

    async def run() -> None:
        connections.add(peer, asyncio.get_running_loop())
        await asyncio.sleep(0.06)
        assert [name for name, _ in peer.calls][:1] == ["check"]
        peer.calls.clear()
        time.sleep(0.3)  # the event loop is busy
        await asyncio.sleep(0.001)

    asyncio.run(run())
    assert [name for name, _ in peer.calls][:2] == ["postpone", "check"]
    assert peer.calls[0][1] > 0.2


def test_the_limit_of_open_files_is_raised_and_leaves_room_for_other_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
        raise_open_files()
        raised, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert raised == min(hard, 65_536)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert choose_max_connections(None) == 128
        assert choose_max_connections(100) == 100
        with pytest.raises(ConfigurationError, match="PAINTBOX_MAX_CONNECTIONS: 1000 connections need 1128"):
            choose_max_connections(1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
