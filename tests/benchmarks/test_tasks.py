import io
import json
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from _fashion import FashionMissingError
from _pictograms import COUNTS, LOOKS, SOURCE_SHARES, Items, draw_counting, draw_looks, scatter, sources
from _report import Figure, report
from _tasks import NUM_DRAWN, SUPPORTED, patching, read_files
from PIL import Image
from scipy import ndimage

from paint_core.models import load_base

DRAWN = [(draw_counting, len(COUNTS)), (draw_looks, len(LOOKS))]


def test_no_two_splits_share_a_pictogram() -> None:
    splits = [set(sources(split)) for split in SOURCE_SHARES]
    assert all(not (one & other) for one, other in combinations(splits, 2))
    assert sum(map(len, splits)) == 1000


@pytest.mark.parametrize(("draw", "num_classes"), DRAWN)
def test_every_class_occurs_equally_often_in_every_split(draw: Callable[[str, int], Items], num_classes: int) -> None:
    for split in SOURCE_SHARES:
        labels = Counter(label for _, label in draw(split, 5 * num_classes))
        assert labels == dict.fromkeys(range(num_classes), 5)


@pytest.mark.parametrize(("draw", "num_classes"), DRAWN)
def test_a_split_is_drawn_alike_every_time_and_unlike_the_others(
    draw: Callable[[str, int], Items], num_classes: int
) -> None:
    assert draw("test", 12) == draw("test", 12)
    assert not {picture for picture, _ in draw("test", 12)} & {picture for picture, _ in draw("validation", 12)}


@pytest.mark.parametrize("count", range(1, 7))
def test_copies_are_as_many_as_asked_for_and_apart(count: int) -> None:
    for seed in range(20):
        pixels = scatter(Image.new("RGBA", (30, 30), "black"), count, np.random.default_rng(seed)).astype(int)
        assert ndimage.label(pixels.sum(axis=2) < 100)[1] == count


def test_a_count_cannot_be_told_from_the_size_of_a_copy() -> None:
    areas = {}
    for count in (1, 6):
        pictures = [
            scatter(Image.new("RGBA", (30, 30), "black"), count, np.random.default_rng(seed)) for seed in range(200)
        ]
        areas[count] = np.mean([(picture.sum(axis=2) < 100).sum() / count for picture in pictures])
    assert areas[6] == pytest.approx(areas[1], rel=0.06)


@pytest.mark.parametrize("name", ["digits", *SUPPORTED])
def test_labels_of_a_task_cover_its_classes_in_every_split(name: str) -> None:
    files = read_files(name)
    for read in files.splits.values():
        items = read()
        assert {label for _, label in items} == set(range(len(files.classnames)))
        assert Image.open(io.BytesIO(items[0][0])).format == "PNG"


def test_supported_tasks_have_no_training_split() -> None:
    assert all(set(read_files(name).splits) == {"validation", "test"} for name in SUPPORTED)
    assert set(read_files("digits").splits) == set(NUM_DRAWN)


def test_without_fashion_the_task_is_skipped_in_one_line_that_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAINTBOX_FASHION_MNIST", str(tmp_path))
    monkeypatch.setattr("_tasks.CACHE", tmp_path)
    with pytest.raises(FashionMissingError):
        read_files("fashion").splits["test"]()
    assert patching(load_base("starter"), ["fashion"]) == {}
    (line,) = capsys.readouterr().out.splitlines()
    assert "dataset-fashion-mnist" in line
    assert "PAINTBOX_FASHION_MNIST" in line


def test_a_report_holds_name_value_unit_and_target_of_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    figures = [Figure("speed", 4.0, "x", target=5), Figure("error", 0.4, "points", target=0.5, at_most=True)]
    report(figures, file, {"ours": [1.0, 3.0, 2.0]})
    assert json.loads(file.read_text()) == [
        {"name": "speed", "value": 4.0, "unit": "x", "target": 5},
        {"name": "error", "value": 0.4, "unit": "points", "target": 0.5},
    ]
    printed = capsys.readouterr().out
    assert "at least 5: MISSED" in printed
    assert "at most 0.5: met" in printed
    assert "2.000 s" in printed
