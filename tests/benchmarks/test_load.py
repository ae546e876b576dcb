import asyncio
import io
import json
import math
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import uvloop
from _serving.bodies import group, post, post_images, sample_photos
from _serving.connections import Connections
from _serving.load import Answer, Load, arrivals, percentile, throughput
from _serving.mixed import Judge
from python_multipart import parse_form

Handler = Callable[[bytes], Awaitable[tuple[int, bytes]]]
REQUESTS = [post(f"/{index}", "text/plain", b"x" * index) for index in range(5)]


class TinyServer:
    """Answers each request after a while, and counts how many are under way."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.stalled = asyncio.Event()
        self.stalled.set()
        self.status = 200
        self.under_way = 0
        self.most_under_way = 0
        self.num_connections = 0
        self.bodies: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.seconds)
        await self.stalled.wait()
        self.under_way -= 1
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % self.status)
        await writer.drain()


@asynccontextmanager
async def tiny_server(seconds: float = 0.0) -> AsyncIterator[tuple[TinyServer, Load]]:
    tiny = TinyServer(seconds)
    server = await asyncio.start_server(tiny.serve, "127.0.0.1", 0)
    connections = Connections(server.sockets[0].getsockname()[1])
    try:
        yield tiny, Load(connections.ask, REQUESTS)
    finally:
        connections.close()
        server.close()
        await asyncio.sleep(0.01)


def answer(ended: float, status: int = 200) -> Answer:
    return Answer(0, 0.0, 0.0, ended, status)


def test_a_closed_loop_keeps_exactly_so_many_requests_in_flight_on_as_many_connections() -> None:
    async def measure() -> None:
        async with tiny_server(0.01) as (tiny, load):
            await load.closed(7, 0.3)
            assert tiny.most_under_way == 7
            assert tiny.num_connections == 7
            assert len(load.answers) >= 7 * 10

    uvloop.run(measure())


def test_each_request_arrives_whole_and_all_take_part() -> None:
    async def measure() -> None:
        async with tiny_server() as (tiny, load):
            await load.closed(2, 0.1)
            assert set(tiny.bodies) == {b"x" * index for index in range(5)}

    uvloop.run(measure())


def test_in_an_open_loop_a_stall_is_charged_to_everybody_who_was_due_meanwhile() -> None:
    async def measure() -> None:
        async with tiny_server() as (tiny, load):
            tiny.stalled.clear()
            asyncio.get_running_loop().call_later(0.3, tiny.stalled.set)
            await load.open(200, 0.4)
            waited = [each for each in load.answers if each.due - load.answers[0].due < 0.2]
            assert len(waited) > 20
            assert min(each.latency_ms for each in waited) > 80
            assert max(each.latency_ms for each in waited) > 250

    uvloop.run(measure())


def test_a_generator_that_is_late_charges_the_server_from_when_the_request_was_due() -> None:
    async def blocked(request: bytes) -> tuple[int, bytes]:
        time.sleep(0.02)  # the loop stands still, so that nothing can be sent in time
        return 200, b""

    load = Load(blocked, REQUESTS)
    uvloop.run(load.open(500, 0.1))
    assert load.answers[-1].sent - load.answers[-1].due > 0.3
    assert load.answers[-1].latency_ms > 300


def test_arrivals_are_a_poisson_process_and_the_same_for_a_seed() -> None:
    moments = list(arrivals(100, 100, seed=1))
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert moments == list(arrivals(100, 100, seed=1))
    assert moments != list(arrivals(100, 100, seed=2))
    assert statistics.mean(gaps) == pytest.approx(0.01, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(0.01, rel=0.05)


def test_answers_other_than_200_are_kept_apart() -> None:
    async def measure() -> None:
        async with tiny_server() as (tiny, load):
            tiny.status = 429
            await load.closed(1, 0.05)
            assert {each.status for each in load.answers} == {429}
            assert throughput(load.answers, 0, math.inf) == 0

    uvloop.run(measure())


def test_a_connection_that_breaks_is_an_answer_without_status() -> None:
    load = Load(Connections(1).ask, REQUESTS)  # nobody listens on port 1
    uvloop.run(load.open(100, 0.1))
    assert {each.status for each in load.answers} == {0}


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1.0) == 100
    assert percentile([3.0], 0.01) == 3
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 0.9])
def test_throughput_does_not_depend_on_where_the_window_cuts_the_batches(shift: float) -> None:
    answers = [answer(float(second)) for second in range(1, 21) for _ in range(32)]
    assert throughput(answers, 2 + shift, 12 + shift) == pytest.approx(32)


def test_a_multipart_body_is_read_by_a_parser_of_others() -> None:
    request = post_images("/classify", "images", [b"\xff\xd8one", b"two"], {"top_k": "5"})
    head, _, body = request.partition(b"\r\n\r\n")
    lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    fields, files = {}, []

    def on_field(found: object) -> None:
        fields[found.field_name] = found.value  # type: ignore[attr-defined]

    def on_file(found: object) -> None:
        found.file_object.seek(0)  # type: ignore[attr-defined]
        files.append(found.file_object.read())  # type: ignore[attr-defined]

    parse_form({name.decode(): value for name, value in lines.items()}, io.BytesIO(body), on_field, on_file)
    assert int(lines[b"Content-Length"]) == len(body)
    assert fields == {b"top_k": b"5"}
    assert files == [b"\xff\xd8one", b"two"]


def test_groups_hold_as_many_photographs_as_asked_for() -> None:
    groups = list(group([b"a", b"b", b"c"], 16))
    assert {len(each) for each in groups} == {16}
    assert list(group([b"a", b"b"], 1)) == [[b"a"], [b"b"]]


def test_there_are_photographs_without_a_folder() -> None:
    photos = sample_photos()
    assert len({len(photo) for photo in photos}) == len(photos) == 10
    assert all(photo.startswith(b"\xff\xd8") for photo in photos)


EXPECTED = {"2": [{"cat": 0.1, "dog": 0.2}], "3": [{"cat": 0.3, "dog": 0.1}]}


def said(version: int, cat: float, dog: float) -> bytes:
    predictions = [{"label": "cat", "cosine": cat}, {"label": "dog", "cosine": dog}]
    return json.dumps({"version": version, "results": [{"predictions": predictions}]}).encode()


def test_an_answer_of_other_weights_than_it_says_is_mixed() -> None:
    judge = Judge(EXPECTED)
    judge.look(0, said(2, 0.1, 0.2))
    judge.look(0, said(3, 0.3000001, 0.1))
    assert (judge.verdicts["right"], judge.verdicts["mixed"]) == (2, 0)
    judge.look(0, said(2, 0.3, 0.1))
    judge.look(0, said(4, 0.3, 0.1))
    assert judge.verdicts["mixed"] == 2


def test_versions_that_a_photograph_does_not_tell_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="photograph 0"):
        Judge({"2": [{"cat": 0.1}], "3": [{"cat": 0.101}]})
