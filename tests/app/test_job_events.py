"""Events of jobs as they happen."""

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from app.__main__ import Server
from app.http.errors import TooManyStreamsError
from app.jobs.events import describe_event
from app.jobs.feeds import JobFeeds
from app.jobs.streaming import EventStreams
from contract.jobs import JobKind
from registry.jobs import Jobs
from registry.leases import Lease
from registry.tables import JobEventRow, JobRow
from tests.app.world import World, check_problem, serve

STREAM = {"Accept": "text/event-stream"}


@dataclass(frozen=True)
class Work:
    """A job that a test holds as a worker does."""

    world: World
    lease: Lease

    @property
    def path(self) -> str:
        return f"/v1/jobs/{self.lease.job_id}/events"

    def note(self, message: str) -> None:
        with self.world.services.database.write() as session:
            Jobs(session).note(self.lease, message)

    def succeed(self) -> None:
        with self.world.services.database.write() as session:
            Jobs(session).succeed(self.lease)

    def ids(self) -> list[int]:
        with self.world.services.database.read() as session:
            return [row.id for row in Jobs(session).events(self.lease.job_id, limit=100_000)]


@pytest.fixture
def work(world: World) -> Work:
    with world.services.database.write() as session:
        jobs = Jobs(session)
        job: JobRow = jobs.create(JobKind.PATCH, "pat_none")
        lease = jobs.lease(job.id, "a test", 600)
    assert lease is not None
    return Work(world, lease)


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    with serve(world) as url:
        yield url


def read(lines: Iterator[str]) -> list[dict[str, str]]:
    """The events of a stream, by their fields; comments left out."""
    events: list[dict[str, str]] = [{}]
    for line in lines:
        name, _, value = line.partition(": ")
        if not line:
            events.append({})
        elif name:
            events[-1][name] = value
    return [event for event in events if "data" in event]


def test_a_stream_tells_what_happened_and_closes_when_the_job_has_ended(client: TestClient, work: Work) -> None:
    work.note("a line\nand another")
    work.succeed()
    response = client.get(work.path, headers=STREAM)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    *told, last = read(iter(response.text.split("\n")))
    assert [json.loads(event["data"])["message"] for event in told] == [
        "queued",
        "started",
        "a line\nand another",
        "succeeded",
    ]
    assert [int(event["id"]) for event in told] == work.ids()
    assert last["event"] == "job"
    assert json.loads(last["data"])["status"] == "succeeded"


def test_pages_stay_what_a_client_gets_that_does_not_ask_for_a_stream(client: TestClient, work: Work) -> None:
    for accept in ("*/*", "application/json"):
        page = client.get(work.path, headers={"Accept": accept}).json()
        assert [event["id"] for event in page["items"]] == work.ids()


def test_a_stream_goes_on_after_the_last_event_and_says_when_there_is_none(client: TestClient, work: Work) -> None:
    work.succeed()
    first, *others = work.ids()
    response = client.get(work.path, headers={**STREAM, "Last-Event-ID": str(first)})
    assert [int(event["id"]) for event in read(iter(response.text.split("\n"))) if "id" in event] == others
    done = client.get(work.path, headers={**STREAM, "Last-Event-ID": str(others[-1])})
    assert (done.status_code, done.content) == (204, b"")


def test_what_cannot_be_streamed_is_a_problem(client: TestClient, work: Work) -> None:
    check_problem(client.get("/v1/jobs/job_none/events", headers=STREAM), 404, "not_found")
    check_problem(client.get(work.path, headers={**STREAM, "Last-Event-ID": "x"}), 422, "invalid_request")


