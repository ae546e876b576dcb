"""An installation without torch: SQLite, blobs, a made-up base, a real supervisor, and the stub's trainers, forked."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from contract.patch_request import PatchRequest
from registry.attempts import Attempts
from registry.database import Database
from registry.jobs import Jobs
from registry.patches import Patches
from registry.tables import JobAttemptRow, JobRow, PatchRow
from registry.versions import Versions
from tests.chaos.stub import TRAINER
from tests.registry.rows import add_base, ready_dataset
from tests.support.databases import open_migrated
from tests.support.forking import Forks
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor


@dataclass(frozen=True)
class Bench:
    """What a test holds of an installation."""

    settings: WorkerSettings
    database: Database
    dataset: str
    forks: Forks

    def submit(self, name: str, iterations: int = 5) -> PatchRow:
        """Ask for a patch; its name says what shall happen to it."""
        body = {"name": name, "tasks": [self.dataset], "finetune": {"iterations": iterations, "warmup_steps": 0}}
        with self.database.write() as session:
            return Patches(session).submit(PatchRequest.model_validate(body), default_base="starter")

    def supervisor(self, is_stopping: Callable[[], bool] = lambda: False) -> Supervisor:
        """A supervisor of the stub's trainers."""
        return Supervisor(self.settings, is_stopping=is_stopping, trainer=TRAINER, launch=self.forks.launch)

    def work_on(self, job_id: str) -> threading.Thread:
        """Work on a job in the background."""
        thread = threading.Thread(target=lambda: self.supervisor().run(job_id))
        thread.start()
        return thread

    def job(self, job_id: str) -> JobRow:
        """The job as it is now."""
        with self.database.read() as session:
            return Jobs(session).get(job_id)

    def attempts(self, job_id: str) -> list[JobAttemptRow]:
        """The job's attempts, oldest first."""
        with self.database.read() as session:
            return list(Attempts(session).all(job_id))

    def num_versions(self, job_id: str) -> int:
        """How many versions the job made."""
        with self.database.read() as session:
            return len([each for each in Versions(session).newest() if each.job_id == job_id])


@pytest.fixture(scope="session")
def quick_forks() -> Iterator[Forks]:
    """Processes that need not import the registry again, and have no use for PyTorch."""
    with Forks("worker.trainer", "tests.chaos.stub") as forks:
        forks.connect()
        yield forks


@pytest.fixture(scope="module")
def bench(quick_forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    settings = WorkerSettings.load(data_dir=tmp_path_factory.mktemp("bench") / "data", checkpoint_seconds=0)
    settings.make_directories()
    database = open_migrated(settings.data_dir / "paintbox.db")
    with database.write() as session:
        add_base(session)
        row = ready_dataset(session, "digits")
        lease = Jobs(session).lease(row.job_id, "a test")
        assert lease is not None
        Jobs(session).succeed(lease)  # nothing waits before a test asks for something
        dataset = row.id
    yield Bench(settings, database, dataset, quick_forks)
    database.close()
