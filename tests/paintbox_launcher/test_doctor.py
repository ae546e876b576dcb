"""`paintbox doctor` finds what is planted, and nothing where nothing is wrong."""

import os
import socket
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from app.settings import AppSettings
from contract.jobs import JobKind
from paintbox_client.checks import Check, check_clock, check_service, small_png
from paintbox_client.connection import Connection
from paintbox_launcher import checks
from paintbox_launcher.checks import Site, check_installation
from paintbox_launcher.embedded_valkey import EmbeddedValkey, prepare_folder, read_url
from paintbox_launcher.machine import read_memory
from registry.jobs import Jobs
from registry.settings import StorageSettings
from tests.app.conftest import free_port
from tests.app.world import World, open_world, serve
from tests.paintbox_client.inside import run
from tests.project.paths import ROOT


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("doctor")) as opened:
        yield opened


@pytest.fixture(scope="module")
def url(world: World) -> Iterator[str]:
    with serve(world) as served:
        yield served


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PAINTBOX_")]:
        monkeypatch.delenv(name)


def by_name(found: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def site(world: World, url: str | None = None, **settings: object) -> Site:
    given = {"data_dir": world.services.settings.data_dir, "device": "cpu", "port": free_port(), **settings}
    return Site(AppSettings.load(**given), url)


def test_a_sound_installation_has_no_errors(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTBOX_PORT", str(free_port()))
    found = by_name(check_installation(world.services.settings.data_dir))
    assert {name: check.detail for name, check in found.items() if check.status == "error"} == {}
    assert found["database"].detail.endswith(f"revision {world.services.database.revision()}")
    assert found["base starter"].detail.startswith(f"fingerprint {world.base.fingerprint[:12]}")
    assert {"packages", "settings", "memory", "processor", "device", "data directory", "disk space"} <= set(found)
    assert {"keys", "jobs", "broker", "blobs", "port"} <= set(found)
    assert found["keys"].status == "warning"
    assert all(check.advice for check in found.values() if check.status != "ok")


def test_the_check_of_blobs_leaves_none(world: World) -> None:
    folder = world.services.settings.blob_dir
    before = set(folder.rglob("*"))
    assert by_name(checks.check_blobs(site(world)))["blobs"].status == "ok"
    assert {path for path in folder.rglob("*") if path.is_file()} <= before


def test_settings_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAINTBOX_DEVICE", "banana")
    found = by_name(check_installation(tmp_path))
    assert found["settings"].status == "error"
    assert "PAINTBOX_DEVICE" in found["settings"].detail


def test_without_an_installation_only_the_connection_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PAINTBOX_DATA_DIR", str(tmp_path / "none"))
    found = by_name(check_installation(None))
    assert set(found) == {"packages", "installation"}


def test_a_database_of_another_release_is_told(world: World) -> None:
    here = site(world)
    with world.services.database.write() as session:
        (newest,) = session.execute(text("SELECT version_num FROM alembic_version")).one()
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        newer = by_name(checks.check_database(here))
    finally:
        with world.services.database.write() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :n"), {"n": newest})
    assert newer["database"].status == "error"
    assert "newer release" in newer["database"].detail


def test_a_database_that_is_away_is_an_error_and_the_other_checks_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PAINTBOX_DATABASE_URL", f"postgresql+psycopg://u:secret@127.0.0.1:{free_port()}/none")
    found = by_name(check_installation(tmp_path))
    assert found["database"].status == "error"
    assert "secret" not in found["database"].detail
    assert found["base starter"].status == "ok"


def test_a_job_that_waits_while_none_runs_is_an_error(world: World) -> None:
    with world.services.database.write() as session:
        job = Jobs(session).create(JobKind.PATCH, "pt_waits")
        session.flush()
        session.execute(text("UPDATE jobs SET queued_at = '2026-01-01 00:00:00' WHERE id = :id"), {"id": job.id})
    found = by_name(checks.check_database(site(world)))
    assert found["jobs"].status == "error"
    assert "no worker takes jobs" in found["jobs"].detail
    with world.services.database.write() as session:
        lease = Jobs(session).lease(job.id, "a test")
        assert lease is not None
    assert by_name(checks.check_database(site(world)))["jobs"].status == "ok"
    with world.services.database.write() as session:
        Jobs(session).succeed(lease)


def test_a_broker_that_is_away_is_an_error_and_one_without_workers_a_warning(world: World, broker_url: str) -> None:
    away = by_name(checks.check_broker(site(world, broker_url=f"redis://:secret@127.0.0.1:{free_port()}/0")))
    assert away["broker"].status == "error"
    assert "secret" not in away["broker"].detail
    there = by_name(checks.check_broker(site(world, broker_url=broker_url)))
    assert there["broker"].status == "ok"
    assert there["workers"].status == "warning"
    assert by_name(checks.check_broker(site(world)))["broker"].detail == "`paintbox up` starts its own"


def test_the_broker_of_paintbox_up_is_found_in_its_folder(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path / "valkey")
    assert read_url(valkey.folder) is None
    prepare_folder(valkey, 0)
    assert read_url(valkey.folder) == valkey.url


def test_a_port_that_is_taken_is_told(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = by_name(checks.check_port(site(world, port=taken.getsockname()[1])))
    assert found["port"].status == "warning"
    assert by_name(checks.check_port(site(world)))["port"].status == "ok"


def test_little_room_and_a_folder_for_all_are_told(world: World) -> None:
    found = by_name(checks.check_disk(site(world, min_free_bytes=1 << 60)))
    assert found["disk space"].status == "error"
    folder = world.services.settings.data_dir
    folder.chmod(0o755)
    try:
        assert by_name(checks.check_disk(site(world)))["data directory"].status == "warning"
    finally:
        folder.chmod(0o700)
    assert by_name(checks.check_disk(site(world)))["data directory"].status == "ok"


def test_bases_that_are_missing_or_have_changed_are_told(world: World) -> None:
    missing = by_name(checks.check_models(site(world, bases=("local-dir:/nonexistent",))))
    assert missing["base local-dir:/nonexistent"].status == "error"
    with world.services.database.write() as session:
        session.execute(text("UPDATE base_models SET ref = 'renamed' WHERE ref = 'starter'"))
        row = "INSERT INTO base_models VALUES (:f, 'starter', 8, 32, '2026-01-01 00:00:00')"
        session.execute(text(row), {"f": "e" * 64})
    try:
        changed = by_name(checks.check_models(site(world)))
    finally:
        with world.services.database.write() as session:
            session.execute(text("DELETE FROM base_models WHERE fingerprint = :f"), {"f": "e" * 64})
            session.execute(text("UPDATE base_models SET ref = 'starter' WHERE ref = 'renamed'"))
    assert changed["base starter"].status == "error"
    assert "its weights have changed" in changed["base starter"].detail


def test_packages_that_do_not_fit_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["torch>=999", "no-such-package>=1", "numpy>=1", "psycopg>=999; extra == 'postgres'"]
    monkeypatch.setattr(checks, "requires", lambda _: needed)
    (found,) = checks.check_packages()
    assert found.status == "error"
    assert "torch" in found.detail
    assert "no-such-package is missing" in found.detail
    assert "numpy" not in found.detail
    assert "psycopg" not in found.detail


def test_the_memory_of_a_container_is_its_limit(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 8000 kB\nMemFree: 10 kB\nMemAvailable: 4000 kB\n")
    free = read_memory(tmp_path / "meminfo", tmp_path)
    assert (free.limit_bytes, free.available_bytes) == (8000 * 1024, 4000 * 1024)
    (tmp_path / "memory.max").write_text("2048000\n")
    (tmp_path / "memory.current").write_text("1024000\n")
    limited = read_memory(tmp_path / "meminfo", tmp_path)
    assert (limited.limit_bytes, limited.available_bytes) == (2_048_000, 1_024_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert read_memory(tmp_path / "meminfo", tmp_path) == free


@pytest.mark.parametrize(
    ("seconds", "status", "words"),
    [(0.0, "ok", "agrees"), (-0.9, "ok", "agrees"), (60.0, "warning", "60 s ahead of"), (-60.0, "warning", "behind")],
)
def test_clocks_that_disagree_are_told(seconds: float, status: str, words: str) -> None:
    sent = 1_800_000_000.0
    check = check_clock({"date": formatdate(sent + seconds, usegmt=True)}, sent, sent + 0.01)
    assert check.status == status
    assert words in check.detail


def test_a_service_is_tried_to_the_end(url: str) -> None:
    found = by_name(check_service(Connection(url, patience_seconds=0.0)))
    assert {name: check.status for name, check in found.items() if check.status == "error"} == {}
    assert {"service", "clock", "readiness", "access", "versions", "classify"} == set(found)
    assert "by version 1" in found["classify"].detail
    assert small_png().startswith(b"\x89PNG")


def test_a_service_that_is_away_and_a_wrong_key_are_errors(world: World, url: str) -> None:
    away = by_name(check_service(Connection(f"http://127.0.0.1:{free_port()}", patience_seconds=0.0)))
    assert [(check.name, check.status) for check in away.values()] == [("service", "error")]


def test_the_command_prints_each_check_and_its_status_is_that_of_the_worst(url: str) -> None:
    done = run("--url", url, "doctor", "--json")
    assert done.status == 0, done.out
    assert done.json["status"] in ("ok", "warning")
    assert {"python", "client", "service", "classify"} <= {check["name"] for check in done.json["checks"]}
    away = run("--url", f"http://127.0.0.1:{free_port()}", "doctor")
    assert away.status == 1
    assert "ERROR    service:" in away.out


def test_the_installation_adds_its_checks_to_the_command() -> None:
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["paintbox.checks"]
    assert declared == {"installation": f"{check_installation.__module__}:{check_installation.__name__}"}


def test_a_gpu_that_is_missing_is_an_error(tmp_path: Path) -> None:
    settings = AppSettings.load(data_dir=tmp_path, device="cuda:7")
    found = by_name(checks.check_machine(SimpleNamespace(settings=settings, url=None)))  # type: ignore[arg-type]
    assert found["device"].status == "error"
    assert "CUDA_VISIBLE_DEVICES" in found["device"].advice
    assert isinstance(settings, StorageSettings)
