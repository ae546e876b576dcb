"""Patches: what cannot start is refused at once, by its code, and leaves no job behind."""

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from contract.datasets import DatasetKind
from contract.jobs import JobKind, Priority
from contract.patch_request import PatchRequest
from registry.database import Database
from registry.errors import NotFoundError, RequestRefusedError
from registry.jobs import Jobs
from registry.patches import Patches
from tests.builders import small_report
from tests.registry.clock import Clock
from tests.registry.rows import FINGERPRINT, add_base, ready_dataset, request, submit_dataset


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as session:
        add_base(session)
        yield session


def refusal(session: Session, asked: PatchRequest) -> RequestRefusedError:
    num_jobs = len(Jobs(session).newest())
    with pytest.raises(RequestRefusedError) as refused:
        Patches(session).submit(asked, default_base="starter")
    assert len(Jobs(session).newest()) == num_jobs
    assert Patches(session).newest() == []
    return refused.value


def test_a_patch_starts_with_a_queued_job(session: Session, clock: Clock) -> None:
    task, supported = ready_dataset(session, "1"), ready_dataset(session, "2", ("validation", "test"))
    asked = request(task.id, supported=(supported.id,))
    row = Patches(session, clock).submit(asked, default_base="starter")
    job = Jobs(session).get(row.job_id)
    assert (job.kind, job.subject_id) == (JobKind.PATCH, row.id)
    assert (row.name, row.base_fingerprint, row.created_at) == ("p", FINGERPRINT, clock.moment)
    assert (row.version_id, row.report) == (None, None)
    assert PatchRequest.model_validate(row.request) == asked


def test_the_parts_of_a_parallel_patch_are_as_urgent_as_it_and_of_the_same_owner_but_tell_nobody(
    session: Session,
) -> None:
    tasks = tuple(ready_dataset(session, name).id for name in "12")
    url = "https://example.org/hook"
    asked = PatchRequest(name="p", tasks=tasks, method="parallel", priority="high", webhook_url=url)
    row = Patches(session).submit(asked, default_base="starter", owner="ada")
    jobs = Jobs(session)
    parts = jobs.children(row.job_id)
    assert [(each.kind, each.part, each.subject_id) for each in parts] == [("finetune", task, row.id) for task in tasks]
    assert {(each.priority, each.owner, each.webhook_url) for each in parts} == {(Priority.HIGH, "ada", None)}
    assert jobs.get(row.job_id).webhook_url == url
    assert jobs.count_unfinished("ada") == 1


def test_asking_twice_makes_two_patches(session: Session) -> None:
    asked = request(ready_dataset(session, "1").id)
    first, second = (Patches(session).submit(asked, default_base="starter") for _ in range(2))
    assert first.id != second.id
    assert first.job_id != second.job_id


def test_an_unknown_base_is_not_found(session: Session) -> None:
    asked = request(ready_dataset(session, "1").id, base="ViT-L-14")
    with pytest.raises(NotFoundError, match="'ViT-L-14'"):
        Patches(session).submit(asked, default_base="starter")


@pytest.mark.parametrize("role", ["task", "supported"])
def test_an_unknown_data_set_is_not_found(session: Session, role: str) -> None:
    known = ready_dataset(session, "1").id
    asked = request("ds_nothing") if role == "task" else request(known, supported=("ds_nothing",))
    with pytest.raises(NotFoundError, match="ds_nothing"):
        Patches(session).submit(asked, default_base="starter")


@pytest.mark.parametrize("role", ["task", "supported"])
def test_a_data_set_that_is_not_ready_is_refused(session: Session, role: str) -> None:
    ready, waiting = ready_dataset(session, "1"), submit_dataset(session, "2")
    asked = request(waiting.id) if role == "task" else request(ready.id, supported=(waiting.id,))
    refused = refusal(session, asked)
    assert refused.code == "dataset_not_ready"
    assert waiting.job_id in refused.advice


def test_a_failed_data_set_is_refused_without_asking_to_wait(session: Session) -> None:
    row = submit_dataset(session, "1")
    Jobs(session).request_cancel(row.job_id)
    session.refresh(row)
    refused = refusal(session, request(row.id))
    assert refused.code == "dataset_not_ready"
    assert "Upload it again" in refused.advice


