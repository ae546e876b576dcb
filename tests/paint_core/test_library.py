"""The public names of the library, and its page: every example of docs/library.md runs."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
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


def blocks(part: str) -> list[str]:
    run = re.sub(r"<!-- not run: [^>]*-->\n```python\n.*?```", "", part, flags=re.DOTALL)
    return re.findall(r"```python\n(.*?)```", run, flags=re.DOTALL)


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_the_five_scripts_and_the_program_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screws(tmp_path)
    monkeypatch.chdir(tmp_path)
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    scripts, others = sections[:5], sections[5:]
    assert [len(blocks(script)) for script in scripts] == [1] * 5

    load, data, tune, choose, export = (run(blocks(script)[0]) for script in scripts)
    assert load["head"].shape == (2, load["base"].embed_dim)
    assert data["score"].total == 8
    assert saved(choose["tau"]) == saved(export["tau"]) == saved(tune["tau"])
    assert choose["search"].choice.alpha in (0.0, 0.25, 0.5, 0.75, 1.0)
    expected = paint_core.mix(tune["theta_0"], [paint_core.Term(tune["tau"], 0.5)])
    assert saved(export["model"].visual.state_dict()) == saved(expected)

    program = run("\n".join(code for section in others for code in blocks(section)), model_dir=starter.model_dir())
    assert "LabelledImages(4 images of" in capsys.readouterr().out
    assert set(program["soup"]) == set(tune["tau"])


def saved(tensors: dict[str, torch.Tensor]) -> bytes:
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
