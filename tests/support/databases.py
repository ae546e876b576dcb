"""Empty databases that need no migrations of their own: one is migrated for each test process, and copied."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from registry.database import Database


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "paintbox.db"
        database = Database(f"sqlite:///{path}")
        database.migrate()
        database.close()
        return path.read_bytes()


def write_migrated(path: Path) -> None:
    """Write an SQLite database without rows, readable by its owner only."""
    path.touch(mode=0o600)
    path.write_bytes(_migrated())


def open_migrated(path: Path) -> Database:
    """A database without rows in a new file."""
    write_migrated(path)
    return Database(f"sqlite:///{path}")
