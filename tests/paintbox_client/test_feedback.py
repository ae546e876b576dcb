"""`paintbox feedback`: corrections are sent, listed, decided on and deleted."""

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.app.galleries import add_stored_dataset
from tests.builders import digit_pngs
from tests.paintbox_client.conftest import Served
from tests.paintbox_client.inside import Done, run

IMAGES = digit_pngs(4)


def ask(served: Served, *arguments: object) -> Done:
    return run("feedback", *arguments, PAINTBOX_URL=served.url)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, image in zip(paths, IMAGES, strict=False):
        path.write_bytes(image)
    return paths


def test_corrections_are_sent_decided_on_and_deleted(served: Served, files: list[Path], tmp_path: Path) -> None:
    sent = ask(served, "send", *files, "--label", "four", "--predicted", "nine", "--json").json
    assert [(each["label"], each["predicted"], each["state"]) for each in sent] == [("four", "nine", "open")] * 3
    first, second, third = (each["id"] for each in sent)
    assert ask(served, "accept", first, "--label", "seven", "--json").json[0]["label"] == "seven"
    assert ask(served, "dismiss", second).status == 0
    shown = ask(served, "show", first, "--save", tmp_path / "a.webp")
    assert "accepted" in shown.out
    with Image.open(tmp_path / "a.webp") as image:
        assert image.size == (8, 8)
    assert Image.open(io.BytesIO(served.client.feedback_image(first, 64))).format == "WEBP"
    listed = ask(served, "list", "--state", "open", "--label", "four", "--json").json
    assert [each["id"] for each in listed] == [third]
    assert first in ask(served, "list").out
    assert ask(served, "delete", first, "--json").json == {"deleted": 1, "files_deleted": 1, "datasets": []}
    deleted = ask(served, "delete", "--label", "four")
    assert "Deleted 2 corrections and 2 image files." in deleted.out
    assert ask(served, "list", "--json").json == []


def test_an_image_of_a_data_set_is_a_correction_without_a_file(served: Served, files: list[Path]) -> None:
    rows = [(image, f"{number}.png", 0) for number, image in enumerate(IMAGES[:2])]
    dataset = add_stored_dataset(served.world.services, ("nine",), {"test": rows})
    (sent,) = ask(
        *(served, "send", "--dataset", dataset, "--split", "test", "--row", 1, "--label", "four", "--json")
    ).json
    assert sent["origin"] == {"dataset": dataset, "split": "test", "row": 1}
    copied = served.client.send_feedback(sample=sent["id"], label="nine")
    assert (copied.label, copied.origin, copied.num_bytes) == ("nine", None, len(IMAGES[1]))
    assert served.client.delete_matching_feedback(labelled=True).deleted == 2
    for arguments in ((), (files[0], "--dataset", dataset)):
        assert ask(served, "send", *arguments).status == 2
    for arguments in ((), ("fb_1", "--label", "four")):
        assert ask(served, "delete", *arguments).status == 2


def test_corrections_are_collected_and_the_next_command_is_told(served: Served, tmp_path: Path) -> None:
    paths = []
    for number, image in enumerate(digit_pngs(6)[:40]):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(image)
    assert ask(served, "send", *paths, "--label", "six", "--predicted", "five").status == 0
    told = ask(served, "collect", "sixes", "--label", "six", "--no-wait", "--json").json
    assert (told["dataset"]["name"], sum(told["num_images"].values())) == ("sixes", 40)
    again = ask(served, "collect", "sixes", "--label", "six", "--no-wait")
    assert f"`paintbox patch --task {told['dataset']['id']}`" in again.err
    assert served.client.delete_matching_feedback(label="six").deleted == 40
