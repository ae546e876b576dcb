"""While the database is away, locked or full, classification goes on and everything else says which of these it is."""

import itertools
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy import event
from starlette.testclient import TestClient

from app.runtime.periodic import PeriodicThread
from registry.errors import DatabaseUnavailableError
from tests.app.world import World, add_version, check_plain_error, check_problem
from tests.builders import digit_pngs

ROUTES = [
    ("GET", "/v1/datasets", None),
    ("GET", "/v1/jobs/job_1", None),
    ("GET", "/v1/aliases/active/history", None),
    ("POST", "/v1/label-sets", {"labels": ["a", "b"]}),
    ("PUT", "/v1/aliases/canary", {"version": 1}),
    ("DELETE", "/v1/versions/1", None),
    ("POST", "/v1/versions/1/verify", None),
    ("POST", "/v1/keys", {"name": "ops", "scopes": ["admin"]}),
]


@contextmanager
def away(world: World) -> Iterator[None]:
    """The database's file cannot be opened."""
    database, data = world.services.database, world.services.settings.data_dir
    database.close()
    moved = {path: path.with_name("away-" + path.name) for path in data.glob("paintbox.db*")}
    for path, aside in moved.items():
        path.rename(aside)
    (data / "paintbox.db").mkdir()
    try:
        yield
    finally:
        database.close()
        (data / "paintbox.db").rmdir()
        for path, aside in moved.items():
            aside.rename(path)


@contextmanager
def each_connection(world: World, pragma: str) -> Iterator[None]:
    """Connections of the service with another setting."""

    def set_it(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA {pragma}")

    engine = world.services.database.engine
    engine.dispose()
    event.listen(engine, "connect", set_it)
    try:
        yield
    finally:
        event.remove(engine, "connect", set_it)
        engine.dispose()


def classify(client: TestClient, **options: object) -> int:
    form = {"candidate_labels": '["cat", "dog"]', **options}
    response = client.post("/v1/classify", files={"images": ("a.png", digit_pngs(0)[0])}, data=form)
    assert response.status_code == 200, response.text
    return int(response.json()["version"])


def test_what_needs_the_database_is_answered_503_and_works_again(world: World) -> None:
    with away(world):
        for method, path, body in ROUTES:
            response = world.client.request(method, path, json=body)
            problem = check_problem(response, 503, "database_unavailable")
            assert response.headers["retry-after"] == "5"
            assert "its file cannot be opened" in problem["detail"]
            assert "sqlite" not in response.text.lower()
        assert "unavailable" in check_plain_error(world.client.get("/v2/models/paintbox"), 503)
    assert world.client.get("/v1/datasets").status_code == 200


def test_classification_of_what_is_in_memory_goes_on(world: World) -> None:
    version, _ = add_version(world.services, world.base, seed=5)
    assert classify(world.client, version=version) == version
    with away(world):
        assert classify(world.client) == 1
        assert classify(world.client, version=1) == 1
        assert classify(world.client, version=version) == version
        form = {"candidate_labels": '["cat", "dog"]', "version": "999"}
        response = world.client.post("/v1/classify", files={"images": ("a.png", digit_pngs(0)[0])}, data=form)
        check_problem(response, 503, "database_unavailable")


def test_health_and_the_system_page_tell_it(world: World) -> None:
    before = world.client.get("/v1/system").json()
    with away(world):
        ready = world.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert "its file cannot be opened" in ready.json()["checks"]["database"]["detail"]
        system = world.client.get("/v1/system").json()
    assert "its file cannot be opened" in system["database_fault"]
    assert (system["serving_version"], system["active_version"]) == (1, None)
    assert [each["id"] for each in system["replicas"]] == [before["replica"]]
    assert before["database_fault"] is None


def test_a_database_that_somebody_locks_for_long_is_503_for_writers_only(world: World) -> None:
    path = world.services.database.sqlite_path
    assert path is not None
    holder = sqlite3.connect(path, isolation_level=None)
    with each_connection(world, "busy_timeout=50"):
        holder.execute("BEGIN IMMEDIATE")
        problem = check_problem(
            world.client.post("/v1/label-sets", json={"labels": ["a", "b"]}), 503, "database_unavailable"
        )
        assert "locked" in problem["detail"]
        assert world.client.get("/v1/system").json()["database_fault"] is None
        assert world.client.get("/v1/label-sets").status_code == 200
        holder.execute("ROLLBACK")
        assert world.client.post("/v1/label-sets", json={"labels": ["a", "b"]}).status_code == 201
    holder.close()


def test_a_database_without_room_is_507(world: World) -> None:
    with each_connection(world, "max_page_count=1"):
        labels = [f"{number} {'x' * 200}" for number in range(500)]
        response = world.client.post("/v1/label-sets", json={"labels": labels})
        check_problem(response, 507, "storage_full")
        assert response.headers["retry-after"]
        assert world.client.get("/v1/system").status_code == 200


def test_a_periodic_action_that_fails_again_and_again_is_one_line() -> None:
    num_rounds, done = 20, threading.Event()
    rounds = itertools.count(1)

    def fail_for_a_while() -> None:
        if next(rounds) < num_rounds:
            raise DatabaseUnavailableError("it is locked")
        done.set()

    with structlog.testing.capture_logs() as logs:
        thread = PeriodicThread("a-test", 0.001, fail_for_a_while)
        thread.start()
        assert done.wait(30)
        thread.stop()
    assert [each["event"] for each in logs] == ["periodic action failed", "periodic action recovered"]
