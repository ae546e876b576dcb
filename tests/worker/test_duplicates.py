"""Pictures that are there more than once are counted, whatever their files look like."""

import io
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from paint_core.images.decoding import check_picture
from registry.intake.plan import Image
from tests.builders import digit_pngs
from worker.duplicates import find_duplicates

PLACES = st.lists(st.tuples(st.sampled_from(["train", "validation", "test"]), st.integers(0, 6), st.booleans()))


@given(PLACES)
def test_every_count_is_what_comparing_each_with_each_gives(places: list[tuple[str, int, bool]]) -> None:
    splits: dict[str, list[Image]] = {"train": [], "validation": [], "test": []}
    digests = {}
    for number, (split, picture, other) in enumerate(places):
        splits[split].append(Image(f"{number}.png", split, "dog" if other else "cat"))
        digests[f"{number}.png"] = bytes([picture])
    told = find_duplicates(splits, digests)
    pictures = {picture for _, picture, _ in places}
    homes = {each: {split for split, picture, _ in places if picture == each} for each in pictures}
    assert told["across_splits"] == sum(len(home) > 1 for home in homes.values()) == sum(told["by_splits"].values())
    per_split = Counter((split, picture) for split, picture, _ in places)
    assert told["within_splits"] == sum(count - 1 for count in per_split.values())
    classes = [{other for _, picture, other in places if picture == each} for each in pictures]
    assert told["with_different_labels"] == sum(len(each) > 1 for each in classes)


def test_an_example_names_a_file_of_each_split() -> None:
    splits = {
        "train": [Image(f"train/{n}.png", "train", "cat") for n in range(6)],
        "test": [Image("test/0.png", "test", "cat")],
    }
    told = find_duplicates(splits, {image.name: b"same" for images in splits.values() for image in images})
    assert told["by_splits"] == {"train, test": 1}
    (example,) = told["examples"]
    assert example["num_files"] == 7
    assert [file["file"] for file in example["files"]] == ["train/0.png", "test/0.png", "train/1.png", "train/2.png"]


def test_the_same_pixels_in_another_format_are_the_same_picture() -> None:
    png = digit_pngs(3)[0]
    with Picture.open(io.BytesIO(png)) as picture:
        copies = {kind: io.BytesIO() for kind in ("BMP", "TIFF", "WEBP")}
        for kind, buffer in copies.items():
            picture.convert("RGB").save(buffer, kind, lossless=True)
    assert {check_picture(buffer.getvalue()) for buffer in copies.values()} == {check_picture(png)}
    assert check_picture(digit_pngs(3)[1]) != check_picture(png)


def test_pictures_of_other_shapes_differ_even_if_their_bytes_agree() -> None:
    shapes = {}
    for size in ((2, 8), (4, 4), (8, 2)):
        buffer = io.BytesIO()
        Picture.new("RGB", size).save(buffer, "PNG")
        shapes[check_picture(buffer.getvalue())] = size
    assert len(shapes) == 3
