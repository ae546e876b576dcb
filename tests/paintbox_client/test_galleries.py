"""`paintbox datasets images`: what is listed, and thumbnails as files."""

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.app.galleries import add_stored_dataset
from tests.builders import digit_pngs
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import run


@pytest.fixture(scope="module")
def dataset(served: Served) -> str:
    rows = [(digit_pngs(number % 2)[number], f"{number}.png", number % 2) for number in range(4)]
    return add_stored_dataset(served.world.services, ("zero", "one"), {"train": rows, "test": rows[:1]})


def test_images_are_listed_by_split_and_class(served: Served, dataset: str) -> None:
    done = run("datasets", "images", dataset, "--split", "train", "--label", "one", PAINTBOX_URL=served.url)
    assert done.status == 0, done.err
    assert [line.split() for line in done.out.splitlines()] == [
        ["SPLIT", "ROW", "CLASS", "FILE"], ["train", "1", "one", "1.png"], ["train", "3", "one", "3.png"],
    ]  # fmt: skip
    images = served.client.dataset_images(dataset, limit=2)
    assert [(each.split, each.row, each.label) for each in images] == [("train", 0, "zero"), ("train", 1, "one")]
    assert run("datasets", "images", dataset, "--label", "two", PAINTBOX_URL=served.url).status == 2


def test_thumbnails_are_written_by_split_and_row(served: Served, dataset: str, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    done = run("datasets", "images", dataset, "--save", folder, "--json", PAINTBOX_URL=served.url)
    assert (len(done.json), done.status) == (5, 0)
    assert sorted(path.name for path in folder.iterdir()) == [
        "test-000000.webp", *(f"train-{row:06}.webp" for row in range(4)),
    ]  # fmt: skip
    with Image.open(io.BytesIO(served.client.thumbnail(dataset, "train", 3, 64)), formats=["WEBP"]) as image:
        assert image.size == (8, 8)
    (tmp_path / "file").write_text("")
    refused = run("datasets", "images", dataset, "--save", tmp_path / "file", PAINTBOX_URL=served.url)
    assert (refused.status, "cannot be written" in refused.err) == (2, True)
