"""The installation as it happens: one stream of all jobs and aliases."""

import json
import random
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import pytest
from starlette.testclient import TestClient

from app.events.streaming import InstallationStreams
from app.http.errors import TooManyStreamsError
from app.jobs.streaming import EventStreams
from contract.jobs import JobKind
from registry.jobs import Jobs
from registry.leases import Lease
from registry.patches import Patches
from tests.app.patched import add_patch
from tests.app.test_job_events import STREAM
from tests.app.world import World, check_problem, serve


def start(world: World, subject: str = "pt_none") -> Lease:
    with world.services.database.write() as session:
        jobs = Jobs(session)
        lease = jobs.lease(jobs.create(JobKind.PATCH, subject).id, "a test", 600)
    assert lease is not None
    return lease


def succeed(world: World, lease: Lease) -> None:
    with world.services.database.write() as session:
        Jobs(session).succeed(lease)


def listed(client: TestClient, **query: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/events", params=query).raise_for_status().json()
    return found


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    with serve(world) as url:
        yield url


def test_a_page_tells_what_happened_since_the_last_one(world: World, client: TestClient) -> None:
    before = listed(client)["next_after"]
    succeed(world, start(world))
    client.put("/v1/aliases/canary", json={"version": 1, "reason": "a test"})
    client.delete("/v1/aliases/canary")
    page = listed(client, after=before)
    assert [each["message"] for each in page["items"]] == ["queued", "started", "succeeded", "moved", "deleted"]
    job, move = page["items"][0]["job"], page["items"][3]["move"]
    assert (job["kind"], job["subject_id"]) == ("patch", "pt_none")
    assert (move["alias"], move["to_version"], move["reason"]) == ("canary", 1, "a test")
    assert listed(client, after=page["items"][1]["id"])["items"] == page["items"][2:]
    assert listed(client, limit=2)["items"] == page["items"][-2:]


def test_an_event_names_what_the_job_is_about(world: World, client: TestClient) -> None:
    patch = add_patch(world)
    with world.services.database.write() as session:
        Jobs(session).create(JobKind.PATCH, patch.id)
        name = Patches(session).get(patch.id).name
    assert listed(client, limit=1)["items"][0]["job"]["name"] == name


@pytest.mark.parametrize("after", ["x", "1", "-", "1-2-3", "9" * 60])
def test_a_position_that_is_none_is_refused(client: TestClient, after: str) -> None:
    check_problem(client.get("/v1/events", params={"after": after}), 422, "invalid_request")
    check_problem(client.get("/v1/events", headers={**STREAM, "Last-Event-ID": after}), 422, "invalid_request")


def test_a_stream_misses_nothing_over_cut_connections(world: World, address: str) -> None:
    source, seen = random.Random(0), list[str]()
    done = threading.Event()

    def work() -> None:
        for number in range(40):
            succeed(world, start(world, f"pt_{number}"))
        done.set()

    with httpx2.Client(base_url=address) as http:
        position = http.get("/v1/events").json()["next_after"]
        worker = threading.Thread(target=work)
        worker.start()
        while not done.is_set() or len(seen) < 120:
            with http.sse("/v1/events", headers={"Last-Event-ID": position}) as events:
                wanted = source.randint(1, 6)
                for event in events:
                    if event.event == "message" and event.data:
                        seen.append(json.loads(event.data)["message"])
                        position, wanted = event.id, wanted - 1
                    if wanted == 0 or len(seen) == 120:
                        break
        worker.join()
    assert seen == ["queued", "started", "succeeded"] * 40


def test_a_stream_tells_where_it_starts_and_how_jobs_go_on(world: World, address: str) -> None:
    with httpx2.Client(base_url=address) as http, http.sse("/v1/events") as events:
        stream = (event for event in events if event.data)
        first = next(stream)
        assert (first.event, json.loads(first.data)) == ("position", first.id)
        lease = start(world, "pt_progress")
        about = (event for event in stream if lease.job_id in event.data)
        assert [next(about).event for _ in range(3)] == ["message", "message", "job"]
        with world.services.database.write() as session:
            Jobs(session).report(lease, stage="fine-tuning", progress=0.5, eta_seconds=None)
        states = (json.loads(event.data) for event in stream if event.event == "job")
        assert any(state["id"] == lease.job_id and state["progress"] == 0.5 for state in states)
    succeed(world, lease)


def test_streams_count_with_those_of_single_jobs(world: World) -> None:
    lease = start(world)
    streams = EventStreams(world.services.database, max_streams=1)
    everything = InstallationStreams(world.services.database, streams)
    opened = everything.open(None, None)
    with pytest.raises(TooManyStreamsError):
        streams.open(lease.job_id, 0)
    anyio.run(opened.aclose)
    anyio.run(streams.open(lease.job_id, 0).aclose)
    succeed(world, lease)
