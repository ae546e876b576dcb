"""Data sets: what names them, when they are tried again, and what they hold once they are ready."""

import json
import threading
import time

import pytest

from contract.datasets import DatasetState
from contract.jobs import JobKind, JobStatus
from registry.database import Database
from registry.datasets import DatasetOptions, Datasets, dataset_id
from registry.errors import NotFoundError
from registry.intake.choices import READER_VERSION, Choices
from registry.jobs import Jobs
from tests.registry.clock import Clock
from tests.registry.rows import content

ARCHIVE = "0" * 64
OPTIONS = DatasetOptions((("n01", "cat"), ("n02", "dog")), ("a photo of a {}.",))


def fail(database: Database, job_id: str) -> None:
    with database.write() as session:
        jobs = Jobs(session)
        lease = jobs.lease(job_id, "a")
        assert lease is not None
        jobs.fail(lease, "broken", "It broke.")


def test_the_same_archive_and_options_always_have_the_same_id() -> None:
    assert dataset_id(ARCHIVE, DatasetOptions()) == dataset_id(ARCHIVE, DatasetOptions())
    chosen = DatasetOptions(choices=Choices("imagefolder", "a", 2, (("b", "train"),), "path", "class", "c.csv"))
    for options in (OPTIONS, chosen):
        assert DatasetOptions.from_json(json.loads(json.dumps(options.as_json()))) == options
        assert dataset_id(ARCHIVE, options) == dataset_id(ARCHIVE, DatasetOptions.from_json(options.as_json()))


