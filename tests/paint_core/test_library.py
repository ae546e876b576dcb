"""The public names of the library, and its page: every example of docs/library.md runs."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
from PIL import Image

import paint_core
from paint_core import starter
from tests.paint_core import tiny

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


def test_every_public_name_resolves_and_the_list_is_sorted() -> None:
    assert list(paint_core.__all__) == sorted(paint_core.__all__)
    assert all(getattr(paint_core, name) is not None for name in paint_core.__all__)
    assert set(paint_core.__all__) <= set(dir(paint_core))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        paint_core.nothing  # noqa: B018


def test_asking_the_starter_for_its_paths_loads_neither_torch_nor_the_rest() -> None:
    code = "import sys, paint_core; from paint_core import starter; starter.model_dir(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_finetune_is_the_function_whether_or_not_its_module_was_imported_first() -> None:
    module = importlib.import_module("paint_core.training.finetuning")
    assert paint_core.finetune is module.finetune


def examples() -> str:
    """The page's code, in one program."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) >= 6
    return "\n".join(blocks)


def screws(folder: Path) -> None:
    """Pictures of three kinds, in three splits; the test split has none of one kind."""
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for index, colour in enumerate(("red", "green", "blue")):
            if (split, colour) == ("test", "green"):
                continue
            place = folder / "screws" / split / colour
            place.mkdir(parents=True)
            for number in range(count):
                shade = tiny.noise((40, 40), seed=100 * index + number)
                Image.blend(shade, Image.new("RGB", (40, 40), colour), 0.7).save(place / f"{number}.png")


def test_every_example_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screws(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"model_dir": starter.model_dir()}
    exec(compile(examples(), str(PAGE), "exec"), names)
    assert "LabelledImages(4 images of" in capsys.readouterr().out
    assert (tmp_path / "exported" / "open_clip_model.safetensors").is_file()
    tau, again = names["tau"], names["again"]
    assert isinstance(tau, dict)
    assert isinstance(again, dict)
    assert safetensors.torch.save(tau) == safetensors.torch.save(again)
