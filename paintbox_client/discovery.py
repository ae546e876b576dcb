"""Where a service of this user runs on this machine.

`paintbox up` leaves its address in its data directory, and a pointer to that directory in a folder of the user's, so
that a service on another data directory is found, too.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from paintbox_client.errors import InputError

DEFAULT_URL = "http://127.0.0.1:8321"
SERVICE_FILE = "service.json"
_MOST_POINTERS = 100


def default_data_dir() -> Path:
    """The data directory of `paintbox up` when none is named: `PAINTBOX_DATA_DIR`, else the user's data folder."""
    if named := os.environ.get("PAINTBOX_DATA_DIR"):
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "paintbox"
    root = os.environ.get("XDG_DATA_HOME", "").strip()
    return (Path(root) if root else Path.home() / ".local" / "share") / "paintbox"


def pointer_dir() -> Path:
    """The folder in which each `paintbox up` of this user names its data directory."""
    root = os.environ.get("XDG_STATE_HOME", "").strip()
    return (Path(root) if root else Path.home() / ".local" / "state") / "paintbox" / "services"


def find_service(data_dir: Path) -> str | None:
    """Return the URL of the service that runs on this data directory, or None."""
    try:
        service = json.loads((data_dir / SERVICE_FILE).read_text(encoding="utf-8"))
        os.kill(int(service["pid"]), 0)  # only asks whether it is there
        return str(service["url"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def find_elsewhere() -> dict[Path, str]:
    """Return the URLs of the services of this user that run on other data directories, by directory."""
    found: dict[Path, str] = {}
    try:
        pointers = sorted(pointer_dir().iterdir())[:_MOST_POINTERS]
    except (OSError, RuntimeError):  # the last: the user has no home
        return found
    for pointer in pointers:
        try:
            data_dir = Path(pointer.read_text(encoding="utf-8").strip())
        except (OSError, ValueError):
            continue
        url = find_service(data_dir)
        if url is not None:
            found[data_dir] = url
    return found


def find_running() -> str | None:
    """Return the URL of this user's service: on the default data directory, else the only one elsewhere, else None.

    Raises:
        InputError: Several run on other data directories, and none on the default one.
    """
    url = find_service(default_data_dir())
    if url is not None or os.environ.get("PAINTBOX_DATA_DIR"):  # which selects one
        return url
    elsewhere = find_elsewhere()
    if len(set(elsewhere.values())) > 1:
        listed = "; ".join(f"{each} ({data_dir})" for data_dir, each in elsewhere.items())
        raise InputError(
            f"Several services are running: {listed}.", "Choose one with --url, PAINTBOX_URL or Client(url)."
        )
    return next(iter(elsewhere.values()), None)


def resolve_url(url: str | None) -> str:
    """Return the URL that was given, else `PAINTBOX_URL`, else that of this user's running service, else the usual."""
    return url if url is not None else os.environ.get("PAINTBOX_URL") or find_running() or DEFAULT_URL
