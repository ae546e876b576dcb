"""A version that is loaded under load: opened with the least priority, served with the usual one."""

import os
from pathlib import Path

import psutil
import pytest

from app.models.bases import register_bases
from app.models.loader import VersionLoader
from paint_core.models import load_base
from pipeline.programs import ProgramStore
from registry.blobs import FileBlobStore
from registry.versions import Versions
from tests.support.databases import open_migrated

CORES = 3


def niceness() -> dict[int, int]:
    """Of this process's threads, by id."""
    return {thread.id: os.getpriority(os.PRIO_PROCESS, thread.id) for thread in psutil.Process().threads()}


def test_threads_of_a_version_that_was_opened_under_load_do_not_keep_the_least_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.models.runner._LEAST_SHARED_SECONDS", 0.0)
    base = load_base("starter")
    bases = {base.fingerprint: base}
    database, blobs = open_migrated(tmp_path / "paintbox.db"), FileBlobStore(tmp_path / "blobs")
    register_bases(database, bases)
    with database.read() as session:
        version = Versions(session).base_version(base.fingerprint)
    assert version is not None
    loader = VersionLoader(database, blobs, bases, lambda: True, programs=ProgramStore(), num_cores=CORES)
    before = niceness()
    model = loader.load(version.id)
    opened = sorted(nice for thread, nice in niceness().items() if thread not in before)
    database.close()
    assert model.runner.can_share
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert len(opened) > 1
    assert opened == [*[usual] * (len(opened) - 1), 19], "all but the thread that opens versions"
