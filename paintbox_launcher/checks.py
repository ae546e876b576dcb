"""Checks of an installation on this machine, for `paintbox doctor`. They change nothing that stays.

Each is a function from the settings, or from what was opened with them, to checks; a failure of one does not stop the
others.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from redis import Redis
from redis.exceptions import RedisError

from app.settings import AppSettings
from paintbox_client.checks import Check
from paintbox_client.discovery import find_service
from paintbox_launcher.embedded_valkey import read_url
from paintbox_launcher.installation import find_hindrance, is_free
from registry.blob_stores import open_blobs
from registry.database import Database, newest_revision, utc_now
from registry.disk import Disks
from registry.errors import ConfigurationError, NotFoundError, RegistryError
from registry.faults import faults_named
from registry.job_stats import JobStats
from registry.keys import are_keys_required
from registry.startup import describe_shared_disk, open_database
from registry.versions import Versions

_LEAST_MEMORY_BYTES = 4 << 30
_LITTLE_DISK_BYTES = 10 << 30
_BROKER_SECONDS = 3.0
_LONG_WAIT_SECONDS = 120.0
_LONG_SILENCE_SECONDS = 60.0
_MAX_SKEW_SECONDS = 2.0


@dataclass(frozen=True)
class Site:
    """The installation that is checked.

    Attributes:
        settings: Of its API, as this process's environment gives them.
        url: Where its service runs, if it does, started by `paintbox up`.
    """

    settings: AppSettings
    url: str | None


def check_installation(data_dir: Path | None) -> Iterator[Check]:
    """Yield checks of the installation in a data directory; None: of this user's, if there is one."""
    yield from check_packages()
    try:
        settings = AppSettings.load(**({} if data_dir is None else {"data_dir": data_dir}))
    except ConfigurationError as error:
        yield Check("settings", "error", error.detail, error.advice)
        return
    if data_dir is None and not _is_there(settings):
        yield Check("installation", "ok", f"none in {settings.data_dir}; only the connection is checked")
        return
    yield Check("settings", "ok", f"data directory {settings.data_dir}")
    site = Site(settings, find_service(settings.data_dir))
    for check in (check_machine, check_disk, check_database, check_broker, check_blobs, check_port, check_models):
        yield from _guarded(check, site)


def _is_there(settings: AppSettings) -> bool:
    return bool(settings.database_url) or (settings.data_dir / "paintbox.db").exists()


def _guarded(check: Callable[[Site], Iterator[Check]], site: Site) -> Iterator[Check]:
    """Yield the checks of a function; what it raises is a failed check."""
    name = check.__name__.removeprefix("check_")
    try:
        yield from check(site)
    except RegistryError as error:
        yield Check(name, "error", error.detail, error.advice)
    except OSError as error:
        yield Check(name, "error", str(error), "Correct it and run `paintbox doctor` again.")


def check_packages() -> Iterator[Check]:
    """Yield whether the installed packages are those that this release needs."""
    wrong = []
    for text in requires("paintbox") or ():
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(needed.name)
        except PackageNotFoundError:
            wrong.append(f"{needed.name} is missing")
            continue
        if not needed.specifier.contains(found, prereleases=True):
            wrong.append(f"{needed.name} {found} is installed, {needed.specifier} is needed")
    if wrong:
        yield Check("packages", "error", "; ".join(wrong), "Install the pinned versions: `make setup`, or pip.")
    else:
        yield Check("packages", "ok", f"paintbox {version('paintbox')}, torch {version('torch')}")


def check_machine(site: Site) -> Iterator[Check]:
    """Yield what the processor, the memory and the GPU are good for."""
    from paintbox_launcher.machine import check_devices, read_memory  # loads torch, for seconds

    memory = read_memory()
    told = f"{memory.limit_bytes / 1e9:.1f} GB, {memory.available_bytes / 1e9:.1f} GB available"
    if memory.limit_bytes < _LEAST_MEMORY_BYTES:
        yield Check("memory", "warning", told, "4 GB is little: the API and a trainer take about 1.5 GB each.")
    else:
        yield Check("memory", "ok", told)
    yield from check_devices(site.settings.device)


