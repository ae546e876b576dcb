"""What the log tells of a request: its id, whose key it carried, which job it was about; never the key itself."""

import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import structlog
from starlette.testclient import TestClient

from app.jobs.dispatcher import MemoryDispatcher
from app.main import create_app
from app.runtime.logs import LateStream, set_up_logging
from app.settings import AppSettings
from registry.jobs import Jobs
from tests.app.world import LOCAL, add_ready_dataset

BOOTSTRAP = "canary0123456789abcdef0123456789"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the process writes to standard error, logged as in production."""
    before, root, stream = structlog.get_config(), logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    with redirect_stderr(stream):
        set_up_logging("debug")
    yield stream
    structlog.configure(**before)
    root.handlers, root.level = handlers, level


@pytest.fixture
def client(tmp_path: Path, written: io.StringIO) -> Iterator[TestClient]:
    settings = AppSettings.load(data_dir=tmp_path / "data", device="cpu", api_key=BOOTSTRAP)
    with TestClient(create_app(settings, MemoryDispatcher()), LOCAL) as client:
        yield client


@pytest.fixture
def key(client: TestClient) -> dict[str, Any]:
    body = {"name": "canary", "scopes": ["read", "write"]}
    made: dict[str, Any] = client.post("/v1/keys", json=body, headers=bearer(BOOTSTRAP)).json()
    return made


def bearer(token: str, request_id: str = "find-me") -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "x-request-id": request_id}


def lines(written: io.StringIO, request_id: str) -> list[dict[str, Any]]:
    parsed = [json.loads(line) for line in written.getvalue().splitlines()]
    return [line for line in parsed if line.get("request_id") == request_id]


def test_a_request_is_one_line_with_its_id_and_the_keys(
    client: TestClient, written: io.StringIO, key: dict[str, Any]
) -> None:
    client.get("/v1/jobs/job_nothing", headers=bearer(key["token"], "looks-at-a-job"))
    (line,) = lines(written, "looks-at-a-job")
    assert (line["event"], line["status"], line["route"]) == ("request", 404, "/v1/jobs/{job_id}")
    assert (line["key_id"], line["job_id"]) == (key["id"], "job_nothing")


def test_whatever_is_logged_on_the_way_carries_both_ids(
    client: TestClient, written: io.StringIO, key: dict[str, Any]
) -> None:
    services = client.app.state.services  # type: ignore[attr-defined]
    task = add_ready_dataset(services, ["a", "b"], splits=("train", "validation", "test"))
    body = {"name": "p", "tasks": [task]}
    job = client.post("/v1/patches", json=body, headers=bearer(key["token"], "asks")).json()["job"]
    queued, request = lines(written, "asks")
    assert (queued["event"], queued["key_id"], queued["job_id"]) == ("patch queued", key["id"], job["id"])
    assert request["event"] == "request"
    with services.database.read() as session:  # a trainer binds it to every line of its log
        assert Jobs(session).request_id(job["id"]) == "asks"


def test_a_request_without_a_key_says_nothing_of_one(client: TestClient, written: io.StringIO) -> None:
    client.get("/livez", headers={"x-request-id": "probe"})
    (line,) = lines(written, "probe")
    assert "key_id" not in line


def test_no_key_is_in_the_log_whatever_becomes_of_the_request(
    client: TestClient, written: io.StringIO, key: dict[str, Any]
) -> None:
    secret = key["token"].split("_", 2)[2]
    for token in (key["token"], BOOTSTRAP, key["token"] + "x", BOOTSTRAP[:-1]):
        client.get("/v1/system", headers=bearer(token))
        client.post("/v1/classify", headers=bearer(token))
        client.get("/v1/nothing", headers=bearer(token))
    with client.app.state.services.database.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql("DROP TABLE job_events")
        connection.exec_driver_sql("DROP TABLE jobs")
    assert client.get("/v1/jobs", headers=bearer(key["token"])).status_code == 500
    client.delete(f"/v1/keys/{key['id']}", headers=bearer(BOOTSTRAP))
    assert client.get("/v1/jobs", headers=bearer(key["token"])).status_code == 401
    logged = written.getvalue()
    assert key["id"] in logged
    assert secret not in logged
    assert BOOTSTRAP[:-1] not in logged
    assert secret not in client.get("/metrics").text


def test_lines_are_written_late_but_all_and_in_order() -> None:
    written = io.StringIO()
    stream = LateStream(written)
    stream.write("first\n")
    deadline = time.monotonic() + 30
    while not written.getvalue() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert written.getvalue() == "first\n"
    for number in range(1000):
        stream.write(f"{number}\n")
    stream.close()
    assert written.getvalue().split() == ["first", *map(str, range(1000))]


def test_nobody_waits_for_a_reader_of_the_log_that_is_slow_or_gone() -> None:
    class Stuck(io.StringIO):
        entered, opened = threading.Event(), threading.Event()

        def write(self, text: str) -> int:
            self.entered.set()
            assert self.opened.wait(30)
            raise BrokenPipeError

    stuck = Stuck()
    stream = LateStream(stuck)
    stream.write("a line\n")
    assert stuck.entered.wait(30)
    start = time.monotonic()
    for _ in range(1000):
        stream.write("another\n")
        stream.flush()
    assert time.monotonic() - start < 5
    stuck.opened.set()
    stream.close()
