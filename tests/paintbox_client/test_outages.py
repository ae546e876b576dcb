"""What goes on at the service is waited for across outages; what must not happen twice is not sent twice."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from paintbox_client import ApiError, Client, ServiceUnreachableError
from paintbox_client.outages import Outage, Patience, parse_retry_after
from paintbox_client.resumable import PART_BYTES
from tests.app.world import add_ready_dataset
from tests.builders import digit_members, write_zip
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.relay import Relay, answer
from tests.paintbox_client.test_cli import REPORT

PAINTBOX = str(Path(sys.executable).with_name("paintbox"))
IN_FRONT = [
    answer(502),
    answer(503, Retry_After="0"),
    answer(504),
    answer(429, Retry_After="0"),
    answer(404, "<html>no such backend</html>"),
    answer(200, "<html>we will be back soon</html>"),
    b"",
]
"""What something in front of a service answers while the service restarts; the last breaks off."""


def start(*arguments: object, **variables: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAINTBOX_")}
    environment |= {"PAINTBOX_DATA_DIR": "/nonexistent"} | variables
    command = [PAINTBOX, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def new_job(served: Served, folder: Path, classes: int) -> str:
    archive = write_zip(folder / "digits.zip", digit_members(range(classes), train=4))
    return str(served.client.upload_dataset(archive, "digits")["job"]["id"])


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("waits", [True, False])
def test_every_kind_of_outage_is_outlasted_and_told_once(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    monkeypatch.setattr("paintbox_client.outages._PAUSES_SECONDS", (0.05,))
    monkeypatch.setattr("paintbox_client.outages._LONGEST_PAUSE_SECONDS", 0.05)
    job_id = new_job(served, tmp_path, 6 + waits)
    lease, notices = served.lease(job_id), list[str]()
    seen = list[str]()

    def interfere() -> None:
        relay.answers += IN_FRONT
        relay.cut()
        until(lambda: not relay.answers)
        served.succeed(lease)

    with Relay(served.url) as relay, Client(relay.url, on_outage=notices.append) as client:
        interfering = threading.Timer(0.5, interfere)
        interfering.start()
        if waits:
            assert client.wait_for_job(job_id, poll_seconds=0.01)["status"] == "succeeded"
        else:
            seen += [event["message"] for event in client.follow_job(job_id)]
            assert seen == ["queued", "started", "succeeded"]
        interfering.join()
    assert len(notices) == 1


def test_the_command_follows_a_job_across_an_outage(served: Served, tmp_path: Path) -> None:
    job_id = new_job(served, tmp_path, 2)
    lease = served.lease(job_id)
    with Relay(served.url) as relay:
        follower = start("--url", relay.url, "job", job_id, "--follow")
        assert follower.stdout is not None
        told = [follower.stdout.readline()]
        relay.answers += IN_FRONT[:3]
        relay.cut()
        until(lambda: not relay.answers)
        served.succeed(lease)
        assert follower.stderr is not None
        with follower:  # not `communicate`, which passes over what `readline` has read ahead
            told += follower.stdout.readlines()
            err = follower.stderr.read()
    assert follower.returncode == 0, err
    events = [line.split()[2].rstrip(":") for line in told if line[:1].isdigit()]
    assert events == ["queued", "started", "succeeded"], told
    assert err.count("retrying") == 1
    assert "No Paintbox service is reachable" not in err


def test_a_patch_is_waited_for_while_the_service_comes_back_on_another_port(served: Served, tmp_path: Path) -> None:
    task = add_ready_dataset(served.world.services, ["zero", "one"], splits=("train", "validation", "test"))
    service = tmp_path / "service.json"
    with Relay(served.url) as first:
        service.write_text(json.dumps({"url": first.url, "pid": os.getpid()}))
        patching = start("patch", "--task", task, "--name", "moved", PAINTBOX_DATA_DIR=str(tmp_path))
        until(lambda: served.client.patches())
        first.close()
        service.unlink()
        time.sleep(0.5)
        with Relay(served.url) as second:
            service.write_text(json.dumps({"url": second.url, "pid": os.getpid()}))
            served.complete_patch(served.client.patches()[0], REPORT)
            out, err = patching.communicate(timeout=60)
    assert patching.returncode == 0, err
    assert "alpha 0.55: best mean" in out
    assert err.count("retrying") == 1


def test_waiting_ends_when_patience_does_and_says_what_was_tried(served: Served, tmp_path: Path) -> None:
    job_id = new_job(served, tmp_path, 3)
    with Relay(served.url) as relay:
        waiting = start("--url", relay.url, "--patience", 6, "job", job_id, "--wait")
        assert waiting.stderr is not None
        waiting.stderr.readline()
        relay.close()
        _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 3
    assert "The job continues" in err
    assert "Tried" in err


def test_a_refusal_of_the_service_itself_ends_a_wait_at_once(served: Served) -> None:
    notices = list[str]()
    with Client(served.url, on_outage=notices.append) as client:
        for wait in (lambda: client.wait_for_job("job_none"), lambda: list(client.follow_job("job_none"))):
            with pytest.raises(ApiError) as caught:
                wait()
            assert caught.value.code == "not_found"
    assert notices == []


def test_where_no_stream_is_to_be_had_pages_are_asked_for(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paintbox_client.client._PAGE_SECONDS", 0.01)
    monkeypatch.setattr(served.world.services.streams, "_max_streams", 0)
    job_id = new_job(served, tmp_path, 4)
    lease, seen, states = served.lease(job_id), list[str](), list[str]()
    for event in served.client.follow_job(job_id, on_update=lambda job: states.append(job["status"])):
        seen.append(event["message"])
        if event["message"] == "started":
            served.succeed(lease)
    assert seen == ["queued", "started", "succeeded"]
    assert states[-1] == "succeeded"


class Losing(httpx2.BaseTransport):
    """Delivers each request, and loses the answers to the first ones of the paths that it is told."""

    def __init__(self, path: str, num_lost: int) -> None:
        self._path, self._num_lost = path, num_lost
        self._inner = httpx2.HTTPTransport()
        self.keys: list[str | None] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self._inner.handle_request(request)
        if request.method == "POST" and request.url.path == self._path:
            self.keys.append(request.headers.get("idempotency-key"))
            if len(self.keys) <= self._num_lost:
                response.close()
                raise httpx2.ReadTimeout("the answer was lost", request=request)
        return response

    def close(self) -> None:
        self._inner.close()


def test_a_patch_whose_answer_was_lost_is_asked_for_again_under_the_same_key(served: Served) -> None:
    task = add_ready_dataset(served.world.services, ["zero", "two"], splits=("train", "validation", "test"))
    losing = Losing("/v1/patches", 2)
    with Client(served.url, transport=losing) as client:
        made = client.create_patch(name="asked three times", tasks=[task])["patch"]["id"]
        assert [each["id"] for each in client.patches() if each["name"] == "asked three times"] == [made]
        client.create_patch(name="another", tasks=[task])
    first, *others = losing.keys
    assert first is not None
    assert others[:2] == [first, first]
    assert others[2] not in (None, first)


def test_an_upload_whose_answer_was_lost_is_sent_again(served: Served, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "lost.zip", digit_members(range(5), train=4))
    losing = Losing("/v1/datasets", 1)
    with Client(served.url, transport=losing) as client:
        made = client.upload_dataset(archive, "lost")
    assert len(losing.keys) == 2
    assert [each["name"] for each in served.client.datasets()].count("lost") == 1
    assert made["state"] == "ingesting"


@pytest.mark.parametrize(("value", "seconds"), [(None, None), ("7", 7.0), ("soon", None), ("9" * 400, None)])
def test_retry_after_is_read_in_both_forms(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def outage_with(sleeps: list[float], *, wait_seconds: float = 1800.0, may_repeat: bool = True) -> Outage:
    patience = Patience(wait_seconds, 30.0, sleep=sleeps.append)
    return Outage(patience, is_wait=True, may_repeat=may_repeat, is_known=lambda: True, before_retry=lambda: None)


def test_pauses_grow_to_a_bound_and_retry_after_is_honoured_up_to_a_minute() -> None:
    sleeps = list[float]()
    outage = outage_with(sleeps)
    for _ in range(12):
        outage.wait(ApiError(503, "unexpected_answer", "away"))
    assert sleeps[0] < 0.2
    assert sleeps[:7] == sorted(sleeps[:7])
    assert max(sleeps) <= 10
    for asked, waited in ((20.0, 20.0), (86_400.0, 60.0)):
        outage.wait(ApiError(429, "rate_limited", "slower", retry_after_seconds=asked))
        assert sleeps[-1] == waited


@pytest.mark.parametrize(
    "error",
    [
        ApiError(429, "job_quota", "too many", retry_after_seconds=1),
        ApiError(507, "storage_full", "full"),
        ApiError(401, "key_revoked", "gone"),
        ApiError(404, "not_found", "none"),
    ],
)
def test_what_waiting_does_not_lift_is_told_at_once(error: ApiError) -> None:
    sleeps = list[float]()
    with pytest.raises(ApiError):
        outage_with(sleeps).wait(error)
    assert sleeps == []


def test_what_must_not_happen_twice_is_sent_again_only_if_it_did_not_arrive() -> None:
    sleeps = list[float]()
    outage = outage_with(sleeps, may_repeat=False)
    outage.wait(ServiceUnreachableError("http://x", "refused"))
    outage.wait(ApiError(429, "rate_limited", "slower"))
    assert len(sleeps) == 2
    for error in (ServiceUnreachableError("http://x", "broke", was_sent=True), ApiError(503, "draining", "stops")):
        with pytest.raises(type(error)):
            outage.wait(error)


def test_a_large_file_is_sent_on_after_the_service_was_away(served: Served, tmp_path: Path) -> None:
    members = digit_members(range(2), train=2) | {"padding.txt": os.urandom(2 * PART_BYTES)}
    archive = write_zip(tmp_path / "large.zip", members)
    with Relay(served.url) as relay:
        done = list[dict]()
        with Client(relay.url) as client:
            upload = threading.Thread(target=lambda: done.append(client.upload_dataset(archive, "large")))
            folder = served.world.services.settings.upload_dir
            upload.start()
            until(lambda: any(path.stat().st_size for path in folder.glob("*.*")))
            relay.answers += IN_FRONT[:4]
            relay.cut()
            upload.join(60)
    assert done[0]["name"] == "large"
