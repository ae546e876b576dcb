"""The client against the real application, and against what is no application of ours."""

import copy
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import paintbox_client
from paintbox_client import (
    ApiError,
    Client,
    InputError,
    JobFailedError,
    JobTimeoutError,
    ServiceUnreachableError,
)
from tests.app.world import add_ready_dataset
from tests.builders import digit_members, digit_pngs, write_zip
from tests.paintbox_client.conftest import Served

LABELS = ["digit zero", "digit one", "[a label that looks like a list]"]


def test_the_public_names_are_sorted_and_there() -> None:
    assert paintbox_client.__all__ == sorted(paintbox_client.__all__)
    assert all(hasattr(paintbox_client, name) for name in paintbox_client.__all__)


def test_the_same_upload_gives_the_same_data_set_from_a_zip_or_a_folder(served: Served, tmp_path: Path) -> None:
    members = digit_members(range(2), train=2, val=1, test=1)
    archive = write_zip(tmp_path / "digits.zip", members)
    folder = tmp_path / "digits"
    for name, data in (members | {".DS_Store": b"not ours"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    first = served.client.upload_dataset(archive, "digits", ["a {} icon"], {"zero": "digit zero"})
    again = served.client.upload_dataset(archive, "digits", ["a {} icon"], {"zero": "digit zero"})
    assert first["id"] == again["id"]
    assert first["state"] == "ingesting"
    assert first["templates"] == ["a {} icon"]
    assert served.client.dataset(first["id"])["name"] == "digits"
    assert first["id"] in [item["id"] for item in served.client.datasets()]

    from_folder = [served.client.upload_dataset(folder, "digits")["id"] for _ in range(2)]
    assert from_folder[0] == from_folder[1] != first["id"]


def test_a_folder_without_files_is_not_sent(served: Served, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no files"):
        served.client.upload_dataset(tmp_path, "nothing")


def test_a_refusal_carries_its_code_and_what_to_do_next(served: Served, tmp_path: Path) -> None:
    with pytest.raises(ApiError) as missing:
        served.client.dataset("ds_nothing")
    assert (missing.value.status, missing.value.code) == (404, "not_found")
    assert missing.value.next in str(missing.value)

    (tmp_path / "text.zip").write_text("not a zip")
    with pytest.raises(ApiError) as refused:
        served.client.upload_dataset(tmp_path / "text.zip", "text")
    assert refused.value.status == 422

    with pytest.raises(ApiError, match=r"body\.tasks") as invalid:
        served.client.create_patch(name="no task", tasks=[])
    assert invalid.value.status == 422


def test_images_are_classified_from_files_and_from_bytes(served: Served, tmp_path: Path) -> None:
    (tmp_path / "zero.png").write_bytes(digit_pngs(0)[0])
    answer = served.client.classify([tmp_path / "zero.png", digit_pngs(0)[0]], LABELS)
    first, second = (result["predictions"] for result in answer["results"])
    assert first == second
    assert sorted(prediction["label"] for prediction in first) == sorted(LABELS)
    assert answer["version"] == served.client.active()["version"]
    (top,) = served.client.classify([digit_pngs(0)[0]], LABELS[2:], templates=["a {} icon"], top_k=1)["results"]
    assert [prediction["label"] for prediction in top["predictions"]] == LABELS[2:]


def test_a_key_says_for_whom_the_client_asks(served: Served) -> None:
    answer = served.client.classify([digit_pngs(0)[0]], LABELS, key="asker 1")
    assert answer["alias"] == "active"  # there is no canary


def test_the_labels_may_be_those_of_a_data_set(served: Served) -> None:
    dataset = add_ready_dataset(served.world.services, ["digit zero", "digit one"])
    (result,) = served.client.classify([digit_pngs(0)[0]], dataset=dataset)["results"]
    assert {prediction["label"] for prediction in result["predictions"]} == {"digit zero", "digit one"}


def test_a_version_is_activated_and_answers(served: Served) -> None:
    before = served.client.active()["version"]
    version_id = served.add_version()
    assert served.client.versions()[0]["id"] == version_id
    assert served.client.version(version_id)["terms"]
    assert served.client.activate(version_id, "a test")["version"] == version_id
    assert served.client.system()["serving_version"] == version_id
    served.client.activate(before)


def test_a_job_is_watched_until_it_has_succeeded(served: Served, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "watched.zip", digit_members(range(2), train=3))
    job_id = served.client.upload_dataset(archive, "watched")["job"]["id"]
    lease = served.lease(job_id)
    seen: list[tuple[str, str | None, float]] = []

    def work_on(job: dict) -> None:
        seen.append((job["status"], job["stage"], job["progress"]))
        if len(seen) == 1:
            served.report(lease, "decode", 0.5, 3.0)
        elif len(seen) == 2:
            served.succeed(lease)

    job = served.client.wait_for_job(job_id, work_on, poll_seconds=0.01)
    assert job["status"] == "succeeded"
    assert seen[1] == ("running", "decode", 0.5)
    assert len(seen) == 3
    assert served.client.job_events(job_id)[0]["message"] == "queued"
    assert job_id in [item["id"] for item in served.client.jobs()]


def test_a_job_waits_for_itself_wherever_it_came_from(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = write_zip(tmp_path / "waited.zip", digit_members(range(2), train=4))
    dataset = served.client.upload_dataset(archive, "waited")
    lease = served.lease(dataset.job.id)
    seen: list[str] = []

    def work_on(job: dict) -> None:
        seen.append(job["status"])
        if len(seen) == 1:
            served.succeed(lease)

    assert dataset.job.wait(progress=True, on_update=work_on).status == "succeeded"
    assert seen == ["running", "succeeded"]
    assert "100%" in capsys.readouterr().err
    listed = served.client.jobs()[0]
    again = (served.client.dataset(dataset.id).job, served.client.job(dataset.job.id), listed, copy.copy(listed))
    assert all(each.wait().status == "succeeded" for each in again)
    with pytest.raises(InputError, match="did not come from a client"):
        pickle.loads(pickle.dumps(dataset.job)).wait()


def test_a_job_that_fails_says_why(served: Served, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "failing.zip", digit_members(range(3), train=3))
    job_id = served.client.upload_dataset(archive, "failing")["job"]["id"]
    served.fail(served.lease(job_id), "empty_class", "Class 'x' has no images.")
    with pytest.raises(JobFailedError, match="has no images") as caught:
        served.client.wait_for_job(job_id)
    assert caught.value.code == "empty_class"


def test_a_cancelled_job_is_not_waited_for_any_longer_and_one_that_runs_not_for_ever(
    served: Served, tmp_path: Path
) -> None:
    archive = write_zip(tmp_path / "cancelled.zip", digit_members(range(4), train=3))
    job_id = served.client.upload_dataset(archive, "cancelled")["job"]["id"]
    with pytest.raises(JobTimeoutError, match="still queued"):
        served.client.wait_for_job(job_id, poll_seconds=0.01, timeout=0.05)
    assert served.client.cancel_job(job_id)["status"] == "cancelled"
    with pytest.raises(JobFailedError, match="cancelled"):
        served.client.wait_for_job(job_id)


def test_readiness_is_reported(served: Served) -> None:
    assert served.client.ready()["checks"]["database"]["ok"]


def test_where_nothing_listens_the_error_names_the_address() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with Client(url) as client, pytest.raises(ServiceUnreachableError, match=url):
        client.jobs()


@pytest.mark.parametrize("url", ["", "localhost:8321", "ftp://localhost", "http://"])
def test_what_is_no_address_is_refused_as_one(url: str) -> None:
    with pytest.raises(ServiceUnreachableError):
        Client(url)


class _Unsteady(BaseHTTPRequestHandler):
    """Breaks off the first two connections; answers what is not Paintbox's at /v1/system; sleeps at /v1/versions."""

    num_requests = 0

    def do_GET(self) -> None:
        type(self).num_requests += 1
        if type(self).num_requests <= 2:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if self.path.startswith("/v1/versions"):
            time.sleep(1)
        body = b"<html>a proxy</html>" if self.path == "/v1/system" else b'{"items": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError):  # the client may have gone
            self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def unsteady() -> Iterator[str]:
    _Unsteady.num_requests = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), _Unsteady) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_what_may_be_repeated_is_sent_again_when_the_connection_breaks(unsteady: str) -> None:
    with Client(unsteady) as client:
        assert client.jobs() == []
    assert _Unsteady.num_requests == 3


def test_what_must_not_happen_twice_is_sent_once(unsteady: str) -> None:
    with Client(unsteady) as client, pytest.raises(ServiceUnreachableError, match="may have been executed"):
        client.compose("once", [{"patch": "pt_1"}])
    assert _Unsteady.num_requests == 1


def test_an_answer_that_is_not_ours_is_said_to_be_so(unsteady: str) -> None:
    with Client(unsteady) as client:
        client.jobs()
        with pytest.raises(ApiError, match="not a response of Paintbox") as caught:
            client.system()
    assert caught.value.code == "unexpected_answer"


def test_a_service_that_stays_silent_is_said_to_be_slow_and_not_to_be_away(unsteady: str) -> None:
    with Client(unsteady, timeout=0.1, retry_seconds=2) as client:
        client.jobs()
        with pytest.raises(ServiceUnreachableError, match=r"did not respond in time .*Tried \d times") as caught:
            client.versions()
    assert "No Paintbox service is reachable" not in str(caught.value)
    assert caught.value.timed_out


def test_a_job_is_followed_over_broken_connections_until_it_has_ended(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_zip(tmp_path / "followed.zip", digit_members(range(6), train=3))
    job_id = served.client.upload_dataset(archive, "followed")["job"]["id"]
    lease, states, seen = served.lease(job_id), list[str](), list[str]()
    connect, connections = served.client._transport.events, list[int]()

    def breaking(path: str, last_id: int) -> Iterator[dict]:
        connections.append(last_id)
        for event in connect(path, last_id):
            yield event
            if "message" in event and len(connections) < 3:
                raise ServiceUnreachableError(served.url, "cut by a test")

    monkeypatch.setattr(served.client._transport, "events", breaking)
    for event in served.client.follow_job(job_id, on_update=lambda job: states.append(job["status"])):
        seen.append(event["message"])
        if event["message"] == "started":
            served.report(lease, "decode", 0.5, 3.0)
            served.succeed(lease)
    assert seen == ["queued", "started", "succeeded"]
    assert states[-1] == "succeeded"
    assert len(connections) == 3


def test_following_a_job_that_is_not_there_is_refused(served: Served) -> None:
    with pytest.raises(ApiError) as caught:
        list(served.client.follow_job("job_none"))
    assert caught.value.code == "not_found"


def test_a_list_longer_than_a_page_is_put_together(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = served.client.jobs(limit=1000)
    assert len(everything) > 3
    monkeypatch.setattr("paintbox_client.transport._LARGEST_PAGE", 2)
    assert served.client.jobs(limit=1000) == everything
    assert served.client.jobs(limit=3) == everything[:3]
    assert {job["status"] for job in served.client.jobs(status=["failed", "cancelled"])} == {"failed", "cancelled"}
