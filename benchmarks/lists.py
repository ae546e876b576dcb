"""How long the service takes to answer a page of each list, with 10,000 jobs and 1,000 versions in the database.

A real server on a real socket, SQLite, one request after the other; the time is the client's, so it is more than the
server's own. First pages and pages from the middle, with and without filters; 100 owners. Then pages under `/ui`.

    python benchmarks/lists.py [--quick] [--json FILE]
"""

from __future__ import annotations

import itertools
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from _report import Figure, parser, report
from sqlalchemy import insert

from app.jobs.dispatcher import MemoryDispatcher
from app.main import create_app
from app.runtime.logs import set_up_logging
from app.settings import AppSettings
from contract.datasets import DatasetState
from contract.jobs import JobKind, JobStatus
from registry.aliases import Aliases
from registry.database import Database, utc_now
from registry.datasets import DatasetOptions
from registry.tables import (
    AliasHistoryRow,
    Base,
    DatasetRow,
    JobRow,
    PatchRow,
    TaskVectorRow,
    VersionRow,
    VersionTermRow,
)
from registry.versions import Versions

NUM_JOBS, NUM_VERSIONS = 10_000, 1_000
MOST_MILLISECONDS = 50.0
PAGE = 100
_STATUSES = itertools.cycle([*JobStatus, JobStatus.SUCCEEDED, JobStatus.SUCCEEDED])
_REPORT = {"alpha_curve": [{"alpha": index / 100, "scores": {"digits": 0.5}} for index in range(101)]}


@contextmanager
def serve(folder: Path) -> Iterator[tuple[str, Database]]:
    """Start the application on a free port and yield its address and its database.

    Args:
        folder: The data directory.
    """
    app = create_app(AppSettings.load(data_dir=folder, device="cpu"), MemoryDispatcher())
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, loop="uvloop", http="httptools", ws="none", log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", app.state.services.database
    finally:
        server.should_exit = True
        thread.join()


def fill(database: Database, num_jobs: int, num_versions: int) -> None:
    """Put jobs, half of them of data sets and half of patches, and versions of five terms into the database."""
    now = utc_now()
    jobs, datasets, patches = [], [], []
    with database.write() as session:
        active = Aliases(session).active_version_id()
        assert active is not None
        fingerprint = Versions(session).get(active).base_fingerprint
        for index in range(num_jobs):
            is_patch = index % 2 == 0
            subject = f"{'pt' if is_patch else 'ds'}_{index:08}"
            job = {"id": f"job_{index:08}", "kind": JobKind.PATCH if is_patch else JobKind.INGEST}
            job |= {"subject_id": subject, "status": next(_STATUSES), "progress": 1.0, "attempt": 1, "lease_token": 1}
            jobs.append(job)
            job |= {"cancel_requested": False, "checkpoint": {"stage": "x" * 200}, "created_at": now}
            common = {"id": subject, "name": f"number {index}", "job_id": job["id"], "created_at": now}
            common["owner"] = job["owner"] = f"owner {index % 100}"
            if is_patch:
                request = {"tasks": [f"ds_{index % 100 + 1:08}"], "supported": [f"ds_{each:08}" for each in range(5)]}
                patches.append(common | {"request": request, "base_fingerprint": fingerprint, "report": _REPORT})
            else:
                datasets.append(common | _dataset())
        vectors = [
            {"sha256": f"{index:064}", "base_fingerprint": fingerprint, "num_bytes": 1, "relative_norm": 0.1}
            | {"job_id": "job_00000000", "created_at": now}
            for index in range(5)
        ]
        versions = [
            {"id": 1000 + index, "name": f"number {index}", "base_fingerprint": fingerprint, "created_at": now}
            | {"probe": [[0.1] * 192] * 4, "lineage": {"made_by": "compose"}}
            | {"patch_id": f"pt_{2 * index:08}", "owner": f"owner {index % 100}"}
            for index in range(num_versions)
        ]
        terms = [
            {"version_id": version["id"], "position": place, "task_vector_sha256": vector["sha256"]}
            | {"coefficient": 0.5, "profile": "flat"}
            for version in versions
            for place, vector in enumerate(vectors)
        ]
        moves = [
            {"alias": "active", "from_version_id": 1, "to_version_id": 1, "actor": "x", "reason": "", "at": now}
            for _ in range(num_versions)
        ]
        tables: list[tuple[type[Base], list[dict[str, Any]]]] = [
            (JobRow, jobs),
            (DatasetRow, datasets),
            (PatchRow, patches),
            (TaskVectorRow, vectors),
            (VersionRow, versions),
            (VersionTermRow, terms),
            (AliasHistoryRow, moves),
        ]
        for table, rows in tables:
            session.execute(insert(table), rows)


