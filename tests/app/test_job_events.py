"""Events of jobs as they happen."""

import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.__main__ import Server
from app.errors import TooManyStreamsError
from app.jobs.streaming import EventStreams
from registry.contract import JobKind
from registry.jobs import Jobs
from registry.leases import Lease
from registry.tables import JobRow
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
    monkeypatch.setattr("app.jobs.streaming._KEEP_ALIVE_SECONDS", 0.3)
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
