from pathlib import Path

import pytest

from worker.process import environment_of
from worker.settings import WorkerSettings


def test_a_trainer_reads_the_very_settings_of_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = WorkerSettings.load(
        data_dir=tmp_path, bases=("starter", "local-dir:/models/x"), checkpoint_seconds=1.5, device="cpu"
    )
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert WorkerSettings.load() == settings


def test_the_brokers_password_is_not_handed_to_a_trainer(tmp_path: Path) -> None:
    settings = WorkerSettings.load(data_dir=tmp_path, broker_url="redis://:secret@127.0.0.1:6379/0")
    assert "secret" not in str(environment_of(settings))
