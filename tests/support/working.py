"""A worker inside a test: queued jobs are done as a real worker does them, each in a trainer process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from contract.jobs import JobStatus
from registry.database import Database
from registry.job_queries import JobQueries
from tests.app.world import World
from tests.support.forking import Forks
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor


@contextmanager
def working(world: World, forks: Forks) -> Iterator[None]:
    """While the context lasts, a worker does the queued jobs."""
    settings = WorkerSettings.load(data_dir=world.services.settings.data_dir, device="cpu", heartbeat_seconds=0.2)
    supervisor, has_ended = Supervisor(settings, launch=forks.launch), threading.Event()

    def work() -> None:
        while not has_ended.wait(0.05):
            for job_id in _queued(world.services.database):
                supervisor.run(job_id)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        has_ended.set()
        worker.join()


def _queued(database: Database) -> list[str]:
    with database.read() as session:
        return [job.id for job in JobQueries(session).newest(statuses=[JobStatus.QUEUED])]
