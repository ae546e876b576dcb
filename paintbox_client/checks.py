"""Checks of what a user of a service needs: Python, packages, the connection, clocks, one classification.

What is installed beside the client adds checks of its own through the entry-point group `paintbox.checks`: a function
that takes the data directory, or None, and yields checks.
"""

from __future__ import annotations

import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Literal

from paintbox_client.client import Client
from paintbox_client.connection import Connection
from paintbox_client.errors import ApiError, ClientError, ServiceUnreachableError
from paintbox_client.records import JsonObject

GROUP = "paintbox.checks"
Status = Literal["ok", "warning", "error"]

_LEAST_PYTHON = (3, 11)
_PACKAGES = ("paintbox", "httpx2", "typer", "rich")
_MAX_SKEW_SECONDS = 5.0
_SLOW_SECONDS = 5.0
_LABELS = ["a photograph", "a drawing"]


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes:
        name: What was checked.
        status: `error`: it does not work; `warning`: it works, with a limit or a risk.
        detail: What was found.
        advice: What to do; empty if nothing.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""

    def as_json(self) -> JsonObject:
        """Return its fields."""
        return asdict(self)


def run_checks(connection: Connection, data_dir: Path | None) -> Iterator[Check]:
    """Yield all checks: of this Python, of the installation on this machine if there is one, of the service."""
    yield from check_python()
    for entry in entry_points(group=GROUP):
        try:
            check: Callable[[Path | None], Iterator[Check]] = entry.load()
        except ImportError as error:
            advice = "Install Paintbox with all its dependencies, or `paintbox-client` alone."
            yield Check(entry.name, "error", f"cannot be loaded: {error}", advice)
        else:
            yield from check(data_dir)
    yield from check_service(connection)


def check_python() -> Iterator[Check]:
    """Yield the versions of Python and of the client's packages."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _LEAST_PYTHON:
        yield Check("python", "error", found, "Use Python 3.11 or newer.")
    else:
        yield Check("python", "ok", f"{found} at {sys.executable}")
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:  # the client's own distribution has another name
            continue
    yield Check("client", "ok", ", ".join(versions))


def check_service(connection: Connection) -> Iterator[Check]:
    """Yield checks of the service that a connection leads to; after the first error, nothing more."""
    try:
        client = connection.open()
    except ClientError as error:
        yield Check("service", "error", error.detail, error.next)
        return
    with client:
        yield from _check_open(client)


def _check_open(client: Client) -> Iterator[Check]:
    started = time.time()
    try:
        headers = client.ping()
    except ServiceUnreachableError as error:
        yield Check("service", "error", error.detail, "Start it with `paintbox up`, or name it with --url.")
        return
    except ClientError as error:
        yield Check("service", "error", f"{client.url}: {error.detail}", error.next)
        return
    yield Check("service", "ok", f"{client.url} responds in {1000 * (time.time() - started):.0f} ms")
    yield check_clock(headers, started, time.time())
    ready = _check_ready(client)
    yield ready
    access = list(_check_access(client))
    yield from access
    if ready.status != "error" and all(check.status == "ok" for check in access):
        yield _check_classify(client)


def check_clock(headers: Mapping[str, str], sent: float, received: float) -> Check:
    """Compare this machine's clock with the service's, which its `Date` header tells in whole seconds.

    Args:
        headers: Of any response of the service.
        sent: When the request was sent, in seconds since the epoch, by this machine's clock.
        received: When the response had arrived.
    """
    date = headers.get("date")
    try:
        there = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return Check("clock", "warning", "the service does not tell its time", "Check whether a proxy removes `Date`.")
    ahead = max(there - received, 0.0) or min(there + 1.0 - sent, 0.0)  # positive: the service's clock is ahead
    if abs(ahead) <= _MAX_SKEW_SECONDS:
        return Check("clock", "ok", "agrees with the service's, to the second")
    detail = f"the service's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    return Check("clock", "warning", detail, "Synchronise both with NTP: keys expire and leases end by the clock.")


def _check_ready(client: Client) -> Check:
    try:
        ready = client.ready()
    except ApiError as error:
        return Check("readiness", "error", error.detail, error.next)
    except ClientError as error:
        return Check("readiness", "error", error.detail, error.next)
    failed = {name: check for name, check in ready.checks.items() if not check.ok}
    if not failed:
        return Check("readiness", "ok", ", ".join(ready.checks))
    detail = "; ".join(f"{name}: {check.detail}" for name, check in failed.items())
    return Check("readiness", "warning", detail, "Classification works; see docs/operations.md, Health.")


def _check_access(client: Client) -> Iterator[Check]:
    try:
        system = client.system()
    except ApiError as error:
        yield Check("access", "error", error.detail, "Set PAINTBOX_API_KEY or --api-key to a key of this service.")
        return
    except ClientError as error:
        yield Check("access", "error", error.detail, error.next)
        return
    yield Check("access", "ok", "requests are accepted")
    own = _own_version()
    if own is not None and own != system.version:
        detail = f"the service is Paintbox {system.version}, this client {own}"
        yield Check("versions", "warning", detail, "Install the same release on both sides.")
    else:
        yield Check("versions", "ok", f"the service is Paintbox {system.version} on {system.device}")


def _own_version() -> str | None:
    for package in ("paintbox", "paintbox-client"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


def _check_classify(client: Client) -> Check:
    started = time.perf_counter()
    try:
        answer = client.classify(small_png(), _LABELS)
    except ClientError as error:
        return Check("classify", "error", error.detail, error.next)
    seconds = time.perf_counter() - started
    detail = f"one image in {1000 * seconds:.0f} ms by version {answer.version}"
    if seconds > _SLOW_SECONDS:
        return Check("classify", "warning", detail, "Check the load of the service, and PAINTBOX_DEVICE.")
    return Check("classify", "ok", detail)


def small_png(size: int = 32) -> bytes:
    """Return a PNG of a grey gradient, `size` pixels wide and high."""
    rows = b"".join(b"\0" + bytes(255 * x // size for x in range(size)) for _ in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def worst(checks: list[Check]) -> Status:
    """Return the worst status of some checks."""
    statuses = {check.status for check in checks}
    return "error" if "error" in statuses else "warning" if "warning" in statuses else "ok"
