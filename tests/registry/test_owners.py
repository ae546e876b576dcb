"""Who owns what: on both engines, and for each kind of thing."""

import pytest

from contract.evaluations import EvaluationRequest
from contract.jobs import JobKind
from contract.lineage import Lineage
from registry.database import Database
from registry.datasets import DatasetOptions, Datasets
from registry.evaluations import Evaluations
from registry.jobs import Jobs
from registry.label_sets import LabelSets
from registry.owners import Owned, Owners
from registry.patches import Patches
from registry.versions import Versions
from tests.registry.rows import FINGERPRINT, add_base, ready_dataset, request


@pytest.fixture
def owned(database: Database) -> dict[Owned, str | int]:
    """One of each thing, made by `me`."""
    with database.write() as session:
        add_base(session)
        task = ready_dataset(session, "a")
        dataset, _ = Datasets(session).submit("mine", "b" * 64, DatasetOptions(), "me")
        patch = Patches(session).submit(request(task.id), "starter", "me")
        version = Versions(session).register(
            name="v", base_fingerprint=FINGERPRINT, terms=(), probe=[], lineage=Lineage(), owner="me"
        )
        label_set, _ = LabelSets(session).add(["a"], [], owner="me")
        asked = EvaluationRequest(versions=(version.id,), dataset=task.id)
        evaluation = Evaluations(session).submit(asked, "me")
        return {
            Owned.DATASET: dataset.id,
            Owned.PATCH: patch.id,
            Owned.JOB: patch.job_id,
            Owned.VERSION: version.id,
            Owned.LABEL_SET: label_set.id,
            Owned.EVALUATION: evaluation.id,
        }


@pytest.mark.parametrize("kind", Owned)
def test_only_the_owner_owns(database: Database, owned: dict[Owned, str | int], kind: Owned) -> None:
    with database.read() as session:
        owners = Owners(session)
        assert not owners.is_owned_by_another(kind, owned[kind], "me")
        assert owners.is_owned_by_another(kind, owned[kind], "you")
        assert owners.is_owned_by_another(kind, owned[kind], None)


def test_a_job_belongs_to_who_asked_for_its_subject(database: Database, owned: dict[Owned, str | int]) -> None:
    with database.read() as session:
        ingest = Datasets(session).get(str(owned[Owned.DATASET])).job_id
        assert Jobs(session).get(ingest).owner == "me"


def test_what_nobody_owns_belongs_to_another(database: Database) -> None:
    with database.write() as session:
        job = Jobs(session).create(JobKind.PATCH, "pt_1")
        for name in ("me", None):
            assert Owners(session).is_owned_by_another(Owned.JOB, job.id, name)


@pytest.mark.parametrize("kind", Owned)
def test_what_is_not_there_belongs_to_nobody_else(database: Database, kind: Owned) -> None:
    with database.read() as session:
        missing = 2**31 - 1 if kind is Owned.VERSION else "nothing"
        assert not Owners(session).is_owned_by_another(kind, missing, "me")


@pytest.mark.parametrize("kind", Owned)
def test_an_id_that_nobody_has_read_is_never_taken_for_one_that_is_not_there(database: Database, kind: Owned) -> None:
    unread = "3" if kind is Owned.VERSION else 3
    with database.read() as session, pytest.raises(TypeError):
        Owners(session).is_owned_by_another(kind, unread, "me")


def test_an_upload_that_failed_belongs_to_who_tries_it_again(database: Database) -> None:
    with database.write() as session:
        datasets, jobs = Datasets(session), Jobs(session)
        first, _ = datasets.submit("a", "c" * 64, DatasetOptions(), "me")
        same, created = datasets.submit("a", "c" * 64, DatasetOptions(), "you")
        assert (created, same.owner) == (False, "me")
        lease = jobs.lease(first.job_id, "a worker")
        assert lease is not None
        jobs.fail(lease, "broken", "It is broken.")
        session.expire_all()
        again, created = datasets.submit("a", "c" * 64, DatasetOptions(), "you")
        assert (created, again.owner, jobs.get(again.job_id).owner) == (True, "you", "you")
