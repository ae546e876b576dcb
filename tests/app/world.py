"""A running application for tests, and things in its registry that normally a worker puts there."""

import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import structlog
import torch
import uvicorn
from httpx2 import Response
from starlette.testclient import TestClient
from torch import Tensor

from app.http.connections.limits import ConnectionLimits
from app.http.connections.protocol import GuardedProtocol
from app.http.connections.table import Connections
from app.jobs.dispatcher import MemoryDispatcher
from app.main import Services, create_app
from app.models.bases import Bases, load_bases
from app.settings import AppSettings
from contract.jobs import JobKind
from contract.lineage import Lineage
from paint_core.evaluation import encode, probe_features
from paint_core.models import BaseModel, build_head
from paint_core.models.heads import logits
from paint_core.weights import TaskVector, Term, mix_into, save_task_vector
from registry.datasets import DatasetContent, DatasetOptions, Datasets
from registry.jobs import Jobs
from registry.versions import TermSpec, Versions
from tests.support.databases import write_migrated

LOCAL = "http://127.0.0.1:8321"
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class World:
    """A running application.

    Attributes:
        client: Talks to it.
        services: What is inside.
        dispatcher: Gets the jobs that it queues.
        root: Holds the data directory, and nothing else may appear in it.
    """

    client: TestClient
    services: Services
    dispatcher: MemoryDispatcher
    root: Path

    @property
    def base(self) -> BaseModel:
        """The starter."""
        return next(iter(self.services.bases.values()))

    def outside_data(self) -> set[Path]:
        """Every path below the root that is not in the data directory."""
        data = self.services.settings.data_dir
        return {path for path in self.root.rglob("*") if not path.is_relative_to(data)}


@cache
def _starter() -> Bases:
    return load_bases(("starter",), torch.device("cpu"))


def _load(refs: tuple[str, ...], device: torch.device) -> Bases:
    """The bases; the starter is loaded and traced once for all applications of a test process, for none changes it."""
    return _starter() if (refs, device.type) == (("starter",), "cpu") else load_bases(refs, device)


@contextmanager
def open_world(root: Path, **settings: Any) -> Iterator[World]:
    """A running application whose reaper and alias threads sleep, so that tests decide when they act.

    It keeps few versions loaded: a process that runs the tests has many applications, one after the other.
    """
    quiet = {"reaper_interval_seconds": 3600, "alias_interval_seconds": 3600, "version_cache_bytes": 256 << 20}
    chosen = AppSettings.load(**{"data_dir": root / "data", "device": "cpu", **quiet, **settings})
    dispatcher = MemoryDispatcher()
    chosen.make_directories()
    path = chosen.data_dir / "paintbox.db"
    if not chosen.database_url and not path.exists():
        write_migrated(path)
    app = create_app(chosen, dispatcher, load=_load)
    with structlog.testing.capture_logs(), TestClient(app, LOCAL) as client:
        yield World(client, app.state.services, dispatcher, root)


@contextmanager
def serve(world: World, limits: ConnectionLimits | None = None) -> Iterator[str]:
    """The address of a real server on a real socket in front of a running application."""
    with listen(world.client.app, Connections(limits or ConnectionLimits())) as (host, port):
        yield f"http://{host}:{port}"


@contextmanager
def listen(app: Any, connections: Connections, listener: socket.socket | None = None, **options: Any) -> Iterator[Any]:
    """The socket address of a real server, as the process has it, in front of any application."""
    listener = listener or socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(GuardedProtocol, connections),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        server_header=False,
        **options,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def check_problem(response: Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of a response that must be one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"urn:paintbox:error:{code}"
    assert problem["instance"] == f"urn:paintbox:request:{response.headers['x-request-id']}"
    assert all(problem[field] for field in ("title", "detail", "next"))
    return problem


def check_plain_error(response: Response, status: int) -> str:
    """What a response says that must be an error as other protocols have it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert int(response.headers["content-length"]) == len(response.content)
    body: dict[str, str] = response.json()
    assert list(body) == ["error"]
    return body["error"]


def add_ready_dataset(
    services: Services, classnames: Sequence[str], templates: Sequence[str] = (), splits: Sequence[str] = ()
) -> str:
    """The id of a new data set that is ready, with one image of each class in each split."""
    shards = {split: {"sha256": "0" * 64, "num_images": len(classnames)} for split in splits}
    counts = {split: dict.fromkeys(classnames, 1) for split in splits}
    content = DatasetContent(tuple(classnames), tuple(templates), shards, counts, [])
    with services.database.write() as session:
        row, _ = Datasets(session).submit("a set", secrets.token_hex(32), DatasetOptions())
        identifier, jobs = row.id, Jobs(session)
        lease = jobs.lease(row.job_id, "a test")
        assert lease is not None
        Datasets(session).complete(identifier, content)
        jobs.succeed(lease)
    return identifier


def random_task_vector(base: BaseModel, seed: int, size: float = 0.1) -> TaskVector:
    """An update of the base's image tower that changes its answers."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: size * tensor.abs().mean() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in base.visual.state_dict().items()
        if tensor.is_floating_point()
    }


def mixed_tower(base: BaseModel, tau: TaskVector, coefficient: float) -> torch.nn.Module:
    """The base's image tower with an update, computed without the engine."""
    import copy

    visual = copy.deepcopy(base.visual)
    mix_into(visual, base.visual.state_dict(), [Term(tau, coefficient)])
    return visual


def add_version(services: Services, base: BaseModel, seed: int, coefficient: float = 1.0) -> tuple[int, str]:
    """A new version's id, and its task vector's hash."""
    tau = random_task_vector(base, seed)
    sha256 = services.blobs.put_bytes(save_task_vector(tau, {}))
    probe = probe_features(mixed_tower(base, tau, coefficient), base).tolist()
    with services.database.write() as session:
        versions = Versions(session)
        job = Jobs(session).create(JobKind.PATCH, "pt_test")
        versions.add_task_vector(
            sha256=sha256, base_fingerprint=base.fingerprint, num_bytes=1, relative_norm=0.1, job_id=job.id
        )
        row = versions.register(
            name=f"seed {seed}",
            base_fingerprint=base.fingerprint,
            terms=[TermSpec(sha256, coefficient)],
            probe=probe,
            lineage=Lineage(),
            job_id=job.id,
        )
    return row.id, sha256


def expected_cosines(
    base: BaseModel,
    visual: torch.nn.Module,
    images: Sequence[bytes],
    labels: Sequence[str],
    templates: Sequence[str] | None = None,
) -> Tensor:
    """Cosines [B, C] straight from the library."""
    pixels = torch.stack([torch.from_numpy(base.preprocess.decode(image)) for image in images])
    head = build_head(base, labels, templates or base.default_templates)
    return logits(encode(visual, pixels, base.preprocess), head, 1.0)
