import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from paintbox_client.resources.reports import PatchReport
from paintbox_demo.frontier import save_frontier
from paintbox_demo.summary import build_table, mean_accuracy, supported_change, tasks_of


def _task(name: str, role: str, zero_shot: float, fine_tuned: float, patched: float) -> dict[str, Any]:
    scores = {"zero_shot": zero_shot, "fine_tuned": fine_tuned, "patched": patched}
    test = {column: {"accuracy": accuracy, "total": 200} for column, accuracy in scores.items()}
    return {"name": name, "role": role, "test": test}


REPORT = PatchReport(
    {
        "alpha": 0.5,
        "tasks": [
            _task("digits", "patching", 0.1, 0.98, 0.95),
            _task("food", "supported", 0.6, 0.3, 0.55),
            _task("animals", "supported", 0.4, 0.2, 0.35),
        ],
        "curve": [
            {"alpha": alpha, "supported": 0.5 - 0.25 * alpha**2, "patching": 0.1 + 0.88 * alpha**0.5}
            for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)
        ],
    }
)


ANCHORED = PatchReport(
    REPORT
    | {
        "tasks": [
            _task("digits", "patching", 0.1, 0.99, 0.96),
            _task("food", "supported", 0.6, 0.58, 0.59),
            _task("animals", "supported", 0.4, 0.38, 0.40),
        ]
    }
)


def test_the_table_shows_each_task_and_the_supported_mean() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(build_table(REPORT, ANCHORED))
    lines = console.export_text().splitlines()
    row = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert [cell for cell in row["digits"] if cell[0].isdigit()] == ["200", "10.0", "98.0", "95.0", "96.0"]
    assert [cell for cell in row["mean"] if cell[0].isdigit()] == ["400", "50.0", "25.0", "45.0", "49.5"]


def test_the_supported_mean_weighs_every_task_the_same() -> None:
    assert mean_accuracy(tasks_of(REPORT, "supported"), "patched") == pytest.approx(0.45)


def test_what_the_supported_tasks_lose_is_told_against_zero_shot() -> None:
    assert supported_change(REPORT, "fine_tuned") == pytest.approx(-0.25)
    assert supported_change(ANCHORED, "patched") == pytest.approx(-0.005)


def test_the_plot_is_a_png_that_people_can_read(tmp_path: Path) -> None:
    path = tmp_path / "frontier.png"
    save_frontier({"plain": REPORT, "anchored": ANCHORED}, path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) >= 600


def test_the_table_fits_eighty_columns_without_cutting_a_word() -> None:
    long = [_task("handwritten digits", "patching", 0.1, 0.98, 0.95), *REPORT["tasks"][1:]]
    written = io.StringIO()
    Console(width=80, file=written).print(build_table(PatchReport({"tasks": long}), PatchReport({"tasks": long})))
    assert "…" not in written.getvalue()
    assert "handwritten" in written.getvalue()
    assert "Fine-tuned" in written.getvalue()
    assert all(len(line) <= 80 for line in written.getvalue().splitlines())