@pytest.mark.parametrize("missing", ["train", "validation", "test"])
def test_a_task_needs_all_three_splits(session: Session, missing: str) -> None:
    splits = tuple(split for split in ("train", "validation", "test") if split != missing)
    refused = refusal(session, request(ready_dataset(session, "1", splits).id))
    assert refused.code == "empty_split"
    assert missing in refused.detail


@pytest.mark.parametrize("missing", ["validation", "test"])
def test_a_supported_task_needs_splits_to_measure_on(session: Session, missing: str) -> None:
    task = ready_dataset(session, "1")
    splits = tuple(split for split in ("train", "validation", "test") if split != missing)
    refused = refusal(session, request(task.id, supported=(ready_dataset(session, "2", splits).id,)))
    assert refused.code == "empty_split"


def with_anchors(task: str, supporting: tuple[str, ...] = (), **anchors: object) -> PatchRequest:
    body = {"name": "p", "tasks": [task], "supported": supporting, "anchors": anchors}
    return PatchRequest.model_validate(body)


def test_an_anchor_pool_needs_train_images_and_nothing_else(session: Session) -> None:
    task, pool = ready_dataset(session, "1"), ready_dataset(session, "2", ("train",))
    row = Patches(session).submit(with_anchors(task.id, dataset=pool.id), default_base="starter")
    assert row.request["anchors"]["dataset"] == pool.id


@pytest.mark.parametrize("role", ["task", "supported"])
def test_a_pool_of_unlabelled_images_is_no_task_but_gives_anchors(session: Session, role: str) -> None:
    known, pool = ready_dataset(session, "1"), ready_dataset(session, "2")
    pool.kind = DatasetKind.POOL
    asked = request(pool.id) if role == "task" else request(known.id, supported=(pool.id,))
    refused = refusal(session, asked)
    assert (refused.code, "anchors.dataset" in refused.advice) == ("unlabelled_pool", True)
    anchored = PatchRequest(name="p", tasks=(known.id,), anchors={"dataset": pool.id})
    Patches(session).submit(anchored, default_base="starter")


def test_an_anchor_pool_without_train_images_is_refused(session: Session) -> None:
    task, pool = ready_dataset(session, "1"), ready_dataset(session, "2", ("validation", "test"))
    refused = refusal(session, with_anchors(task.id, dataset=pool.id))
    assert (refused.code, "train" in refused.detail) == ("empty_split", True)


def test_an_anchor_pool_that_is_not_ready_or_not_there_is_refused(session: Session) -> None:
    task, waiting = ready_dataset(session, "1"), submit_dataset(session, "2")
    assert refusal(session, with_anchors(task.id, dataset=waiting.id)).code == "dataset_not_ready"
    with pytest.raises(NotFoundError, match="ds_nothing"):
        Patches(session).submit(with_anchors(task.id, dataset="ds_nothing"), default_base="starter")


def test_anchors_of_supported_tasks_need_one_with_train_images(session: Session) -> None:
    task = ready_dataset(session, "1")
    without, with_train = ready_dataset(session, "2", ("validation", "test")), ready_dataset(session, "3")
    assert refusal(session, with_anchors(task.id, (without.id,), supported=True)).code == "no_anchor_images"
    asked = with_anchors(task.id, (without.id, with_train.id), supported=True)
    assert Patches(session).submit(asked, default_base="starter").request["anchors"]["supported"] is True


def test_a_finished_patch_has_its_version_and_report(session: Session) -> None:
    row = Patches(session).submit(request(ready_dataset(session, "1").id), default_base="starter")
    Patches(session).complete(row.id, version_id=7, report=small_report())
    session.flush()
    session.expire_all()
    found = Patches(session).get(row.id)
    assert (found.version_id, found.report) == (7, {"alpha": 0.5, "reason": "best", "tasks": [], "version_id": 7})


def test_an_unknown_patch_is_not_found(session: Session) -> None:
    with pytest.raises(NotFoundError):
        Patches(session).get("pt_nothing")


def test_newest_patches_come_first(session: Session, clock: Clock) -> None:
    asked = request(ready_dataset(session, "1").id)
    submitted = []
    for _ in range(3):
        submitted.append(Patches(session, clock).submit(asked, default_base="starter").id)
        clock.advance(1)
    assert [row.id for row in Patches(session).newest()] == submitted[::-1]
