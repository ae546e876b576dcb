"""Settings: defaults under one folder, the environment over them, and one clear line for what is wrong."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from registry.errors import ConfigurationError
from registry.settings import StorageSettings


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """The process's environment with these variables and no other `PAINTBOX_` ones."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("PAINTBOX_")]:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def load(**variables: str) -> StorageSettings:
    with environment(**variables):
        return StorageSettings.load()


def refusal(**variables: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        load(**variables)
    return str(refused.value)


def test_everything_lies_under_the_data_directory_unless_told_otherwise() -> None:
    settings = load(PAINTBOX_DATA_DIR="/data")
    assert settings.resolved_database_url == "sqlite:////data/paintbox.db"
    assert settings.blob_dir == Path("/data/blobs")
    assert settings.log_dir == Path("/data/logs")
    assert settings.scratch_dir == Path("/data/scratch")


def test_the_data_directory_is_the_users_own_by_default() -> None:
    assert load(XDG_DATA_HOME="/home/ann/.data").data_dir == Path("/home/ann/.data/paintbox")


def test_what_the_environment_says_is_taken() -> None:
    settings = load(
        PAINTBOX_DATABASE_URL="postgresql+psycopg://db/paintbox",
        PAINTBOX_BROKER_URL="redis://:secret@broker:6379/1",
        PAINTBOX_BLOB_URL="file:///shared/blobs",
        PAINTBOX_BASES='["starter", "ViT-B-32:openai"]',
        PAINTBOX_DEVICE="cpu",
        PAINTBOX_LOG_LEVEL="debug",
    )
    assert settings.resolved_database_url == "postgresql+psycopg://db/paintbox"
    assert settings.broker_url.get_secret_value() == "redis://:secret@broker:6379/1"
    assert settings.blob_dir == Path("/shared/blobs")
    assert settings.bases == ("starter", "ViT-B-32:openai")
    assert (settings.device, settings.log_level) == ("cpu", "debug")


def test_what_is_passed_wins_over_the_environment() -> None:
    with environment(PAINTBOX_DEVICE="cuda", PAINTBOX_DATA_DIR="/data"):
        settings = StorageSettings.load(device="cpu")
    assert (settings.device, settings.data_dir) == ("cpu", Path("/data"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PAINTBOX_DEVICE", "tpu"),
        ("PAINTBOX_LOG_LEVEL", "loud"),
        ("PAINTBOX_BASES", "starter"),
        ("PAINTBOX_BASES", '{"starter": 1}'),
        ("PAINTBOX_BASES", "[1]"),
        ("PAINTBOX_BASES", "[]"),
    ],
)
def test_a_wrong_value_gives_one_line_that_names_the_variable(name: str, value: str) -> None:
    line = refusal(**{name: value})
    assert line.startswith(f"{name}: ")
    assert line.endswith("Correct it and restart.")
    assert "\n" not in line


def test_with_a_bucket_the_blob_folder_is_a_cache() -> None:
    settings = load(PAINTBOX_BLOB_URL="s3://bucket/prefix", PAINTBOX_DATA_DIR="/data")
    assert settings.is_bucket
    assert settings.blob_dir == Path("/data/blob-cache")


@pytest.mark.parametrize(
    "url", ["s3:bucket", "gs://bucket", "file://host/blobs", "file:relative", "/data/blobs", "file://"]
)
def test_a_blob_url_that_is_no_local_folder_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"PAINTBOX_BLOB_URL: .* Use file:///"):
        _ = load(PAINTBOX_BLOB_URL=url).blob_dir


def test_secrets_are_not_shown() -> None:
    settings = load(PAINTBOX_BROKER_URL="redis://:hunter2@broker:6379/1")
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()


def test_settings_cannot_be_changed() -> None:
    settings = load()
    with pytest.raises(ValidationError):
        settings.device = "cuda"  # type: ignore[misc]


def test_the_folders_are_made_for_their_owner_only(tmp_path: Path) -> None:
    settings = load(PAINTBOX_DATA_DIR=str(tmp_path / "a" / "data"))
    settings.make_directories()
    settings.make_directories()
    folders = (settings.data_dir, settings.blob_dir, settings.log_dir, settings.scratch_dir)
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700] * 4


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:7"])
def test_one_of_several_devices_can_be_named(device: str) -> None:
    assert load(PAINTBOX_DEVICE=device).device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:1", ""])
def test_a_device_of_another_form_is_refused(device: str) -> None:
    assert "PAINTBOX_DEVICE: It must be auto, cpu, cuda or cuda:N" in refusal(PAINTBOX_DEVICE=device)


@pytest.mark.parametrize(
    "url", ["sentinel://:hunter22@a:26379", "amqp://:hunter22@host", "unix:///run/x", "host:6379", ""]
)
def test_a_broker_that_is_neither_redis_nor_valkey_is_refused_without_telling_its_password(url: str) -> None:
    message = refusal(PAINTBOX_BROKER_URL=url)
    assert "PAINTBOX_BROKER_URL: It must begin with redis:// or rediss://" in message
    assert "hunter22" not in message
