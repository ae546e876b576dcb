"""What a failing PostgreSQL server means: broken connections are made anew, and what may pass is told as such."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from registry.database import Database
from registry.errors import ConfigurationError, DatabaseUnavailableError
from registry.faults import classify_fault
from registry.settings import StorageSettings
from tests.registry.rows import add_base

END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()
"""


def end_connections(database: Database) -> None:
    other = Database(database.engine.url.render_as_string(hide_password=False))
    with other.read() as session:
        session.execute(text(END_OTHERS)).all()
    other.close()


def test_connections_that_a_restart_broke_are_made_anew(postgres_database: Database) -> None:
    with postgres_database.read() as session:
        session.execute(text("SELECT 1"))
    end_connections(postgres_database)
    with postgres_database.write() as session:
        add_base(session)


def test_a_transaction_that_a_restart_broke_leaves_nothing_and_may_be_tried_again(postgres_database: Database) -> None:
    def write() -> None:
        with postgres_database.write() as session:
            add_base(session)
            session.flush()
            end_connections(postgres_database)

    with pytest.raises(SQLAlchemyError) as caught:
        write()
    assert isinstance(classify_fault(caught.value), DatabaseUnavailableError)
    with postgres_database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM base_models")) == 0


def test_no_statement_waits_for_a_lock_without_end(postgres_database: Database) -> None:
    with postgres_database.read() as session:
        assert session.scalar(text("SHOW lock_timeout")) == "30s"
    with postgres_database.write() as holder:
        holder.execute(text("LOCK TABLE base_models IN ACCESS EXCLUSIVE MODE"))

        def read() -> None:
            with postgres_database.read() as session:
                session.execute(text("SET LOCAL lock_timeout = '100ms'"))
                session.execute(text("SELECT 1 FROM base_models"))

        with pytest.raises(SQLAlchemyError) as caught:
            read()
    fault = classify_fault(caught.value)
    assert isinstance(fault, DatabaseUnavailableError)
    assert "a lock timed out" in fault.detail


def test_what_we_did_wrong_ourselves_is_no_fault_of_the_database(database: Database) -> None:
    def write_twice() -> None:
        with database.write() as session:
            for _ in range(2):
                session.execute(text("INSERT INTO base_models VALUES ('f', 'x', 8, 32, '2026-01-01 00:00:00')"))

    with pytest.raises(IntegrityError) as caught:
        write_twice()
    assert classify_fault(caught.value) is None


def test_a_user_without_a_home_is_told_to_name_a_folder() -> None:
    with pytest.raises(ConfigurationError, match="no home directory; set a folder"):
        StorageSettings.load(data_dir="~nobody-of-this-name/paintbox")
