"""Pages of lists, on both engines."""

import base64
import json

import pytest

from contract.jobs import JobKind, JobStatus
from registry.aliases import Aliases
from registry.database import Database
from registry.errors import RequestRefusedError
from registry.jobs import Jobs
from registry.versions import Versions
from tests.registry.clock import Clock
from tests.registry.rows import add_version


def all_ids(database: Database, limit: int) -> list[str]:
    """The ids of all jobs, page by page, each in a transaction of its own."""
    ids, cursor = list[str](), None
    while True:
        with database.read() as session:
            page = Jobs(session).newest(limit, cursor)
            assert len(page) <= limit
            ids += [job.id for job in page]
            cursor = page.next_cursor
        if cursor is None:
            return ids


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_put_together_are_the_list_also_where_moments_are_equal(
    database: Database, clock: Clock, limit: int
) -> None:
    with database.write() as session:
        jobs = Jobs(session, clock)
        for index in range(7):
            jobs.create(JobKind.INGEST, f"ds_{index}")
            if index % 3 == 2:
                clock.advance(1)
    ids = all_ids(database, limit)
    with database.read() as session:
        rows = sorted(Jobs(session).newest(100), key=lambda job: (job.created_at, job.id), reverse=True)
    assert ids == [job.id for job in rows]
    assert len(set(ids)) == 7


def test_what_is_added_meanwhile_moves_no_page(database: Database, clock: Clock) -> None:
    with database.write() as session:
        old = [Jobs(session, clock).create(JobKind.INGEST, "ds_old").id for _ in range(4)]
    with database.read() as session:
        first = Jobs(session).newest(2)
        seen, cursor = [job.id for job in first], first.next_cursor
    clock.advance(1)
    with database.write() as session:
        Jobs(session, clock).create(JobKind.INGEST, "ds_new")
    with database.read() as session:
        rest = Jobs(session).newest(10, cursor)
        assert rest.next_cursor is None
        assert sorted(seen + [job.id for job in rest]) == sorted(old)


def test_jobs_are_filtered_by_status_and_kind(database: Database) -> None:
    with database.write() as session:
        jobs = Jobs(session)
        waiting = jobs.create(JobKind.INGEST, "ds_1").id
        cancelled = jobs.request_cancel(jobs.create(JobKind.PATCH, "pt_1").id).id
        running = jobs.create(JobKind.PATCH, "pt_2").id
        jobs.lease(running, "a test")

        def found(**filters: object) -> set[str]:
            return {job.id for job in jobs.newest(**filters)}  # type: ignore[arg-type]

        assert found(statuses=[JobStatus.QUEUED]) == {waiting}
        assert found(statuses=[JobStatus.RUNNING, JobStatus.CANCELLED]) == {running, cancelled}
        assert found(kind=JobKind.PATCH) == {running, cancelled}
        assert found(kind=JobKind.PATCH, statuses=[JobStatus.QUEUED]) == set()
        assert found() == {waiting, cancelled, running}


def test_versions_and_moves_of_an_alias_have_pages_too(database: Database) -> None:
    with database.write() as session:
        made = [add_version(session).id for _ in range(3)]
        for version_id in made:
            Aliases(session).move("active", version_id, actor="a test", reason="")
        versions = Versions(session).newest(2)
        assert [row.id for row in versions] == made[:0:-1]
        assert [row.id for row in Versions(session).newest(2, versions.next_cursor)] == made[:1]
        moves = Aliases(session).history("active", 2)
        assert [row.to_version_id for row in Aliases(session).history("active", 2, moves.next_cursor)] == made[:1]


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "%%%",
        "ä",
        encoded(3),
        encoded([]),
        encoded(["versions", 3]),
        encoded(["jobs", "2026-01-01T00:00:00+00:00"]),
        encoded(["jobs", "2026-01-01T00:00:00", "job_1"]),  # of no zone
        encoded(["jobs", "yesterday", "job_1"]),
        encoded(["jobs", 7, "job_1"]),
        encoded(["jobs", "2026-01-01T00:00:00+00:00", 7]),
        encoded({"jobs": 1}),
    ],
)
def test_a_cursor_of_another_list_or_of_nobody_is_refused(sqlite_database: Database, cursor: str) -> None:
    with sqlite_database.read() as session, pytest.raises(RequestRefusedError) as caught:
        Jobs(session).newest(2, cursor)
    assert caught.value.code == "bad_cursor"


TAMPERED = {
    "jobs": [
        ["0001-01-01T00:00:00+23:59", "job_1"],
        ["9999-12-31T23:59:59-23:59", "job_1"],
        ["2026-01-01T00:00:00+00:00", "job\ud800"],
        ["2026-01-01T00:00:00+00:00", "job\x00"],
        ["2026-01-01T00:00:00+00:00", ""],
        ["2026-01-01T00:00:00+00:00", "x" * 1000],
    ],
    "versions": [[10**30], [-(10**30)], [2**31], [True], [3.0], [float("nan")], ["3"], [None]],
}


@pytest.mark.parametrize(("table", "values"), [(table, each) for table, rows in TAMPERED.items() for each in rows])
def test_a_tampered_cursor_is_refused_before_the_database_sees_it(
    database: Database, table: str, values: list[object]
) -> None:
    newest = {"jobs": Jobs, "versions": Versions}[table]
    with database.read() as session, pytest.raises(RequestRefusedError) as caught:
        newest(session).newest(2, encoded([table, *values]))
    assert caught.value.code == "bad_cursor"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00"])
def test_a_cursor_at_the_end_of_time_gives_a_page(database: Database, moment: str) -> None:
    with database.read() as session:
        assert Jobs(session).newest(2, encoded(["jobs", moment, "job_1"])) == []
