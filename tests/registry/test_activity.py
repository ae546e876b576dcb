"""What happened, in one order, on both engines; above all when transactions end in another order than they began."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from contract.jobs import JobKind
from registry.activity import Activity, JobEntry, Position
from registry.aliases import Aliases
from registry.database import Database, utc_now
from registry.jobs import Jobs
from registry.tables import JobEventRow
from tests.registry.rows import add_version

_START = Position()


def later() -> datetime:
    """A moment at which every transaction of the test is over."""
    return utc_now() + timedelta(minutes=1)


def messages(
    database: Database, after: Position = _START, limit: int = 100, now: Callable[[], datetime] = later
) -> tuple[list[str], Position]:
    with database.read() as session:
        entries, last = Activity(session, now).after(after, limit)
        told = [each.event.message if isinstance(each, JobEntry) else f"to {each.to_version_id}" for _, each in entries]
    return told, last


def test_jobs_and_aliases_are_told_in_one_order_and_progress_is_not(database: Database) -> None:
    with database.write() as session:
        version = add_version(session).id
    with database.write() as session:
        jobs = Jobs(session)
        lease = jobs.lease(jobs.create(JobKind.PATCH, "pt_none").id, "a test", 600)
    assert lease is not None
    with database.write() as session:
        Aliases(session).move("canary", version, actor="a test", reason="")
    with database.write() as session:
        Jobs(session).note(lease, "fine-tuning", data={"step": 1})
        Jobs(session).succeed(lease)
    told, last = messages(database)
    assert told == ["queued", "started", f"to {version}", "succeeded"]
    assert messages(database, last) == ([], last)
    with database.read() as session:
        assert Activity(session, later).tip() == last
        newest, tip = Activity(session, later).newest(2)
        assert (len(newest), newest[-1][0], tip) == (2, last, last)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_any_pages_together_hold_each_event_once(database: Database, limit: int) -> None:
    with database.write() as session:
        version = add_version(session).id
    for number in range(4):
        with database.write() as session:
            Jobs(session).create(JobKind.PATCH, f"pt_{number}")
        with database.write() as session:
            Aliases(session).move(f"alias{number}", version, actor="a test", reason="")
    whole, end = messages(database)
    told, after = list[str](), Position()
    while after != end:
        page, after = messages(database, after, limit)
        told += page
    assert told == whole
    assert len(told) == 8


def test_a_position_can_be_written_and_read(database: Database) -> None:
    assert database
    assert Position.parse(str(Position(12, 3))) == Position(12, 3)
    for text in ("", "12", "12-", "-1-3", "1-2-3", "1 -2", "٣-1", f"{10**18}-1"):
        assert Position.parse(text) is None, text


def test_an_event_that_is_committed_late_is_not_skipped(postgres_database: Database) -> None:
    with postgres_database.write() as session:
        first = Jobs(session).create(JobKind.PATCH, "pt_1").id
        second = Jobs(session).create(JobKind.PATCH, "pt_2").id
    _, start = messages(postgres_database)
    with postgres_database.write() as late:
        Jobs(late).add_event(first, "cancel requested")
        late.flush()
        with postgres_database.write() as early:
            Jobs(early).add_event(second, "retried")
        told, after = messages(postgres_database, start, now=utc_now)
        assert (told, after) == ([], start)
        with postgres_database.read() as session:
            assert Activity(session).tip() <= start
    assert messages(postgres_database, after)[0] == ["cancel requested", "retried"]


def test_a_transaction_that_was_rolled_back_holds_nothing_up_for_long(postgres_database: Database) -> None:
    with postgres_database.write() as session:
        job = Jobs(session).create(JobKind.PATCH, "pt_1").id
    _, start = messages(postgres_database)
    with postgres_database.write() as session:
        Jobs(session).add_event(job, "cancel requested")
        session.flush()
        session.rollback()
    with postgres_database.write() as session:
        session.add(JobEventRow(job_id=job, at=utc_now() - timedelta(seconds=6), level="info", message="retried"))
    assert messages(postgres_database, start, now=utc_now)[0] == ["retried"]
