"""Files that only their owner may read: everything in a data directory."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from registry.errors import ConfigurationError

_OURS = frozenset(
    {
        *("blobs", "blob-cache", "cache", "logs", "scratch", "uploads", "valkey"),
        *("paintbox.db", "paintbox.db-wal", "paintbox.db-shm", "paintbox.db-journal"),
        *("up.lock", "service.json", "keys.required"),
    }
)


def make_files_private() -> None:
    """Let files and folders that this process and its children make be readable by their owner only."""
    os.umask(0o077)


def close_to_others(data_dir: Path) -> None:
    """Remove other users' permissions from everything in a data directory.

    The directory itself keeps its mode if it also holds something else: it may be a home directory.
    """
    entries = list(data_dir.iterdir())
    for path in entries:
        if path.name in _OURS:
            close_path(path)
    if all(path.name in _OURS for path in entries) and data_dir.stat().st_uid == os.geteuid():
        close_path(data_dir)


def close_path(path: Path) -> None:
    """Remove other users' permissions from an existing file or folder, or from the target of a symbolic link.

    Raises:
        ConfigurationError: Other users can read it, and its permissions cannot be changed.
    """
    with suppress(FileNotFoundError):  # another process removed it just now
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & 0o077:
            return
        try:
            path.chmod(mode & ~0o077)
        except PermissionError as error:
            if mode & 0o007:
                raise ConfigurationError(
                    f"PAINTBOX_DATA_DIR: other users can read {path}, and its permissions cannot be changed.",
                    "Run `chmod -R go-rwx` on it as its owner, or use another folder.",
                ) from error
