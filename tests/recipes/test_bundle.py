"""What is bundled with the starter, made here from pictograms of one colour: no package is fetched."""

import colorsys
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from paint_core.models import load_base
from recipes.starter.bundle import (
    LEAST_IMAGES,
    NUM_ANCHORS,
    anchor_files,
    best_known,
    possible_names,
    task_files,
    write_archive,
)
from recipes.starter.render import SIDE
from recipes.starter.sources import Source, read_sources
from tests.paint_core import tiny

ANIMALS = ("cat", "cat face", "cow", "dog face", "snake", "turkey")
FOOD = ("pear", "pizza")


def keep(source: Source, names: tuple[str, ...], saturation: float, folder: Path) -> None:
    """Put one disc for each name where the recipe keeps rendered sets."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    pictures = np.zeros((len(names), SIDE, SIDE, 4), dtype=np.uint8)
    for index, picture in enumerate(pictures):
        colour = colorsys.hsv_to_rgb(index / len(names), saturation, 1.0)
        picture[np.hypot(rows, columns) < SIDE / 3] = [*(round(255 * channel) for channel in colour), 255]
    stem = folder / f"{source.name}-{source.version}-{SIDE}px"
    np.save(stem.with_suffix(".npy"), pictures)
    stem.with_suffix(".txt").write_text("\n".join(names), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rendered = tmp_path_factory.mktemp("rendered")
    many = tuple(f"thing {index:03}" for index in range(NUM_ANCHORS))
    for source in read_sources("emoji"):
        keep(source, ANIMALS + FOOD + many, 0.5, rendered)
    for source, saturation in zip(read_sources("held_out"), (1.0, 0.25), strict=True):
        keep(source, (*ANIMALS, *FOOD, "never trained on"), saturation, rendered)
    groups = [(name, 34) for name in (*ANIMALS, "never trained on")] + [(name, 42) for name in FOOD]
    (words,) = read_sources("words")
    entries = [{"label": name, "subgroup": subgroup} for name, subgroup in groups]
    (rendered / f"{words.name}-{words.version}.json").write_text(json.dumps(entries), encoding="utf-8")
    return rendered


def saturation_of(png: bytes) -> float:
    """Of the middle of a picture; what is drawn there is tinted a little."""
    red, green, blue = Image.open(io.BytesIO(png)).convert("RGB").getpixel((32, 32))  # type: ignore[misc]
    return colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)[1]


def test_a_class_is_what_all_vendors_drew_once(folder: Path) -> None:
    assert possible_names("nature", folder) == ("cat", "cow", "dog face", "snake")
    assert possible_names("food", folder) == FOOD


def test_names_that_the_model_takes_for_one_another_are_left_out() -> None:
    base = load_base("starter")
    images = tiny.starter_split(base, "food", "test")
    names = images.classnames[:6]
    few = images.subset(torch.nonzero(images.labels < len(names)).flatten())
    assert best_known(base, names, few.images, few.labels, 99) == names
    for swapped in ((0, 1), (2, 5)):
        labels = few.labels.clone()
        for one, other in (swapped, swapped[::-1]):
            labels[few.labels == one] = other
        kept = tuple(name for index, name in enumerate(names) if index not in swapped)
        assert best_known(base, names, few.images, labels, 4) == kept


@pytest.fixture(scope="module")
def food(folder: Path) -> dict[str, bytes]:
    return task_files("food", FOOD, folder, seed=0)


def test_validation_and_test_show_pictograms_of_different_vendors(food: dict[str, bytes]) -> None:
    files = food
    split = {name: [png for path, png in files.items() if path.startswith(f"{name}/")] for name in ("val", "test")}
    assert all(len(pictures) >= LEAST_IMAGES for pictures in split.values())
    assert {path.split("/")[1] for path in files} == set(FOOD)
    assert np.median([saturation_of(png) for png in split["val"]]) < 0.5
    assert np.median([saturation_of(png) for png in split["test"]]) > 0.75
    assert len(set(files.values())) > 0.99 * len(files)  # no picture comes twice


def test_archives_are_a_function_of_the_seed(folder: Path, food: dict[str, bytes]) -> None:
    made = food, task_files("food", FOOD, folder, seed=0), task_files("food", FOOD, folder, seed=1)
    archives = []
    for index, files in enumerate(made):
        write_archive(folder / f"{index}.zip", files)
        archives.append((folder / f"{index}.zip").read_bytes())
    assert archives[0] == archives[1] != archives[2]


def test_anchors_are_unlabelled_pictures_of_the_size_that_the_model_reads(folder: Path) -> None:
    files = anchor_files(folder, seed=0)
    target = folder / "anchors.zip"
    write_archive(target, files)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{index:04}.png" for index in range(NUM_ANCHORS)]
        assert {Image.open(io.BytesIO(archive.read(name))).size for name in archive.namelist()} == {(64, 64)}
