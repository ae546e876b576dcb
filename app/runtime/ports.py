"""The ports of API processes that share one: `PAINTBOX_PROCESSES`.

All of them listen on `PAINTBOX_PORT`, where the kernel distributes new connections (SO_REUSEPORT). Each also listens on
a port of its own, where it can be asked for its metrics and readiness: the first free one of those that follow.
"""

from __future__ import annotations

import errno
import socket

from registry.errors import ConfigurationError


def listen_on_own_port(host: str, shared_port: int, num_processes: int) -> socket.socket:
    """Return a socket that listens on the first free port of the `num_processes` ports after the shared one.

    Raises:
        ConfigurationError: None is free, or the host is not an address of this machine.
    """
    for port in range(shared_port + 1, shared_port + 1 + num_processes):
        family, _, _, _, address = _resolve(host, port)
        try:
            return socket.create_server(address[:2], family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigurationError(
                    f"PAINTBOX_HOST: cannot listen on {host} port {port} ({error.strerror}).", "Correct it and restart."
                ) from error
    raise ConfigurationError(
        f"PAINTBOX_PROCESSES={num_processes}: ports {shared_port + 1} to {shared_port + num_processes} are in use.",
        "Either all processes already run, or choose another PAINTBOX_PORT.",
    )


def _resolve(host: str, port: int) -> tuple[int, int, int, str, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigurationError(f"PAINTBOX_HOST: {host!r} is unknown.", "Correct it and restart.") from error
    return found[0]  # type: ignore[return-value]