def test_no_event_is_lost_or_comes_twice_over_200_cut_connections(address: str, work: Work) -> None:
    source, seen, cuts = random.Random(0), list[int](), 0

    def write() -> None:
        for index in range(500):
            work.note(f"event {index}")
            time.sleep(0.002)

    writer = threading.Thread(target=write)
    writer.start()
    with httpx2.Client(base_url=address) as http:
        while cuts < 200 or writer.is_alive():
            headers = {"Last-Event-ID": str(seen[-1])} if seen else {}
            with http.sse(work.path, headers=headers) as events:
                wanted = source.randint(1, 3)
                for event in events:
                    if event.event == "message" and event.data:
                        seen.append(int(event.id))
                        wanted -= 1
                    if wanted == 0 or (event.event == "job" and source.random() < 0.5):
                        break
            cuts += 1
            if cuts == 200:
                writer.join()
                work.succeed()
        with http.sse(work.path, headers={"Last-Event-ID": str(seen[-1])}) as events:
            seen += [int(event.id) for event in events if event.event == "message" and event.data]
    assert cuts >= 200
    assert seen == work.ids()
    assert len(seen) == 503


def collect(streams: EventStreams, job_id: str, seconds: float, **during: Any) -> tuple[bytes, float]:
    """What a stream sends within some seconds, and how long it was open."""
    chunks: list[bytes] = []

    async def run() -> None:
        with anyio.move_on_after(seconds):
            async for chunk in streams.open(job_id, 0):
                chunks.append(chunk)
                for act in during.values():
                    act()

    started = time.monotonic()
    anyio.run(run)
    return b"".join(chunks), time.monotonic() - started


def test_streams_end_soon_once_the_server_stops(world: World, work: Work) -> None:
    streams = EventStreams(world.services.database, max_streams=2)
    sent, seconds = collect(streams, work.lease.job_id, 30, stop=streams.stop)
    assert b"retry: 1000" in sent
    assert seconds < 10


