"""Webhooks over real HTTP: signed, sent to allowed hosts only, tried again, and not forgotten by a restart."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from app.jobs.webhooks.sender import WebhookSender
from app.jobs.webhooks.signing import sign
from app.jobs.webhooks.targets import check_target
from app.settings import AppSettings
from registry.database import Database
from registry.errors import ConfigurationError, RequestRefusedError
from registry.tables import WebhookDeliveryRow
from tests.app.receivers import KEY, SECRET, Receiver, end_job, state_of, wait_until
from tests.app.world import World, add_ready_dataset, add_version, check_problem, open_world
from tests.builders import digit_members, write_zip


@pytest.fixture
def open_sender(database: Database, receiver: Receiver) -> Iterator[Callable[[], WebhookSender]]:
    senders: list[WebhookSender] = []

    def make() -> WebhookSender:
        senders.append(WebhookSender(database, KEY, [receiver.origin]))
        return senders[-1]

    yield make
    for sender in senders:
        sender.close()


def make_due(database: Database) -> None:
    """As if the time had come for every message that waits."""
    with database.write() as session:
        waiting = WebhookDeliveryRow.due_at.is_not(None)
        session.execute(update(WebhookDeliveryRow).where(waiting).values(due_at=datetime(2020, 1, 1, tzinfo=UTC)))


def test_a_signature_is_that_of_the_standards_own_example() -> None:
    headers = sign(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["", "short", "whsec_", "whsec_not base64", "whsec_c2hvcnQ=", SECRET[6:]])
def test_a_secret_of_another_form_is_refused_at_the_start(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="PAINTBOX_WEBHOOK_SECRET"):
        AppSettings.load(webhook_hosts=("hooks.example.com",), webhook_secret=secret)


@pytest.mark.parametrize("host", ["", "a b", "ftp://x", "https://x/path", "user@x", "x/", "https://", "a%20b"])
def test_a_host_that_is_none_is_refused_at_the_start(host: str) -> None:
    with pytest.raises(ConfigurationError, match="PAINTBOX_WEBHOOK_HOSTS"):
        AppSettings.load(webhook_hosts=(host,), webhook_secret=SECRET)


@pytest.mark.parametrize(
    "url", ["https://hooks.example.com/a?b=c", "https://HOOKS.example.com:443", "http://10.0.0.5:8080/x"]
)
def test_a_url_at_an_allowed_origin_is_accepted(url: str) -> None:
    check_target(url, ["hooks.example.com", "http://10.0.0.5:8080"])


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://hooks.example.com:8443/",
        "https://hooks.example.com.evil.org/",
        "https://evil.org/hooks.example.com",
        "https://hooks.example.com@evil.org/",
        "https://user:pw@hooks.example.com/",
        "https://evil.org\\@hooks.example.com/",
        "https://hooks.example.com/#x",
        "https://169.254.169.254/",
        "file:///etc/passwd",
        "hooks.example.com",
        "https://hooks.example.com\n/",
        "",
    ],
)
def test_every_other_url_is_refused(url: str) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        check_target(url, ["hooks.example.com"])
    assert caught.value.code == "webhook_refused"


def test_a_message_is_signed_and_says_what_became_of_the_job(
    database: Database, receiver: Receiver, open_sender: Callable[[], WebhookSender]
) -> None:
    job_id = end_job(database, f"{receiver.origin}/jobs?token=t")
    assert open_sender().deliver_due() == 1
    ((path, headers, body),) = receiver.requests
    assert path == "/jobs?token=t"
    message = json.loads(body)
    assert (message["type"], message["data"]["job_id"]) == ("job.cancelled", job_id)
    assert headers["content-type"] == "application/json"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert state_of(database, job_id) == ("delivered", 1, None)
    assert open_sender().deliver_due() == 0


def test_a_receiver_that_fails_is_tried_again_with_the_same_id_by_whoever_is_there_then(
    database: Database, receiver: Receiver, open_sender: Callable[[], WebhookSender]
) -> None:
    receiver.answers = [500]
    job_id = end_job(database, receiver.origin)
    open_sender().deliver_due()
    assert state_of(database, job_id) == ("waiting", 1, "answered 500")
    assert open_sender().deliver_due() == 0  # its time has not come
    make_due(database)
    assert open_sender().deliver_due() == 1  # another process, after a restart
    assert state_of(database, job_id) == ("delivered", 2, None)
    assert len(set(receiver.ids())) == 1


def test_a_redirect_is_not_followed(
    database: Database, receiver: Receiver, open_sender: Callable[[], WebhookSender]
) -> None:
    receiver.answers = [307]
    job_id = end_job(database, f"{receiver.origin}/here")
    open_sender().deliver_due()
    assert [path for path, _, _ in receiver.requests] == ["/here"]
    assert state_of(database, job_id) == ("waiting", 1, "answered 307, and redirects are not followed")


def test_a_receiver_that_is_gone_or_not_allowed_any_more_is_given_up(
    database: Database, receiver: Receiver, open_sender: Callable[[], WebhookSender]
) -> None:
    receiver.answers = [410]
    gone, elsewhere = end_job(database, receiver.origin), end_job(database, "http://127.0.0.1:9/")
    open_sender().deliver_due()
    assert state_of(database, gone) == ("given_up", 1, "answered 410")
    state, _, error = state_of(database, elsewhere)
    assert state == "given_up"
    assert "PAINTBOX_WEBHOOK_HOSTS" in (error or "")
    assert len(receiver.requests) == 1


def test_a_receiver_that_does_not_answer_is_tried_again(database: Database, receiver: Receiver) -> None:
    sender = WebhookSender(database, KEY, ["http://127.0.0.1:9"])
    job_id = end_job(database, "http://127.0.0.1:9/")
    sender.deliver_due()
    sender.close()
    assert state_of(database, job_id) == ("waiting", 1, "no response: ConnectError")


def test_two_processes_that_send_at_once_send_each_message_once(
    database: Database, receiver: Receiver, open_sender: Callable[[], WebhookSender]
) -> None:
    jobs = [end_job(database, receiver.origin) for _ in range(40)]
    senders = [threading.Thread(target=open_sender().deliver_due) for _ in range(2)]
    for thread in senders:
        thread.start()
    for thread in senders:
        thread.join()
    told = [json.loads(body)["data"]["job_id"] for _, _, body in receiver.requests]
    assert sorted(told) == sorted(jobs)


def test_a_patch_that_names_a_webhook_has_it_told_and_keeps_its_url_to_itself(
    tmp_path: Path, receiver: Receiver
) -> None:
    settings = {"webhook_hosts": (receiver.origin,), "webhook_secret": SECRET, "webhook_interval_seconds": 0.05}
    with open_world(tmp_path, **settings) as world:
        url = f"{receiver.origin}/secret-path"
        task = add_ready_dataset(world.services, ["zero", "one"], splits=("train", "validation", "test"))
        started = world.client.post("/v1/patches", json={"name": "x", "tasks": [task], "webhook_url": url}).json()
        path = started["job"]["links"]["self"]
        assert world.client.get(path).json()["webhook"] is None
        world.client.post(f"{path}/cancel")
        deadline = time.monotonic() + 10
        while (webhook := world.client.get(path).json()["webhook"])["state"] != "delivered":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert (webhook["tries"], webhook["next_try_at"], webhook["last_error"]) == (1, None, None)
        assert receiver.ids() == [webhook["id"]]
        patch = world.client.get(f"/v1/patches/{started['patch']['id']}").text
        assert "secret-path" not in patch + world.client.get(path).text
        elsewhere = {"name": "x", "tasks": [task], "webhook_url": "https://elsewhere.example.com/"}
        check_problem(world.client.post("/v1/patches", json=elsewhere), 422, "webhook_refused")


def test_without_allowed_hosts_a_webhook_is_refused(world: World) -> None:
    task = add_ready_dataset(world.services, ["zero", "one"], splits=("train", "validation", "test"))
    body = {"name": "x", "tasks": [task], "webhook_url": "https://hooks.example.com/"}
    problem = check_problem(world.client.post("/v1/patches", json=body), 422, "webhook_refused")
    assert "PAINTBOX_WEBHOOK_HOSTS" in problem["next"]


def test_an_upload_that_names_a_webhook_has_it_told(tmp_path: Path, receiver: Receiver) -> None:
    settings = {"webhook_hosts": (receiver.origin,), "webhook_secret": SECRET, "webhook_interval_seconds": 0.05}
    archive = write_zip(tmp_path / "digits.zip", digit_members(range(2), train=3, val=2, test=2)).read_bytes()
    with open_world(tmp_path / "world", **settings) as world:
        form = {"name": "x", "webhook_url": "https://elsewhere.example.com/"}
        refused = world.client.post("/v1/datasets", data=form, files={"archive": ("x.zip", archive)})
        check_problem(refused, 422, "webhook_refused")
        assert world.client.get("/v1/datasets").json()["items"] == []
        form["webhook_url"] = f"{receiver.origin}/told"
        job = world.client.post("/v1/datasets", data=form, files={"archive": ("x.zip", archive)}).json()["job"]
        world.client.post(f"/v1/jobs/{job['id']}/cancel")
        deadline = time.monotonic() + 10
        while not receiver.requests:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        told = json.loads(receiver.requests[0][2])
        assert (told["type"], told["data"]["job_id"], told["data"]["kind"]) == ("job.cancelled", job["id"], "ingest")


def test_moves_of_aliases_and_refusals_are_told_to_the_installations_webhook(
    tmp_path: Path, receiver: Receiver
) -> None:
    settings = {"webhook_hosts": (receiver.origin,), "webhook_secret": SECRET, "webhook_interval_seconds": 0.05}
    with open_world(tmp_path, **settings, webhook_url=f"{receiver.origin}/told", max_supported_drop=1) as world:
        version, _ = add_version(world.services, world.base, seed=1)
        body = {"version": version, "reason": "try"}
        check_problem(world.client.put("/v1/aliases/canary", json=body), 409, "not_evaluated")
        world.client.put("/v1/aliases/canary", json=body | {"force": True})
        world.client.put("/v1/aliases/canary", json={"version": 1})
        world.client.post("/v1/aliases/canary/rollback")
        world.client.delete("/v1/aliases/canary", params={"reason": "done"})
        wait_until(lambda: len(receiver.requests) == 5)
    told = [json.loads(body) for path, _, body in receiver.requests if path == "/told"]
    told.sort(key=lambda message: str(message["timestamp"]))
    refused, *moves = [message["data"] for message in told]
    assert [message["type"] for message in told] == ["alias.refused", *["alias.moved"] * 4]
    detail = refused.pop("detail")
    assert "has not been evaluated" in detail
    assert refused == {
        "alias": "canary", "version": version, "current_version": None, "actor": "api", "code": "not_evaluated",
    }  # fmt: skip
    assert [(each["from_version"], each["to_version"], each["forced"], each["rollback"]) for each in moves] == [
        (None, version, True, False),
        (version, 1, False, False),
        (1, version, False, True),
        (version, None, False, False),
    ]
    assert (moves[0]["alias"], moves[0]["actor"], moves[0]["reason"]) == ("canary", "api", "try")


@pytest.mark.parametrize("url", ["https://elsewhere.example.com/", "https://hooks.example.com:8443/", "x"])
def test_a_webhook_of_the_installation_at_another_host_is_refused_at_the_start(url: str) -> None:
    hosts = ("hooks.example.com",)
    assert AppSettings.load(webhook_url="", webhook_hosts=()).webhook_url is None
    assert AppSettings.load(webhook_url="https://hooks.example.com/a", webhook_hosts=hosts, webhook_secret=SECRET)
    with pytest.raises(ConfigurationError, match="PAINTBOX_WEBHOOK_URL"):
        AppSettings.load(webhook_url=url, webhook_hosts=hosts, webhook_secret=SECRET)