def check_disk(site: Site) -> Iterator[Check]:
    """Yield whether the data directory is private and writable, on a suitable disk, with room."""
    settings = site.settings
    folder = settings.data_dir
    if not folder.is_dir():
        yield Check("data directory", "error", f"{folder} does not exist", "Start `paintbox up`, which creates it.")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Check("data directory", "error", f"{folder} cannot be written", "Run as its owner, or correct its mode.")
        return
    others = folder.stat().st_mode & 0o077
    if others:
        yield Check("data directory", "warning", f"{folder} is open to others", f"Run `chmod 700 {folder}`.")
    else:
        yield Check("data directory", "ok", "writable, and readable by its owner only")
    folders = [each for each in (folder, settings.blob_dir, settings.upload_dir) if each.is_dir()]
    room = Disks(folders, settings.min_free_bytes).room()
    told = f"{room.free_bytes / 1e9:.1f} GB free, of which {room.min_free_bytes / 1e9:.1f} GB must stay free"
    if room.spare_bytes < 0:
        yield Check("disk space", "error", told, "Nothing is stored until space is free: `paintbox gc`, larger disk.")
    elif room.free_bytes < _LITTLE_DISK_BYTES:
        yield Check("disk space", "warning", told, "A patch of a large model needs several GB.")
    else:
        yield Check("disk space", "ok", told)


def check_database(site: Site) -> Iterator[Check]:
    """Yield whether the database responds, has this release's schema, tells the same time, and requires keys."""
    settings = site.settings
    database = open_database(settings.resolved_database_url)
    with closing(database):
        path = database.sqlite_path
        if path is not None and not path.exists():
            yield Check("database", "warning", f"{path} does not exist", "The first start creates it.")
            return
        with faults_named():
            yield _check_revision(database)
            if database.revision() != newest_revision():
                return
            yield from _check_disk_of(database)
            yield _check_keys(database, settings)
            yield from _check_jobs(database, is_running=site.url is not None)


def _check_revision(database: Database) -> Check:
    where = str(database.sqlite_path or f"{database.engine.url.host or 'PostgreSQL'}")
    revision, newest = database.revision(), newest_revision()
    if revision == newest:
        return Check("database", "ok", f"{where}, revision {revision}")
    if database.unknown_revision() is not None:
        detail = f"{where} is of a newer release: revision {revision}, this release knows {newest}"
        return Check("database", "error", detail, "Start that release, or restore a backup from before the upgrade.")
    detail = f"{where} has revision {revision or 'none'}, this release writes {newest}"
    return Check("database", "warning", detail, "Make a backup with the old release; the next start migrates it.")


def _check_disk_of(database: Database) -> Iterator[Check]:
    shared = describe_shared_disk(database)
    if shared is not None:
        yield Check("database disk", "warning", shared, "Use a local disk, or PostgreSQL.")
    if database.sqlite_path is None:
        skew = (database.server_time() - utc_now()).total_seconds()
        if abs(skew) > _MAX_SKEW_SECONDS:
            detail = f"the database server's clock differs by {skew:+.1f} s"
            yield Check("database clock", "warning", detail, "Synchronise both machines with NTP.")
        else:
            yield Check("database clock", "ok", f"differs by {1000 * skew:+.0f} ms")


def _check_keys(database: Database, settings: AppSettings) -> Check:
    if settings.api_key is not None or are_keys_required(database, settings.keys_file):
        return Check("keys", "ok", "requests need a key")
    advice = "On a shared machine, run: paintbox keys create --name ops --scope admin"
    return Check("keys", "warning", "no key is set: every user of this machine can administer the service", advice)


def _check_jobs(database: Database, *, is_running: bool) -> Iterator[Check]:
    """Yield the age of the workers' last signs of life, as far as jobs show it."""
    with database.read() as session:
        stats = JobStats(session)
        waited, silent, held = stats.longest_wait_seconds(), stats.longest_silence_seconds(), stats.num_held()
        lapsed = stats.lapsed_leases()
    detail = f"{held} running, the last report {silent:.0f} s ago" if held else "none running"
    detail += f"; the next one has waited {waited:.0f} s" if waited else ""
    if lapsed:
        advice = "Its worker has stopped or cannot reach the database; another one takes the job over."
        yield Check("jobs", "warning", f"{detail}; {len(lapsed)} without a heartbeat", advice)
    elif waited > _LONG_WAIT_SECONDS and not held:
        advice = "Start a worker, or see PAINTBOX_WORKER_KINDS." if is_running else "Start the service."
        yield Check("jobs", "error", f"{detail}; no worker takes jobs", advice)
    elif held and silent > _LONG_SILENCE_SECONDS:
        yield Check("jobs", "warning", detail, "See the job's log in logs/jobs, and PAINTBOX_STALL_LIMIT_SECONDS.")
    else:
        yield Check("jobs", "ok", detail)


