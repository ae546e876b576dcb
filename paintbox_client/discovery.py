"""Where a service of this user runs on this machine: `paintbox up` leaves its address in its data directory."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

DEFAULT_URL = "http://127.0.0.1:8321"
SERVICE_FILE = "service.json"


def default_data_dir() -> Path:
    """The data directory of `paintbox up` when none is named: `PAINTBOX_DATA_DIR`, else the user's data folder."""
    if named := os.environ.get("PAINTBOX_DATA_DIR"):
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "paintbox"
    root = os.environ.get("XDG_DATA_HOME", "").strip()
    return (Path(root) if root else Path.home() / ".local" / "share") / "paintbox"


def find_service(data_dir: Path) -> str | None:
    """Return the URL of the service that runs on this data directory, or None."""
    try:
        service = json.loads((data_dir / SERVICE_FILE).read_text(encoding="utf-8"))
        os.kill(int(service["pid"]), 0)  # only asks whether it is there
        return str(service["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def resolve_url(url: str | None) -> str:
    """Return the URL that was given, else that of a running service in the default data directory, else the usual."""
    return url or find_service(default_data_dir()) or DEFAULT_URL
