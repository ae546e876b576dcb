"""Limits of a connection, and how many a process can hold."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from registry.errors import ConfigurationError

_MOST_FILES = 65_536
"""Upper bound of the requested file descriptors: some systems report billions."""

_OTHER_FILES = 128
"""File descriptors for everything else: the database, the broker, models, uploads."""

_DEFAULT_CONNECTIONS = 4096


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of a connection.

    Attributes:
        max_connections: Most connections at once. Beyond it, of those with no request or half of one the connection
            that was silent longest is closed.
        keep_alive_seconds: How long a connection may be idle between two requests.
        head_seconds: Time for the head of a request, from its first byte; of a new connection, from its beginning.
        body_seconds: How long nothing of a body may come.
        send_seconds: How long a peer may take nothing of what waits to be sent.
        min_bytes_per_second: A body that comes more slowly, or an answer that is taken more slowly, uses up the time
            that may pass without a byte.
        max_head_bytes: Most bytes of a head, and of what is no body in a chunked one: extensions of chunks, trailers.
        max_headers: Most header fields.
        max_pipelined: Most requests that may wait on one connection for the answer to an earlier one.
        drain_seconds: How long the rest of a body is read and discarded once its request has been answered, so that
            the peer reads the answer and is not reset.
        drain_pause_seconds: How long nothing of that rest may come.
        max_drain_bytes: Most bytes of it.
    """

    max_connections: int = _DEFAULT_CONNECTIONS
    keep_alive_seconds: float = 75.0
    head_seconds: float = 15.0
    body_seconds: float = 30.0
    send_seconds: float = 60.0
    min_bytes_per_second: float = 500.0
    max_head_bytes: int = 64 << 10
    max_headers: int = 200
    max_pipelined: int = 100
    drain_seconds: float = 30.0
    drain_pause_seconds: float = 5.0
    max_drain_bytes: int = 256 << 20

    @property
    def sweep_seconds(self) -> float:
        """How often the times are checked."""
        shortest = min(self.keep_alive_seconds, self.head_seconds, self.body_seconds, self.send_seconds)
        return max(0.01, min(1.0, shortest / 4, self.drain_pause_seconds / 4))


def raise_open_files() -> None:
    """Let this process open as many files as the system allows it: the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def choose_max_connections(wanted: int | None) -> int:
    """Return how many connections this process may hold, so that enough file descriptors remain for everything else.

    Args:
        wanted: By the settings; None: as many as the limit of open files allows, at most 4,096.

    Raises:
        ConfigurationError: The process may not open enough files for `wanted`.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = _MOST_FILES if soft == resource.RLIM_INFINITY else max(soft - _OTHER_FILES, soft // 2)
    if wanted is None:
        return min(_DEFAULT_CONNECTIONS, possible)
    if wanted > possible:
        raise ConfigurationError(
            f"PAINTBOX_MAX_CONNECTIONS: {wanted} connections need {wanted + _OTHER_FILES} open files, but the limit is "
            f"{soft}.",
            "Raise the limit (`ulimit -n`), or lower the setting.",
        )
    return wanted