def check_broker(site: Site) -> Iterator[Check]:
    """Yield whether the broker responds, and which workers do."""
    settings = site.settings
    url: str | None = settings.broker_url.get_secret_value()
    if "broker_url" not in settings.model_fields_set:
        url = read_url(settings.data_dir / "valkey") if site.url is not None else None
    if url is None:
        yield Check("broker", "ok", "`paintbox up` starts its own")
        return
    try:
        with closing(
            Redis.from_url(url, socket_timeout=_BROKER_SECONDS, socket_connect_timeout=_BROKER_SECONDS)
        ) as connection:
            connection.ping()
    except (RedisError, OSError, ValueError) as error:
        told = str(error).replace(url, "the broker")[:300]
        yield Check("broker", "error", told, "Start it, or correct PAINTBOX_BROKER_URL; jobs wait meanwhile.")
        return
    yield Check("broker", "ok", "responds")
    names = _find_workers(url)
    if names:
        yield Check("workers", "ok", f"{len(names)} respond: {', '.join(names[:5])}")
    else:
        advice = "Start one: `python -m worker`. A worker that is just starting does not respond yet."
        yield Check("workers", "error" if site.url else "warning", "none responds", advice)


def _find_workers(url: str) -> list[str]:
    from celery import Celery

    with closing(Celery(broker=url)) as celery:
        replies = celery.control.ping(timeout=_BROKER_SECONDS)
    return sorted(name for reply in replies for name in reply)


def check_blobs(site: Site) -> Iterator[Check]:
    """Yield whether the blob store takes a blob, returns it and deletes it."""
    settings = site.settings
    if not settings.is_bucket and not settings.blob_dir.is_dir():
        yield Check("blobs", "warning", f"{settings.blob_dir} does not exist", "The first start creates it.")
        return
    blobs, data = open_blobs(settings), b"paintbox doctor " + secrets.token_bytes(16)
    sha256 = blobs.put_bytes(data)
    try:
        intact = blobs.read(sha256) == data
    finally:
        blobs.delete(sha256)
    where = settings.blob_url or settings.blob_dir
    if intact:
        yield Check("blobs", "ok", f"{where} can be written and read")
    else:
        yield Check("blobs", "error", f"{where} returns other bytes than were stored", "Check the disk or the bucket.")


def check_port(site: Site) -> Iterator[Check]:
    """Yield whether the service of `paintbox up` is ready or, if none runs, whether its port is free."""
    settings = site.settings
    if site.url is not None:
        hindrance = find_hindrance(site.url)
        if hindrance is None:
            yield Check("service", "ok", f"`paintbox up` serves at {site.url}")
        else:
            yield Check("service", "error", hindrance, f"See {settings.log_dir / 'api.log'}.")
    elif settings.port and not is_free(settings.host, settings.port):
        detail = f"port {settings.port} on {settings.host} is in use, and not by `paintbox up` on this data directory"
        yield Check("port", "warning", detail, "Stop that process, or choose another port with --port.")
    else:
        yield Check("port", "ok", f"{settings.host}:{settings.port} is free; `paintbox up` would use it")


def check_models(site: Site) -> Iterator[Check]:
    """Yield whether each base model can be loaded and has the weights that were registered."""
    from paintbox_launcher.machine import load_fingerprint  # loads torch, for seconds

    settings = site.settings
    registered = _registered_bases(settings)
    for ref in settings.bases:
        found, problem = load_fingerprint(ref)
        known = registered.get(ref)
        if found is None:
            advice = "Correct PAINTBOX_BASES, or let this machine download the weights."
            yield Check(f"base {ref}", "error", problem, advice)
        elif known is not None and known != found:
            detail = f"its weights have changed: {known[:12]}… when registered, {found[:12]}… now"
            yield Check(
                f"base {ref}", "error", detail, "Restore the old weights, or use another reference for the new."
            )
        else:
            yield Check(f"base {ref}", "ok", f"fingerprint {found[:12]}…" + ("" if known else ", not registered yet"))


def _registered_bases(settings: AppSettings) -> dict[str, str]:
    """Return the fingerprints of the registered bases by reference; none if the database does not tell."""
    known: dict[str, str] = {}
    with suppress(RegistryError), closing(open_database(settings.resolved_database_url)) as database:
        path = database.sqlite_path
        if path is not None and not path.exists():
            return known
        with faults_named():
            if database.revision() != newest_revision():
                return known
            with database.read() as session:
                for ref in settings.bases:
                    with suppress(NotFoundError):
                        known[ref] = Versions(session).base_by_ref(ref).fingerprint
    return known
