"""The bundled data sets are listed, and uploaded as what they are good for."""

from pathlib import Path
from typing import Any, cast

import pytest
import typer
from typer.testing import CliRunner

from paintbox_client.client import Client
from paintbox_demo.samples import list_samples, samples, upload_sample


class Recorder:
    """Keeps what is uploaded."""

    def __init__(self) -> None:
        self.uploads: dict[str, tuple[int, dict[str, Any]]] = {}

    def upload_dataset(self, path: Path, name: str, *told: object, **options: Any) -> dict[str, Any]:
        self.uploads[name] = (path.stat().st_size, options)
        return {"name": name}


def _run(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(samples)
    return CliRunner().invoke(app, arguments)


def test_all_of_them_are_listed_by_default() -> None:
    listed = _run()
    assert listed.exit_code == 0
    names = ["digits", "fashion", "clothing", "food", "grocery", "nature", "objects", "travel", "anchors"]
    for name in names:
        assert name in listed.stdout
    assert list(list_samples()) == names


def test_one_that_is_not_there_is_named_with_those_that_are() -> None:
    refused = _run("upload", "cats")
    assert refused.exit_code == 1
    assert "travel" in f"{vars(cast(Any, refused.exception))}"


@pytest.mark.parametrize("name", ["digits", "fashion", "clothing", "food", "anchors"])
def test_each_is_uploaded_as_a_task_or_as_a_pool(name: str) -> None:
    recorder = Recorder()
    upload_sample(cast(Client, recorder), name)
    size, options = recorder.uploads[name]
    assert size > 100_000
    assert options == ({"unlabelled": True} if name == "anchors" else {})
