"""A real service on a real socket, once a module; a test ends its jobs in a worker's place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from contract.report import PatchReport
from paintbox_client.client import Client
from registry.jobs import Jobs
from registry.leases import Lease
from registry.patches import Patches
from registry.versions import Versions
from tests.app.world import World, add_version, open_world, serve


@dataclass(frozen=True)
class Served:
    """A service, a client of it, and what is inside."""

    url: str
    client: Client
    world: World

    def lease(self, job_id: str) -> Lease:
        """Take a job as a worker does."""
        with self.world.services.database.write() as session:
            lease = Jobs(session).lease(job_id, "a test")
        assert lease is not None
        return lease

    def report(self, lease: Lease, stage: str, progress: float, eta_seconds: float) -> None:
        """Say how far a job is."""
        with self.world.services.database.write() as session:
            Jobs(session).report(lease, stage=stage, progress=progress, eta_seconds=eta_seconds)

    def succeed(self, lease: Lease) -> None:
        """End a job well."""
        with self.world.services.database.write() as session:
            Jobs(session).succeed(lease)

    def fail(self, lease: Lease, code: str, detail: str) -> None:
        """End a job badly."""
        with self.world.services.database.write() as session:
            Jobs(session).fail(lease, code, detail)

    def complete_patch(self, patch: dict[str, Any], report: dict[str, Any]) -> None:
        """Give a patch its report and an own version, and end its job well."""
        lease = self.lease(patch["job_id"])
        with self.world.services.database.write() as session:
            version_id = Versions(session).newest()[0].id
            Patches(session).complete(patch["id"], version_id=version_id, report=PatchReport.of_stored(report))
            Jobs(session).succeed(lease)

    def add_version(self) -> int:
        """The id of a new version."""
        return add_version(self.world.services, self.world.base, seed=1)[0]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with open_world(tmp_path_factory.mktemp("service")) as world, serve(world) as url, Client(url) as client:
        yield Served(url, client, world)