def _dataset() -> dict[str, Any]:
    names = [f"class {index}" for index in range(10)]
    splits = ("train", "validation", "test")
    return {
        "state": DatasetState.READY,
        "archive_sha256": "0" * 64,
        "options": DatasetOptions().as_json(),
        "classnames": names,
        "shards": {split: {"sha256": "0" * 64, "num_images": 100} for split in splits},
        "counts": {split: dict.fromkeys(names, 10) for split in splits},
    }


def measure_pages(http: httpx2.Client, path: str, query: dict[str, Any], rounds: int) -> list[float]:
    """Return milliseconds of pages: in turn the first one and one that lies a few pages further."""
    later = dict(query)
    for _ in range(4):
        cursor = http.get(path, params={**later, "limit": PAGE}).raise_for_status().json()["next_cursor"]
        if cursor is None:
            break
        later["cursor"] = cursor
    samples = []
    for index in range(rounds):
        started = time.perf_counter()
        answer = http.get(path, params={**(later if index % 2 else query), "limit": PAGE})
        samples.append(1000 * (time.perf_counter() - started))
        assert answer.raise_for_status().json()["items"]
    return samples


def measure_page(http: httpx2.Client, path: str, rounds: int) -> list[float]:
    """Return milliseconds of a page of the web interface."""
    samples = []
    for _ in range(rounds):
        started = time.perf_counter()
        answer = http.get(path, headers={"accept": "text/html"})
        samples.append(1000 * (time.perf_counter() - started))
        answer.raise_for_status()
    return samples


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    set_up_logging("WARNING")
    lists: dict[str, tuple[str, dict[str, Any]]] = {
        "jobs": ("/v1/jobs", {}),
        "jobs_failed": ("/v1/jobs", {"status": "failed"}),
        "jobs_patch": ("/v1/jobs", {"kind": "patch"}),
        "jobs_named": ("/v1/jobs", {"name": "number 99"}),
        "jobs_of_owner": ("/v1/jobs", {"owner": "owner 7"}),
        "datasets": ("/v1/datasets", {}),
        "datasets_named": ("/v1/datasets", {"name": "number 99"}),
        "datasets_of_owner": ("/v1/datasets", {"owner": "owner 7"}),
        "patches": ("/v1/patches", {}),
        "patches_failed": ("/v1/patches", {"status": "failed"}),
        "patches_of_owner": ("/v1/patches", {"owner": "owner 6"}),
        "patches_using_dataset": ("/v1/patches", {"dataset": "ds_00000001"}),
        "versions": ("/v1/versions", {}),
        "versions_of_owner": ("/v1/versions", {"owner": "owner 7"}),
        "versions_using_dataset": ("/v1/versions", {"dataset": "ds_00000001"}),
        "alias_history": ("/v1/aliases/active/history", {}),
    }
    pages = ("/ui/", "/ui/jobs", "/ui/patches", "/ui/versions", "/ui/datasets")
    figures = []
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as (url, database):
        fill(database, NUM_JOBS, NUM_VERSIONS)
        with httpx2.Client(base_url=url, trust_env=False) as http:
            for name, (path, query) in lists.items():
                samples = measure_pages(http, path, query, 10 if options.quick else 100)
                middle = statistics.median(samples)
                print(f"{name}: median {middle:.1f} ms, {min(samples):.1f} to {max(samples):.1f}", flush=True)
                figures.append(Figure(f"list_{name}_ms", middle, "ms", MOST_MILLISECONDS, at_most=True))
            for path in pages:
                samples = measure_page(http, path, 10 if options.quick else 100)
                middle = statistics.median(samples)
                print(f"{path}: median {middle:.1f} ms, {min(samples):.1f} to {max(samples):.1f}", flush=True)
                name = path.removeprefix("/ui/") or "home"
                figures.append(Figure(f"page_{name}_ms", middle, "ms", MOST_MILLISECONDS, at_most=True))
    report(figures, options.json)


if __name__ == "__main__":
    main()
