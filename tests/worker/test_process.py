from pathlib import Path

import pytest

from contract.jobs import JobKind
from registry.errors import ConfigurationError
from worker.process import environment_of, trainer_environment
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


def test_a_trainer_gets_no_secret_that_it_has_no_use_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAINTBOX_BROKER_URL", "PAINTBOX_API_KEY", "PAINTBOX_WEBHOOK_SECRET"):
        monkeypatch.setenv(name, "redis://:hunter22@127.0.0.1:6379/0")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    given = trainer_environment(WorkerSettings.load(data_dir=tmp_path))
    assert "hunter22" not in str(given)
    assert given["AWS_REGION"] == "eu-central-1"


@pytest.mark.parametrize("kinds", ["ingest, patch", '["ingest", "patch"]'])
def test_kinds_of_jobs_are_named_as_a_list_or_by_commas(kinds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTBOX_WORKER_KINDS", kinds)
    settings = WorkerSettings.load()
    assert settings.worker_kinds == (JobKind.INGEST, JobKind.PATCH)
    assert not settings.takes_all_kinds
    assert WorkerSettings.load(worker_kinds=("evaluate", "patch", "finetune", "ingest")).takes_all_kinds


@pytest.mark.parametrize("kinds", ["gpu", "[ingest", "", "ingest;patch"])
def test_a_kind_that_there_is_not_stops_the_start(kinds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTBOX_WORKER_KINDS", kinds)
    with pytest.raises(ConfigurationError, match="PAINTBOX_WORKER_KINDS"):
        WorkerSettings.load()
