"""The migrations make the tables that the code declares, on both engines, whoever runs them and how often."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Boolean, DateTime, Float, Integer, MetaData, Table, func, select, text

from contract.patch_summary import PatchSummary
from contract.report import PatchReport
from registry.aliases import Aliases
from registry.database import Database
from registry.idempotency import IdempotencyKeys
from registry.patches import Patches
from registry.tables import Base
from registry.versions import Versions
from tests.registry.rows import FINGERPRINT, add_base

MIGRATE = "import sys; from registry.database import Database; Database(sys.argv[1]).migrate()"


def differences(database: Database) -> list[object]:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, Base.metadata))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("registry") / "migrations"))
    return config


REVISIONS = [each.revision for each in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def _upgrade_to(database: Database, revision: str) -> None:
    config = _config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


@pytest.fixture
def unmigrated(empty_url: str) -> Database:
    return Database(empty_url)


def test_migrated_schema_is_what_the_tables_declare(database: Database) -> None:
    assert differences(database) == []


def test_migrating_twice_changes_nothing(database: Database) -> None:
    database.migrate()
    assert differences(database) == []


def _value(table: Table, name: str) -> Any:
    """Something that the column takes; what refers to a row refers to the only one there is."""
    column = table.columns[name]
    for key in column.foreign_keys:
        return _value(key.column.table, key.column.name)
    for kind, value in ((Boolean, False), (Integer, 1), (Float, 0.5), (DateTime, datetime(2026, 1, 1, tzinfo=UTC))):
        if isinstance(column.type, kind):
            return value
    return {} if isinstance(column.type, JSON) else f"{name}"[:8]


def _counts(database: Database) -> dict[str, int]:
    metadata = MetaData()
    metadata.reflect(database.engine)
    with database.read() as session:
        counts = {each.name: session.scalar(select(func.count()).select_from(each)) for each in metadata.sorted_tables}
    return {name: count or 0 for name, count in counts.items() if name != "alembic_version"}


@pytest.mark.parametrize("revision", sorted({*REVISIONS[:-1:4], *REVISIONS[-6:-1]}))
def test_a_row_in_every_table_survives_the_way_from_earlier_releases(unmigrated: Database, revision: str) -> None:
    _upgrade_to(unmigrated, revision)
    metadata = MetaData()
    metadata.reflect(unmigrated.engine)
    tables = [table for table in metadata.sorted_tables if table.name != "alembic_version"]
    with unmigrated.write() as session:
        for table in tables:
            session.execute(table.insert(), {column.name: _value(table, column.name) for column in table.columns})
    unmigrated.migrate()
    assert differences(unmigrated) == []
    counts = _counts(unmigrated)
    assert {table.name: counts[table.name] for table in tables} == {table.name: 1 for table in tables}
    unmigrated.close()


def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    starting = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, empty_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    errors = [process.communicate(timeout=60)[1] for process in starting]
    assert [process.returncode for process in starting] == [0, 0, 0], errors
    database = Database(empty_url)
    assert differences(database) == []
    database.close()


def test_versions_of_an_older_release_get_their_parents_and_keep_their_history(unmigrated: Database) -> None:
    _upgrade_to(unmigrated, "0003")
    base, now = "f" * 64, "2026-01-01 00:00:00"
    with unmigrated.engine.begin() as connection:
        insert = "INSERT INTO base_models VALUES (:base, 'starter', 8, 32, :now)"
        connection.execute(text(insert), {"base": base, "now": now})
        insert = "INSERT INTO task_vectors VALUES ('tau', :base, 1, 0.1, 'job_1', :now)"
        connection.execute(text(insert), {"base": base, "now": now})
        for number, job, lineage in (
            (1, None, "{}"),
            (2, "job_1", '{"request": {"name": "a patch"}}'),
            (3, None, '{"request": {"terms": [{"version": 2}, {"task_vector_sha256": "tau"}, {"version": 99}]}}'),
            (4, None, '{"request": {"from_version": 3, "remove": ["tau"]}}'),
        ):
            connection.execute(
                text(
                    "INSERT INTO versions (id, name, base_fingerprint, job_id, probe, lineage, created_at) "
                    "VALUES (:id, 'v', :base, :job, '[]', :lineage, :now)"
                ),
                {"id": number, "base": base, "job": job, "lineage": lineage, "now": now},
            )
        connection.execute(text("INSERT INTO version_terms VALUES (2, 0, 'tau', 1, 'flat'), (3, 0, 'tau', 2, 'flat')"))
        connection.execute(
            text(
                "INSERT INTO alias_history (alias, to_version_id, actor, reason, at) VALUES ('old', 2, 'a', 'r', :now)"
            ),
            {"now": now},
        )
    unmigrated.migrate()
    with unmigrated.write() as session:
        assert Versions(session).parents_of([1, 2, 3, 4]) == {1: [], 2: [], 3: [2], 4: [3]}
        (move,) = Aliases(session).history("old")
        assert (move.to_version_id, move.reason, move.forced) == (2, "r", False)
        Aliases(session).move("old", 3, actor="a", reason="again")
        assert Aliases(session).revision("old") == move.id + 1
    unmigrated.close()


def test_finished_patches_of_an_older_release_get_the_summary_of_their_report(unmigrated: Database) -> None:
    _upgrade_to(unmigrated, "0021")
    change = {"change_points": 3.0, "low_points": 1.0, "high_points": 5.0, "p_value": 0.1, "classes": []}
    score = {"correct": 1, "total": 2}
    scores = {"test": {"zero_shot": score, "fine_tuned": score, "patched": score}, "validation": {"zero_shot": None}}
    task = {"dataset_id": "ds_1", "name": "n", "role": "patching", "change": change} | scores
    report: dict[str, Any] = {"alpha": 0.5, "reason": "best", "tasks": [task, task | {"role": "supported"}]}
    report["tasks"].append(task | {"role": "supported", "change": None})
    report["certificate"] = {"stance": "certified", "confidence": 0.95, "bounds": []}
    with unmigrated.write() as session:
        add_base(session)
    with unmigrated.engine.begin() as connection:
        for identifier, stored in (("pt_1", json.dumps(report)), ("pt_2", None)):
            insert = (
                "INSERT INTO patches (id, name, request, base_fingerprint, job_id, report, created_at) "
                "VALUES (:id, 'p', '{}', :base, 'job_1', :report, '2026-01-01 00:00:00')"
            )
            connection.execute(text(insert), {"id": identifier, "base": FINGERPRINT, "report": stored})
    unmigrated.migrate()
    with unmigrated.read() as session:
        patches = Patches(session)
        assert patches.get("pt_1").summary == PatchSummary.of(PatchReport.of_stored(report)).model_dump()
        assert patches.get("pt_2").summary is None
    unmigrated.close()


def test_idempotency_keys_of_an_older_release_belong_to_who_owns_the_patch(unmigrated: Database) -> None:
    _upgrade_to(unmigrated, "0010")
    base, now = "f" * 64, "2026-01-01 00:00:00"
    with unmigrated.engine.begin() as connection:
        insert = "INSERT INTO base_models VALUES (:base, 'starter', 8, 32, :now)"
        connection.execute(text(insert), {"base": base, "now": now})
        for patch, owner in (("pt_1", "me"), ("pt_2", None)):
            connection.execute(
                text(
                    "INSERT INTO patches (id, name, request, base_fingerprint, job_id, owner, created_at) "
                    "VALUES (:id, 'p', '{}', :base, 'job', :owner, :now)"
                ),
                {"id": patch, "base": base, "owner": owner, "now": now},
            )
            insert = (
                "INSERT INTO idempotency_keys (key, request_sha256, subject_id, created_at) VALUES (:k, :h, :id, :t)"
            )
            fresh = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
            connection.execute(text(insert), {"k": patch, "h": "a" * 64, "id": patch, "t": fresh})
    unmigrated.migrate()
    with unmigrated.write() as session:
        keys = IdempotencyKeys(session)
        assert keys.find("me", "pt_1", "a" * 64) == "pt_1"
        assert keys.find("you", "pt_1", "a" * 64) is None
        assert keys.find(None, "pt_2", "a" * 64) == "pt_2"
    unmigrated.close()
