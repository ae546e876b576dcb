"""`paintbox local patch` makes a report and a model of a folder in one line, and leaves nothing else behind."""

import io
import json
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from contract.report import PatchReport
from paint_core.models import load_base
from paintbox_client.errors import InputError
from paintbox_client.extensions import GROUP, LazyCommand, build_command
from paintbox_demo.digits import archive_members
from paintbox_local.installation import LocalJobError

ENTRY = EntryPoint("local", "paintbox_local.command:local", GROUP)
QUICK = ("--iterations", "8", "--set", "finetune.batch_size=16", "--set", "alpha.rule=combined")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a quarter of the bundled scans of five digits."""
    folder = tmp_path_factory.mktemp("photos") / "digits"
    for number, (name, content) in enumerate(archive_members()):
        if name.split("/")[1] in ("zero", "one", "two", "three", "four") and number % 4 == 0:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def run(*arguments: object) -> tuple[int, str, str]:
    """The exit status and the outputs of the command."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = build_command(ENTRY).main([*map(str, arguments)], "paintbox local", standalone_mode=False)
    return status or 0, out.getvalue(), err.getvalue()


def report_of(output: Path) -> PatchReport:
    return PatchReport.of_stored(json.loads((output / "report.json").read_text(encoding="utf-8")))


def test_a_folder_becomes_a_report_a_page_and_a_model_that_open_clip_loads(digits: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    status, out, err = run("patch", digits, "--protect", "food", "--output", output, *QUICK)
    assert status in (0, 4), err
    assert sorted(path.name for path in output.iterdir()) == ["model", "report.html", "report.json"]
    report = report_of(output)
    assert [(task.name, task.role) for task in report.tasks] == [("digits", "patching"), ("food", "supported")]
    assert report.embeddings is not None
    assert "<h1>patch of digits</h1>" in (output / "report.html").read_text(encoding="utf-8")
    assert f"{report.tasks[0].test.patched.accuracy:.1%}" in out
    assert str(output / "model") in out
    assert "paintbox activate" not in out + err
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{output / 'model'}")
    base = load_base("starter")
    term = next(term for term in report.terms)
    moved = any(
        not torch.equal(ours, theirs)
        for ours, theirs in zip(model.visual.state_dict().values(), base.visual.state_dict().values(), strict=True)
    )
    assert moved == (term.coefficient != 0)
    assert (output / "model" / "README.md").is_file()


def test_the_defaults_are_those_of_the_service(digits: Path, tmp_path: Path) -> None:
    status, out, _ = run(
        "patch", digits, "--protect", "food", "--output", tmp_path / "out", "--iterations", 2, "--json"
    )
    request = json.loads(out)["request"]
    assert status in (0, 4)
    assert (request["alpha"]["rule"], request["method"]) == ("certified", "single")
    assert request["anchors"] == {
        "dataset": None,
        "supported": False,
        "drawn": True,
        "weight": 60.0,
        "batch_size": None,
    }
    assert report_of(tmp_path / "out").certificate is not None


def test_an_instant_patch_has_a_report_but_no_model_folder(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "model").mkdir(parents=True)  # of an earlier run
    rule = ("--set", "alpha.rule=combined")
    status, _, err = run(
        "patch", digits, "--protect", "food", "--method", "instant", "--output", tmp_path / "out", *rule
    )
    assert status == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]
    assert "--method single" in err


def test_an_archive_and_a_folder_to_protect_are_read_too(digits: Path, tmp_path: Path) -> None:
    archive = tmp_path / "scans.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in digits.rglob("*.png"):
            target.write(path, path.relative_to(digits))
    kept = tmp_path / "kept"
    for split in ("val", "test"):
        for name in ("zero", "one"):
            (kept / split / name).mkdir(parents=True)
            for path in sorted((digits / split / name).iterdir())[:3]:
                (kept / split / name / path.name).write_bytes(path.read_bytes())
    instant = ("--method", "instant", "--set", "alpha.rule=combined")
    status, _, err = run("patch", archive, "--protect", kept, "--output", tmp_path / "out", *instant)
    assert status in (0, 4), err
    assert [task.name for task in report_of(tmp_path / "out").tasks] == ["scans", "kept"]
    assert archive.is_file()


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("patch", "nowhere"), InputError, "No such file or folder"),
        (("patch", "{digits}", "--protect", "nowhere"), InputError, "food"),
        (("patch", "{digits}", "--base", "nonsense"), InputError, "cannot read the model reference"),
        (("patch", "{digits}", "--set", "alpha.rule=best"), InputError, "alpha.rule"),
        (("patch", "{empty}"), InputError, "contains no files"),
        (("patch", "{text}"), LocalJobError, "no_images"),
    ],
)
def test_what_cannot_be_done_says_so_and_leaves_nothing(
    arguments: tuple[str, ...], error: type[Exception], said: str, digits: Path, tmp_path: Path
) -> None:
    empty, text, output = tmp_path / "empty", tmp_path / "text", tmp_path / "out"
    empty.mkdir()
    text.mkdir()
    (text / "notes.txt").write_text("no picture")
    places: dict[str, Any] = {"digits": digits, "empty": empty, "text": text}
    given = [each.format(**places) for each in arguments]
    with pytest.raises(error) as refused:
        run(*given, "--output", output)
    assert said in f"{getattr(refused.value, 'code', '')} {refused.value}"
    assert not output.exists() or list(output.iterdir()) == []


def test_what_the_environment_says_of_a_service_is_not_used(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAINTBOX_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("PAINTBOX_BLOB_URL", "s3://bucket/prefix")
    monkeypatch.setenv("PAINTBOX_DATA_DIR", str(tmp_path / "service"))
    rule = ("--method", "instant", "--set", "alpha.rule=combined")
    status, _, err = run("patch", digits, "--protect", "food", "--output", tmp_path / "out", *rule)
    assert status == 0, err
    assert not (tmp_path / "service").exists()


def test_the_help_names_the_command_without_loading_the_service() -> None:
    assert LazyCommand(ENTRY).help == "Patch a model with a folder of images on this machine, without a service."
