"""`paintbox datasets images`: what is listed, and thumbnails as files."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.app.galleries import add_stored_dataset
from tests.app.world import add_ready_dataset
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
    assert run("datasets", "images", dataset, "--file", "3.png", PAINTBOX_URL=served.url).out.split()[4:] == [
        "train", "3", "one", "3.png",
    ]  # fmt: skip
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


def test_a_data_set_is_renamed_and_found_by_its_new_name(served: Served, dataset: str) -> None:
    assert "digits of mine" in run("datasets", "rename", dataset, "digits of mine", PAINTBOX_URL=served.url).out
    mine = run("datasets", "--name", "OF MINE", "--since", "2020-01-01T00:00:00Z", "--json", PAINTBOX_URL=served.url)
    assert [each["id"] for each in mine.json] == [dataset]
    assert run("patches", "--dataset", dataset, "--json", PAINTBOX_URL=served.url).json == []
    assert run("versions", "--alias", "nobody", "--json", PAINTBOX_URL=served.url).json == []
    assert run("jobs", "--name", "no such", "--owner", "me", "--json", PAINTBOX_URL=served.url).json == []
    assert run("datasets", "--since", "yesterday", PAINTBOX_URL=served.url).status == 2
    assert run("dataset", "digits of m", "--json", PAINTBOX_URL=served.url).json["id"] == dataset
    task = add_ready_dataset(served.world.services, ["a"], splits=("train", "validation", "test"))
    started = served.client.create_patch(name="p", tasks=[task])
    assert served.client.rename_patch(started.patch.id, "q").name == "q"
    done = run("patches", "rename", started.patch.id, "r", "--json", PAINTBOX_URL=served.url)
    assert done.json["name"] == "r"


def test_images_are_collected_from_rows_classes_and_splits(served: Served, dataset: str) -> None:
    def collect(*arguments: object) -> Any:
        return run("datasets", "collect", "mix", *arguments, "--no-wait", "--json", PAINTBOX_URL=served.url)

    chosen = ("--from", f"{dataset}:train:0-1,3", "--from", f"{dataset}::label=zero")
    made = collect(*chosen, "--splits", "by_content").json
    sources = [(each["split"], each["num_images"]) for each in made["collected"]["sources"]]
    assert (made["state"], made["collected"]["splits"]) == ("ingesting", "by_content")
    assert sources == [("train", 4), ("test", 1)]
    pool = collect("--from", f"{dataset}:train", "--unlabelled").json
    assert pool["kind"] == "pool"
    for wrong in (f"{dataset}:trian", f"{dataset}:train:x", f"{dataset}:train:3-1", f"{dataset}:train:0-999999999"):
        assert collect("--from", wrong).status == 2, wrong
    assert "--wrong needs --from-evaluation" in collect("--from", dataset, "--wrong").err
    assert collect().status == 2
