"""A wrong setting stops the start with one line that names it."""

from pathlib import Path

import pytest

from app.models.bases import load_bases, register_bases
from app.settings import AppSettings
from paint_core.models import load_base
from registry.database import Database
from registry.errors import ConfigurationError
from registry.versions import Versions
from tests.support.forking import Forks

KEY = "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_loopback_needs_no_key(host: str) -> None:
    assert AppSettings.load(host=host).api_key is None
    assert AppSettings.load(host=host, api_key="").api_key is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "paintbox.example.org", ""])
def test_what_others_can_reach_needs_a_key(host: str) -> None:
    with pytest.raises(ConfigurationError, match="PAINTBOX_API_KEY"):
        AppSettings.load(host=host)
    with pytest.raises(ConfigurationError, match="PAINTBOX_API_KEY"):
        AppSettings.load(host=host, api_key="")
    assert AppSettings.load(host=host, api_key=KEY).api_key is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 70_000), ("api_key", "short"), ("decode_threads", 0), ("max_queue_images", 3), ("max_upload_bytes", -1)],
)
def test_values_that_cannot_be_used_are_named(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"PAINTBOX_{name.upper()}"):
        AppSettings.load(**{name: value})


def test_a_setting_is_read_from_its_former_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAINTBOX_QUIET_SECONDS", "4")
    assert AppSettings.load().redispatch_after_seconds == 4
    monkeypatch.setenv("PAINTBOX_REDISPATCH_AFTER_SECONDS", "-1")
    with pytest.raises(ConfigurationError, match="PAINTBOX_REDISPATCH_AFTER_SECONDS: "):
        AppSettings.load()


def test_a_key_never_shows_in_messages() -> None:
    settings = AppSettings.load(api_key=KEY)
    assert KEY not in repr(settings)
    with pytest.raises(ConfigurationError) as refused:
        AppSettings.load(api_key="short")
    assert "'short'" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PAINTBOX_HOST", "0.0.0.0"),
        ("PAINTBOX_PORT", "x"),
        ("PAINTBOX_BLOB_URL", "gs://bucket"),
        ("PAINTBOX_DATA_DIR", "/proc/nothing"),
    ],
)
def test_the_process_ends_with_status_2_and_one_line(forks: Forks, tmp_path: Path, variable: str, value: str) -> None:
    status, output, errors = forks.run("-m", "app", **{"PAINTBOX_DATA_DIR": str(tmp_path), variable: value})
    name = "API_KEY" if variable == "PAINTBOX_HOST" else variable.removeprefix("PAINTBOX_")
    assert status == 2
    assert output == ""
    assert errors.startswith(f"paintbox api: PAINTBOX_{name}: ")
    assert errors.count("\n") == 1


def test_a_base_that_cannot_be_loaded_ends_the_process_with_status_2(forks: Forks, tmp_path: Path) -> None:
    variables = {"PAINTBOX_DATA_DIR": str(tmp_path / "data"), "PAINTBOX_BASES": f'["local-dir:{tmp_path}"]'}
    status, _, errors = forks.run("-m", "app", **variables)
    assert status == 2
    assert errors.splitlines()[-1].startswith("paintbox api: PAINTBOX_BASES: ")


def test_a_base_whose_weights_changed_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'paintbox.db'}")
    database.migrate()
    base = load_base("starter")
    with database.write() as session:
        Versions(session).ensure_base(ref="starter", fingerprint="0" * 64, embed_dim=128, image_size=64)
    with pytest.raises(ConfigurationError, match="have changed"):
        register_bases(database, {base.fingerprint: base})
    database.close()


def test_a_base_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    import torch

    with pytest.raises(ConfigurationError, match="PAINTBOX_BASES"):
        load_bases((f"local-dir:{tmp_path}",), torch.device("cpu"))