def test_the_same_bytes_are_read_anew_after_the_rules_of_reading_have_changed(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as session:
        datasets = Datasets(session, clock)
        old, _ = datasets.submit("digits", ARCHIVE, DatasetOptions())
        monkeypatch.setattr("registry.datasets.READER_VERSION", READER_VERSION + 1)
        new, created = datasets.submit("digits", ARCHIVE, DatasetOptions())
        assert created
        assert new.id != old.id


def test_ids_stay_as_they_are_while_the_rules_of_reading_stay() -> None:
    assert dataset_id(ARCHIVE, DatasetOptions()) == "ds_b87b73bd4f05d3017e195427"
    assert dataset_id(ARCHIVE, OPTIONS) == "ds_cc31cd32a685e6b64944f711"


def test_other_bytes_or_options_have_another_id() -> None:
    others = [
        (ARCHIVE, DatasetOptions()),
        ("1" * 64, DatasetOptions()),
        (ARCHIVE, OPTIONS),
        (ARCHIVE, DatasetOptions(OPTIONS.display_names)),
        (ARCHIVE, DatasetOptions((), OPTIONS.templates)),
        (ARCHIVE, DatasetOptions(choices=Choices(class_level=1))),
        (ARCHIVE, DatasetOptions(choices=Choices(class_level=2))),
        (ARCHIVE, DatasetOptions(choices=Choices(split_of=()))),
        (ARCHIVE, DatasetOptions(choices=Choices(split_of=(("extra", "train"),)))),
        (ARCHIVE, DatasetOptions(choices=Choices(manifest="a.csv"))),
        (ARCHIVE, DatasetOptions((("n01", "dog"), ("n02", "cat")), OPTIONS.templates)),
    ]
    assert len({dataset_id(*other) for other in others}) == len(others)


def test_a_new_data_set_is_being_ingested(database: Database, clock: Clock) -> None:
    with database.write() as session:
        row, created = Datasets(session, clock).submit("digits", ARCHIVE, OPTIONS)
        job = Jobs(session).get(row.job_id)
        assert created
        assert (row.id, row.name, row.state) == (dataset_id(ARCHIVE, OPTIONS), "digits", DatasetState.INGESTING)
        assert (row.archive_sha256, row.created_at) == (ARCHIVE, clock.moment)
        assert (job.kind, job.subject_id, job.status) == (JobKind.INGEST, row.id, JobStatus.QUEUED)
        assert DatasetOptions.from_json(row.options) == OPTIONS


@pytest.mark.parametrize("ready", [False, True])
def test_submitting_again_gives_the_data_set_that_is_there(database: Database, ready: bool) -> None:
    with database.write() as session:
        first, _ = Datasets(session).submit("digits", ARCHIVE, OPTIONS)
        if ready:
            Datasets(session).complete(first.id, content("train"))
    with database.write() as session:
        again, created = Datasets(session).submit("another name", ARCHIVE, OPTIONS)
        assert not created
        assert (again.id, again.name, again.job_id) == (first.id, "digits", first.job_id)
        assert len(Jobs(session).newest()) == 1


def test_a_failed_data_set_is_tried_again_under_its_id(database: Database) -> None:
    with database.write() as session:
        first, _ = Datasets(session).submit("digits", ARCHIVE, OPTIONS)
    fail(database, first.job_id)
    with database.write() as session:
        again, created = Datasets(session).submit("second try", ARCHIVE, OPTIONS)
        assert created
        assert (again.id, again.name, again.state) == (first.id, "second try", DatasetState.INGESTING)
        assert again.job_id != first.job_id
        assert Jobs(session).get(first.job_id).status == JobStatus.FAILED


def test_two_who_try_a_failed_data_set_again_share_one_job(database: Database) -> None:
    with database.write() as session:
        first, _ = Datasets(session).submit("digits", ARCHIVE, OPTIONS)
    fail(database, first.job_id)
    assert sorted(submit_at_once(database)) == [False, True]


def test_two_who_submit_a_new_data_set_share_one_job(database: Database) -> None:
    assert sorted(submit_at_once(database)) == [False, True]


def submit_at_once(database: Database) -> list[bool]:
    """Whether each of two overlapping submissions made a job; only one job may be queued after them."""
    created: list[bool] = []

    def submit() -> None:
        with database.write() as session:
            created.append(Datasets(session).submit("digits", ARCHIVE, OPTIONS)[1])

    second = threading.Thread(target=submit)
    with database.write() as session:
        created.append(Datasets(session).submit("digits", ARCHIVE, OPTIONS)[1])
        second.start()
        time.sleep(0.2)
    second.join()
    with database.read() as session:
        assert [job.status for job in Jobs(session).newest()].count(JobStatus.QUEUED) == 1
    return created


def test_a_ready_data_set_holds_what_ingest_found(database: Database) -> None:
    found = content("train", "test")
    with database.write() as session:
        row, _ = Datasets(session).submit("digits", ARCHIVE, OPTIONS)
        Datasets(session).complete(row.id, found)
    with database.read() as session:
        row = Datasets(session).get(row.id)
        assert row.state == DatasetState.READY
        assert (row.classnames, row.templates) == (["cat", "dog"], [])
        assert (row.shards, row.counts, row.rejected) == (found.shards, found.counts, found.rejected)
        assert row.content_sha256 == found.sha256()


def test_equal_content_has_an_equal_hash() -> None:
    assert content("train", "test").sha256() == content("test", "train").sha256()
    assert content("train").sha256() != content("test").sha256()
    assert content("train").sha256() != content("train", classnames=("dog", "cat")).sha256()


def test_an_archive_is_in_use_only_while_it_is_ingested(database: Database) -> None:
    with database.write() as session:
        datasets = Datasets(session)
        assert not datasets.archive_in_use(ARCHIVE)
        row, _ = datasets.submit("digits", ARCHIVE, OPTIONS)
        plain, _ = datasets.submit("digits", ARCHIVE, DatasetOptions())
        datasets.complete(row.id, content("train"))
        assert datasets.archive_in_use(ARCHIVE)
        datasets.complete(plain.id, content("train"))
        assert not datasets.archive_in_use(ARCHIVE)


def test_an_unknown_data_set_is_not_found(database: Database) -> None:
    with database.read() as session, pytest.raises(NotFoundError, match="ds_nothing"):
        Datasets(session).get("ds_nothing")


def test_newest_data_sets_come_first(database: Database, clock: Clock) -> None:
    with database.write() as session:
        for number in range(3):
            Datasets(session, clock).submit(str(number), f"{number}" * 64, OPTIONS)
            clock.advance(1)
        assert [row.name for row in Datasets(session).newest()] == ["2", "1", "0"]
        assert [row.name for row in Datasets(session).newest(limit=1)] == ["2"]
