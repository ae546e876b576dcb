"""A receiver that is slow delays its own messages, and nothing else."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.jobs.webhooks.sender import _CLAIM_SECONDS, _TRY_SECONDS, WebhookSender
from app.jobs.webhooks.slots import IN_ALL, OF_AN_OWNER, TO_A_HOST, TO_A_URL, Slots
from registry.database import Database
from registry.deliveries import Due
from tests.app.receivers import KEY, SECRET, Dripper, Receiver, end_job, state_of, wait_until
from tests.app.world import open_world


@pytest.fixture
def dripper() -> Iterator[Dripper]:
    made = Dripper()
    yield made
    made.close()


def test_a_receiver_that_drips_delays_no_other_and_no_stop(
    database: Database, receiver: Receiver, dripper: Dripper
) -> None:
    dripping = [end_job(database, f"{dripper.origin}/{number}") for number in range(2 * IN_ALL)]
    same = [end_job(database, f"{dripper.origin}/same") for _ in range(5)]
    sender = WebhookSender(database, KEY, [receiver.origin, dripper.origin])
    sending = threading.Thread(target=sender.deliver_due)
    sending.start()
    wait_until(lambda: dripper.num_open >= TO_A_HOST)
    good = [end_job(database, f"{receiver.origin}/{number}") for number in range(3)]
    wait_until(lambda: all(state_of(database, job)[0] == "delivered" for job in good))
    assert all(state_of(database, job)[2] is None for job in dripping + same)  # none of their tries had ended
    assert dripper.most_open == TO_A_HOST
    sender.close()
    sending.join(30)
    assert not sending.is_alive()
    assert {state_of(database, job) for job in dripping + same} == {("waiting", 0, None)}  # due again at once


def test_a_url_that_drips_leaves_slots_to_the_others_of_its_host(database: Database, dripper: Dripper) -> None:
    for _ in range(TO_A_HOST):
        end_job(database, f"{dripper.origin}/slow")
    end_job(database, f"{dripper.origin}/other")
    sender = WebhookSender(database, KEY, [dripper.origin])
    sending = threading.Thread(target=sender.deliver_due)
    sending.start()
    wait_until(lambda: b"/other" in dripper.paths)
    assert dripper.paths.count(b"/slow") <= TO_A_URL
    sender.close()
    sending.join(30)


@pytest.mark.parametrize(
    ("head", "state"),
    [
        (b"HTTP/1.1 200 OK\r\nx: ", "waiting"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ", "waiting"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "delivered"),
    ],
)
def test_a_try_has_one_deadline_and_reads_no_body(
    database: Database, monkeypatch: pytest.MonkeyPatch, head: bytes, state: str
) -> None:
    monkeypatch.setattr("app.jobs.webhooks.sender._TRY_SECONDS", 1.0)
    dripper = Dripper(head)
    sender = WebhookSender(database, KEY, [dripper.origin])
    job_id = end_job(database, dripper.origin)
    sender.deliver_due()
    sender.close()
    dripper.close()
    error = None if state == "delivered" else "no response within 1 s"
    assert state_of(database, job_id) == (state, 1, error)


def test_a_claim_lasts_longer_than_a_try() -> None:
    assert _CLAIM_SECONDS > 2 * _TRY_SECONDS


def test_one_owner_leaves_slots_to_others() -> None:
    slots = Slots()
    busy = [Due(f"a{number}", f"https://h{number}.example.com/", "alice") for number in range(IN_ALL)]
    assert len(list(slots.take(busy))) == OF_AN_OWNER
    others = [Due(f"b{number}", f"https://h{number}.example.com/", f"owner {number}") for number in range(IN_ALL)]
    taken = list(slots.take(others))
    assert len(taken) == IN_ALL - OF_AN_OWNER
    for message in taken:
        slots.give_back(message)
    assert list(slots.take(others))[:1] == ["b0"]


def test_an_application_stops_while_a_receiver_drips(tmp_path: Path, dripper: Dripper) -> None:
    settings = {"webhook_hosts": (dripper.origin,), "webhook_secret": SECRET, "webhook_interval_seconds": 0.05}
    with open_world(tmp_path, **settings) as world:
        job_id = end_job(world.services.database, dripper.origin)
        wait_until(lambda: dripper.num_open)
        figures = world.client.get("/metrics").text
        assert "paintbox_webhooks_waiting 1.0" in figures
        assert "paintbox_webhooks_oldest_seconds" in figures
    database = Database(f"sqlite:///{tmp_path / 'data' / 'paintbox.db'}")
    assert state_of(database, job_id) == ("waiting", 0, None)
    database.close()
