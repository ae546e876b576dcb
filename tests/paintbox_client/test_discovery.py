"""Where a service of this user is found."""

import json
import os
from pathlib import Path

import pytest

from paintbox_client.discovery import DEFAULT_URL, default_data_dir, find_service, resolve_url
from registry.settings import StorageSettings


def write(folder: Path, text: str) -> None:
    (folder / "service.json").write_text(text)


@pytest.mark.parametrize("variables", [{}, {"XDG_DATA_HOME": "/elsewhere"}, {"PAINTBOX_DATA_DIR": "/data"}])
def test_the_default_data_directory_is_the_server_s(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_DATA_HOME", "PAINTBOX_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_data_dir() == StorageSettings().data_dir


def test_a_running_service_is_found_and_one_that_is_gone_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAINTBOX_DATA_DIR", str(tmp_path))
    assert resolve_url(None) == DEFAULT_URL
    write(tmp_path, json.dumps({"url": "http://127.0.0.1:9", "pid": os.getpid()}))
    assert resolve_url(None) == "http://127.0.0.1:9"
    assert resolve_url("http://named") == "http://named"
    write(tmp_path, json.dumps({"url": "http://127.0.0.1:9", "pid": 2**22 + 1}))  # beyond the largest process id
    assert find_service(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": "http://x", "pid": "p"}', "\x00"])
def test_a_file_that_makes_no_sense_names_no_service(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    assert find_service(tmp_path) is None