def test_an_idle_stream_says_that_it_is_alive(world: World, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.jobs.streaming.KEEP_ALIVE_SECONDS", 0.3)
    sent, _ = collect(EventStreams(world.services.database, max_streams=2), work.lease.job_id, 2)
    assert sent.count(b": ping\n\n") >= 2


def test_a_changed_job_is_told_of_once(world: World, work: Work) -> None:
    def report() -> None:
        with world.services.database.write() as session:
            Jobs(session).report(work.lease, stage="finetune", progress=0.5, eta_seconds=3.0)

    sent, _ = collect(EventStreams(world.services.database, max_streams=2), work.lease.job_id, 2, report=report)
    states = [json.loads(event["data"]) for event in read(iter(sent.decode().split("\n"))) if event.get("event")]
    assert [state["progress"] for state in states] in ([0.0, 0.5], [0.5])


def test_there_are_no_more_streams_than_may_be_and_a_closed_one_frees_its_place(world: World, work: Work) -> None:
    streams = EventStreams(world.services.database, max_streams=1)

    async def run() -> None:
        first = streams.open(work.lease.job_id, 0)
        await anext(first)
        with pytest.raises(TooManyStreamsError, match="1 event streams"):
            streams.open(work.lease.job_id, 0)
        await first.aclose()  # type: ignore[attr-defined]
        await anext(streams.open(work.lease.job_id, 0))

    anyio.run(run)


def test_a_place_is_taken_as_soon_as_it_is_given_and_one_owner_has_only_so_many(world: World, work: Work) -> None:
    streams = EventStreams(world.services.database, max_streams=5, max_streams_of_one=2)

    async def run() -> None:
        held = [streams.open(work.lease.job_id, 0, "alice") for _ in range(2)]  # none of them has begun
        with pytest.raises(TooManyStreamsError):
            streams.open(work.lease.job_id, 0, "alice")
        others = [streams.open(work.lease.job_id, 0, f"owner {number}") for number in range(3)]
        with pytest.raises(TooManyStreamsError):
            streams.open(work.lease.job_id, 0, "bob")
        for each in (*held, *others):
            await each.aclose()
            await each.aclose()
        await streams.open(work.lease.job_id, 0, "alice").aclose()

    anyio.run(run)
    assert streams._open.total() == 0


def test_many_streams_cost_the_database_as_much_as_one(world: World, work: Work) -> None:
    streams, statements = EventStreams(world.services.database, max_streams=100), list[str]()
    engine = world.services.database.engine

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    received = [list[bytes]() for _ in range(60)]

    async def read_on(chunks: list[bytes]) -> None:
        async for chunk in streams.open(work.lease.job_id, work.ids()[-1]):
            chunks.append(chunk)

    async def run() -> None:
        async with anyio.create_task_group() as readers:
            for chunks in received:
                readers.start_soon(read_on, chunks)
            await anyio.sleep(1)
            statements.clear()
            for number in range(5):
                await anyio.to_thread.run_sync(work.note, f"event {number}")
                await anyio.sleep(0.3)
            looks = [each for each in statements if "max(job_events.id)" in each]
            reads = [each for each in statements if "FROM job_events" in each and each not in looks]
            assert len(looks) < 60
            assert len(reads) < 60  # 5 events to 60 readers
            await anyio.to_thread.run_sync(work.succeed)

    anyio.run(run)
    event.remove(engine, "before_cursor_execute", note)
    told = [[each["data"] for each in read(iter(b"".join(chunks).decode().split("\n")))] for chunks in received]
    assert all(len([data for data in each if '"event ' in data]) == 5 for each in told)
    assert all('"succeeded"' in each[-1] for each in told)


def test_a_reader_that_falls_behind_what_is_kept_reads_the_rest_by_itself(world: World, work: Work) -> None:
    streams = EventStreams(world.services.database, max_streams=1)

    async def run() -> bytes:
        stream = streams.open(work.lease.job_id, 0)
        received = await anext(stream) + await anext(stream)
        await anyio.to_thread.run_sync(write_many)
        await anyio.sleep(1)
        return received + b"".join([chunk async for chunk in stream])

    def write_many() -> None:
        for number in range(700):
            work.note(f"event {number}")
        work.succeed()

    told = read(iter(anyio.run(run).decode().split("\n")))
    assert [int(each["id"]) for each in told if "id" in each and "event" not in each] == work.ids()
    assert json.loads(told[-1]["data"])["status"] == "succeeded"


def test_streams_go_on_when_the_database_was_away(world: World, work: Work) -> None:
    streams = EventStreams(world.services.database, max_streams=1)
    feeds = streams._feeds
    looks = list[int]()

    def look() -> None:
        looks.append(1)
        if len(looks) in (2, 3):
            raise OperationalError("SELECT", {}, Exception("away"))
        JobFeeds._look(feeds)
        if len(looks) == 5:
            work.succeed()

    feeds._look = look  # type: ignore[method-assign]
    sent, _ = collect(streams, work.lease.job_id, 30)
    assert b'"succeeded"' in sent
    assert len(looks) > 5


def test_a_server_that_is_told_to_stop_ends_its_streams(world: World, work: Work) -> None:
    app = FastAPI()
    streams = EventStreams(world.services.database, max_streams=1)
    app.state.services = SimpleNamespace(streams=streams, engine=world.services.engine)
    server = Server(uvicorn.Config(app), app, drain_seconds=0)
    _, seconds = collect(
        app.state.services.streams, work.lease.job_id, 30, stop=lambda: server.handle_exit(signal.SIGTERM, None)
    )
    assert server.should_exit
    assert seconds < 10


@pytest.mark.parametrize(
    ("message", "data", "shape"),
    [
        ("fine-tuning", {"step": 3, "loss": None}, "FineTuningEvent"),
        ("fine-tuning", {"left_out_bytes": 70_000}, "FineTuningEvent"),
        ("queued", None, "QueuedEvent"),
        ("failed", {"code": "x", "detail": "y", "colour": 1}, "FailedEvent"),
        ("fine-tuning", {"step": "many"}, "OtherEvent"),
        ("of another release", {"any": ["thing"]}, "OtherEvent"),
    ],
)
def test_events_are_shown_as_they_were_stored_whatever_they_hold(message: str, data: Any, shape: str) -> None:
    row = JobEventRow(id=7, job_id="job_1", at=datetime.now(UTC), level="info", message=message, data=data)
    event = describe_event(row)
    assert type(event).__name__ == shape
    assert json.loads(event.model_dump_json(exclude_unset=True))["data"] == data
