"""Messages about finished jobs are made with the end, claimed by one, and never forgotten; on both engines."""

from collections.abc import Iterator
from itertools import islice

import pytest
from sqlalchemy.orm import Session

from contract.jobs import JobKind
from registry.database import Database
from registry.deliveries import RETRY_SECONDS, Deliveries, Delivery
from registry.jobs import Jobs
from registry.tables import WebhookDeliveryRow
from tests.registry.clock import Clock

URL = "https://hooks.example.com/x"


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as session:
        yield session


@pytest.fixture
def deliveries(session: Session, clock: Clock) -> Deliveries:
    return Deliveries(session, clock)


def ended_job(session: Session, clock: Clock, url: str | None = URL) -> str:
    jobs = Jobs(session, clock)
    job = jobs.create(JobKind.PATCH, "pt_1", webhook_url=url)
    lease = jobs.lease(job.id, "a test")
    assert lease is not None
    assert Deliveries(session, clock).newest_of(job.id) is None
    jobs.fail(lease, "broken", "It broke.")
    return job.id


def newest(deliveries: Deliveries, job_id: str) -> WebhookDeliveryRow:
    row = deliveries.newest_of(job_id)
    assert row is not None
    return row


def claim(deliveries: Deliveries, most: int = 8) -> list[Delivery]:
    """What a process claims that takes the first ones that are due."""
    return deliveries.claim([each.id for each in islice(deliveries.due(), most)], 60)


def test_a_message_is_made_in_the_transaction_that_ends_the_job(
    session: Session, deliveries: Deliveries, clock: Clock
) -> None:
    job_id = ended_job(session, clock)
    row = newest(deliveries, job_id)
    assert (row.url, row.state, row.num_tries, row.due_at) == (URL, "waiting", 0, clock.moment)
    assert row.payload == {
        "type": "job.failed",
        "timestamp": "2031-05-06T07:08:09+00:00",
        "data": {
            "job_id": job_id,
            "kind": "patch",
            "subject_id": "pt_1",
            "status": "failed",
            "error": {"code": "broken", "detail": "It broke."},
        },
    }
    assert deliveries.newest_of(ended_job(session, clock, url=None)) is None


def test_a_job_that_ends_again_after_a_retry_sends_another_message(
    session: Session, deliveries: Deliveries, clock: Clock
) -> None:
    job_id = ended_job(session, clock)
    first = newest(deliveries, job_id).id
    clock.advance(1)
    jobs = Jobs(session, clock)
    jobs.retry(job_id)
    jobs.request_cancel(job_id)
    again = newest(deliveries, job_id)
    assert again.id != first
    assert again.payload["type"] == "job.cancelled"


def test_a_claimed_message_is_nobody_elses_until_its_claimer_must_be_dead(
    session: Session, deliveries: Deliveries, clock: Clock
) -> None:
    job_id = ended_job(session, clock)
    (first,) = claim(deliveries)
    assert (first.job_id, first.num_tries) == (job_id, 1)
    assert claim(deliveries) == []
    clock.advance(61)
    (second,) = claim(deliveries)
    assert (second.id, second.num_tries) == (first.id, 2)
    deliveries.note(first, None)  # the first was only slow; the second decides
    assert newest(deliveries, job_id).state == "waiting"
    deliveries.note(second, None)
    row = newest(deliveries, job_id)
    assert (row.state, row.due_at, row.last_error) == ("delivered", None, None)
    clock.advance(3600)
    assert claim(deliveries) == []


def test_tries_come_ever_more_rarely_and_end(session: Session, deliveries: Deliveries, clock: Clock) -> None:
    job_id = ended_job(session, clock)
    waits = []
    while claimed := claim(deliveries):
        deliveries.note(claimed[0], "answered 500" + "!" * 1000)
        due = newest(deliveries, job_id).due_at
        if due is not None:
            waits.append((due - clock.moment).total_seconds())
            clock.advance(waits[-1])
    row = newest(deliveries, job_id)
    assert tuple(waits) == RETRY_SECONDS
    assert (row.state, row.num_tries, len(row.last_error or "")) == ("given_up", len(waits) + 1, 500)


def test_what_cannot_help_is_not_tried_again(session: Session, deliveries: Deliveries, clock: Clock) -> None:
    job_id = ended_job(session, clock)
    deliveries.note(claim(deliveries)[0], "answered 410", try_again=False)
    assert newest(deliveries, job_id).state == "given_up"


def test_no_more_are_claimed_than_asked_for_the_longest_due_first(
    session: Session, deliveries: Deliveries, clock: Clock
) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(ended_job(session, clock))
        clock.advance(1)
    assert [each.job_id for each in claim(deliveries, 2)] == jobs[:2]
    assert [each.job_id for each in claim(deliveries, 2)] == jobs[2:]


def test_those_to_receivers_that_are_busy_are_left_out(session: Session, deliveries: Deliveries, clock: Clock) -> None:
    for url in (URL, f"{URL}/y", "https://hooks.example.com_/x", "https://other.example.com/x"):
        ended_job(session, clock, url)
        clock.advance(1)
    assert [each.url for each in deliveries.due([URL])][:1] == [f"{URL}/y"]
    left = [each.url for each in deliveries.due([], ["https://hooks.example.com"])]
    assert left == ["https://hooks.example.com_/x", "https://other.example.com/x"]


def test_a_claim_that_is_given_back_does_not_count(session: Session, deliveries: Deliveries, clock: Clock) -> None:
    job_id = ended_job(session, clock)
    (first,) = claim(deliveries)
    deliveries.give_back(first)
    assert (newest(deliveries, job_id).num_tries, newest(deliveries, job_id).due_at) == (0, clock.moment)
    (again,) = claim(deliveries)
    assert again == first


def test_the_backlog_is_how_many_wait_and_how_long_the_oldest_has(
    session: Session, deliveries: Deliveries, clock: Clock
) -> None:
    assert deliveries.backlog() == (0, 0.0)
    ended_job(session, clock)
    clock.advance(10)
    ended_job(session, clock)
    assert deliveries.backlog() == (2, 10.0)
    deliveries.note(claim(deliveries)[0], None)
    assert deliveries.backlog() == (1, 0.0)


def test_messages_that_are_over_are_purged_after_a_while_and_those_that_wait_are_not(
    session: Session, deliveries: Deliveries, clock: Clock
) -> None:
    over, waiting = ended_job(session, clock), ended_job(session, clock)
    for each in claim(deliveries, 8):
        if each.job_id == over:
            deliveries.note(each, None)
    clock.advance(999)
    assert deliveries.purge(1000) == 0
    clock.advance(2)
    assert deliveries.purge(1000) == 1
    assert deliveries.newest_of(over) is None
    assert newest(deliveries, waiting).state == "waiting"
