"""A real installation in a temporary folder: SQLite, blobs and a base model of a few thousand weights.

A module that needs a model that knows something overrides `base` with the starter.
"""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.datasets import DatasetState
from contract.patch_request import PatchRequest
from paint_core.models import BaseModel, load_base
from paint_core.starter import supported_archives
from registry.blobs import FileBlobStore
from registry.database import Database
from registry.datasets import DatasetOptions, Datasets
from registry.jobs import Jobs
from registry.patches import Patches
from registry.tables import DatasetRow, JobRow, PatchRow
from registry.versions import Versions
from tests.builders import digit_members, write_zip
from tests.paint_core import tiny
from tests.support.databases import open_migrated
from tests.support.forking import Forks
from worker.job_context import JobContext
from worker.messages import Channel
from worker.process import Launch
from worker.settings import WorkerSettings
from worker.steps import ingest
from worker.supervisor import Supervisor


@dataclass(frozen=True)
class Installation:
    """What a test holds of an installation."""

    settings: WorkerSettings
    database: Database
    blobs: FileBlobStore
    launch: Launch
    base_ref: str

    @property
    def supervisor(self) -> Supervisor:
        """A worker's supervisor, whose trainers are forked."""
        return Supervisor(self.settings, launch=self.launch)

    def submit_dataset(
        self, archive: Path, options: DatasetOptions | None = None, owner: str | None = None
    ) -> DatasetRow:
        with self.database.write() as session:
            sha256, size = self.blobs.put_file(archive), archive.stat().st_size
            chosen = options or DatasetOptions()
            return Datasets(session).submit(archive.stem, sha256, chosen, owner, archive_bytes=size)[0]

    def ingest(self, archive: Path, options: DatasetOptions | None = None) -> DatasetRow:
        """A data set that was ingested in a trainer process."""
        row = self.submit_dataset(archive, options)
        self.supervisor.run(row.job_id)
        return self.dataset(row.id)

    def ingest_here(self, archive: Path, options: DatasetOptions | None = None) -> DatasetRow:
        """A data set that was ingested in this process, now or before."""
        row = self.submit_dataset(archive, options)
        if row.state == DatasetState.READY:
            return row
        with self.database.write() as session:
            lease = Jobs(session).lease(row.job_id, "a test", 600)
        assert lease is not None
        ingest.ingest(JobContext(row.id, {}, lease, self.database, self.blobs, Channel(io.StringIO()), self.settings))
        return self.dataset(row.id)

    def submit_patch(self, **fields: object) -> PatchRow:
        with self.database.write() as session:
            request = PatchRequest.model_validate({"anchors": None, **fields})
            return Patches(session).submit(request, default_base=self.base_ref)

    def dataset(self, identifier: str) -> DatasetRow:
        with self.database.read() as session:
            return Datasets(session).get(identifier)

    def patch(self, identifier: str) -> PatchRow:
        with self.database.read() as session:
            return Patches(session).get(identifier)

    def job(self, identifier: str) -> JobRow:
        with self.database.read() as session:
            row = session.get(JobRow, identifier)
            assert row is not None
            return row


@pytest.fixture(scope="session")
def starter() -> BaseModel:
    return load_base("starter")


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("models") / "tiny", tiny.state_dict())


@pytest.fixture(scope="module")
def base(tiny_dir: Path) -> BaseModel:
    """The base of the installation."""
    return load_base(f"local-dir:{tiny_dir}")


def install(folder: Path, base: BaseModel, launch: Launch, **settings: object) -> Installation:
    loaded = WorkerSettings.load(data_dir=folder, **settings)
    loaded.make_directories()
    database = open_migrated(loaded.data_dir / "paintbox.db")
    with database.write() as session:
        Versions(session).ensure_base(
            ref=base.ref, fingerprint=base.fingerprint, embed_dim=base.embed_dim, image_size=base.image_size
        )
    return Installation(loaded, database, FileBlobStore(loaded.blob_dir), launch, base.ref)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, base: BaseModel, forks: Forks) -> Iterator[Installation]:
    """One installation for a module: each test makes a job of its own."""
    made = install(tmp_path_factory.mktemp("worker") / "data", base, forks.launch, heartbeat_seconds=0.2)
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def digits(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> DatasetRow:
    """Digits zero to four, few of them, ingested."""
    members = digit_members(range(5), train=24, val=4, test=4)
    return installation.ingest_here(write_zip(tmp_path_factory.mktemp("archives") / "digits.zip", members))


@pytest.fixture(scope="module")
def others(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> DatasetRow:
    """Digits five to nine as a supported task, ingested."""
    members = digit_members(range(5, 10), val=4, test=4)
    return installation.ingest_here(write_zip(tmp_path_factory.mktemp("archives") / "others.zip", members))


@pytest.fixture(scope="module")
def food() -> dict[str, bytes]:
    """Archive members of three of the bundled kinds of food, which the starter knows; two train images each."""
    with zipfile.ZipFile(supported_archives()["food"]) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        kinds = sorted({name.split("/")[1] for name in names})[:3]
        members = {name: archive.read(name) for name in names if name.split("/")[1] in kinds}
    tests = {kind: [name for name in members if name.startswith(f"test/{kind}/")] for kind in kinds}
    for kind, pictures in tests.items():
        for name in pictures[:2]:
            members[f"train/{kind}/{Path(name).name}"] = members.pop(name)
    return members


@pytest.fixture(scope="module")
def kept(installation: Installation, food: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> DatasetRow:
    """Food as a supported task, ingested."""
    return installation.ingest_here(write_zip(tmp_path_factory.mktemp("archives") / "kept.zip", food))
