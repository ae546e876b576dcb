"""Transactions: writers take turns, errors roll back, readers see one snapshot, moments keep their zone."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from registry.database import Database
from registry.tables import BaseModelRow, TaskVectorRow


def base_row(fingerprint: str, embed_dim: int = 0, at: datetime | None = None) -> BaseModelRow:
    return BaseModelRow(
        fingerprint=fingerprint,
        ref=f"ref of {fingerprint}",
        embed_dim=embed_dim,
        image_size=32,
        created_at=at or datetime.now(UTC),
    )


def add(database: Database, row: object) -> None:
    with database.write() as session:
        session.add(row)


def embed_dim(database: Database, fingerprint: str) -> int:
    with database.read() as session:
        return session.get_one(BaseModelRow, fingerprint).embed_dim


def test_sqlite_keeps_a_write_ahead_log_and_syncs_it(sqlite_database: Database) -> None:
    with sqlite_database.read() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA synchronous")) == 2
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


def test_write_transactions_wait_for_their_turn_rather_than_fail(sqlite_database: Database) -> None:
    add(sqlite_database, base_row("a"))

    def count_up() -> None:
        for _ in range(20):
            with sqlite_database.write() as session:
                row = session.get_one(BaseModelRow, "a")
                row.embed_dim += 1  # lost, or refused as a stale snapshot, if the lock were taken only now

    threads = [threading.Thread(target=count_up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert embed_dim(sqlite_database, "a") == 40


def test_a_writer_waits_while_another_holds_the_lock(sqlite_database: Database) -> None:
    add(sqlite_database, base_row("a"))
    order: list[str] = []

    def second() -> None:
        with sqlite_database.write() as session:
            order.append(f"second sees {session.get_one(BaseModelRow, 'a').embed_dim}")

    with sqlite_database.write() as session:
        session.get_one(BaseModelRow, "a").embed_dim = 7
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first ends")
    thread.join()
    assert order == ["first ends", "second sees 7"]


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    add(database, base_row("a"))
    with database.write() as session:
        session.get_one(BaseModelRow, "a").embed_dim = 7
        session.flush()
        assert embed_dim(database, "a") == 0


def test_an_error_rolls_back_everything(database: Database) -> None:
    def fail_half_way() -> None:
        with database.write() as session:
            session.add(base_row("a"))
            session.flush()
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    with database.read() as session:
        assert session.get(BaseModelRow, "a") is None


def test_what_a_read_changes_is_dropped(database: Database) -> None:
    with database.read() as session:
        session.add(base_row("a"))
        session.flush()
    with database.read() as session:
        assert session.get(BaseModelRow, "a") is None


def test_a_read_sees_one_snapshot(database: Database) -> None:
    add(database, base_row("a"))
    with database.read() as session:
        assert session.get(BaseModelRow, "b") is None
        add(database, base_row("b"))
        assert session.get(BaseModelRow, "b") is None
    with database.read() as session:
        assert session.get(BaseModelRow, "b") is not None


def test_foreign_keys_hold(database: Database) -> None:
    orphan = TaskVectorRow(
        sha256="0" * 64,
        base_fingerprint="nothing",
        num_bytes=1,
        relative_norm=0.1,
        job_id="job",
        created_at=datetime.now(UTC),
    )
    with pytest.raises(IntegrityError):
        add(database, orphan)


def test_moments_come_back_in_utc(database: Database) -> None:
    noon_in_tokyo = datetime(2031, 1, 1, 12, tzinfo=timezone(timedelta(hours=9)))
    add(database, base_row("a", at=noon_in_tokyo))
    with database.read() as session:
        read = session.get_one(BaseModelRow, "a").created_at
    assert read == noon_in_tokyo
    assert read.utcoffset() == timedelta(0)


def test_a_new_database_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """SQLite does not wait for the lock that switching to WAL takes, so one of several starters used to fail."""
    for attempt in range(20):
        url = f"sqlite:///{tmp_path / str(attempt)}.db"
        together = threading.Barrier(4)

        def open_it(url: str = url, together: threading.Barrier = together) -> str:
            database = Database(url)
            together.wait()
            with database.write() as session:
                mode = session.execute(text("PRAGMA journal_mode")).scalar_one()
            database.close()
            return str(mode)

        with ThreadPoolExecutor(4) as pool:
            assert [future.result() for future in [pool.submit(open_it) for _ in range(4)]] == ["wal"] * 4
