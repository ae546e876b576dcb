"""How labels of all kinds of tables are read, what warnings say, and which pictures are known without a name."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Picture

from paint_core.images.decoding import ALLOWED_FORMATS
from registry.errors import ArchiveRefusedError
from registry.intake.annotations import refuse_descriptions
from registry.intake.choices import Choices
from registry.intake.names import splits_of_files, splits_of_folders
from registry.intake.plan import Image, Plan, read_label
from registry.intake.rejects import Rejects
from registry.intake.signatures import is_picture
from registry.intake.summary import summarise
from tests.registry.uploads import LISTED, ONE, ZERO, labels, pack, read

NO_DUPLICATES = {"across_splits": 0, "with_different_labels": 0}


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0.0, "0"), ("0.0", "0"), (1, "1"), ("-3.00", "-3"), (1.5, "1.5"), (True, "true"), ("True", "true"),
        ("false", "false"), ("cafe\u0301", "caf\u00e9"), (" cat ", "cat"), (["cat"], "cat"),
    ],
)  # fmt: skip
def test_a_label_reads_alike_in_every_kind_of_table(value: object, label: str) -> None:
    assert read_label(value) == (label, None)


@pytest.mark.parametrize(
    "value", [None, "", " ", "NaN", float("nan"), -1, "-1", -1.0, [], ["a", "b"], {"a": 1}, "a\u200bb"]
)
def test_what_is_no_label_is_rejected(value: object) -> None:
    assert read_label(value)[1] is not None


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_numbers_and_truth_values_are_the_same_classes_in_every_kind_of_table(tmp_path: Path, kind: str) -> None:
    rows = [{"file_name": name, "label": value} for name, value in zip(LISTED, (0.0, 1.0, None), strict=True)]
    table = tmp_path / f"labels.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    elif kind == "csv":
        table.write_text("file_name,label\n" + "".join(f"{row['file_name']},{row['label'] or 'nan'}\n" for row in rows))
        table.write_text(table.read_text().replace("train/a.png,nan", "train/a.png,0.0"))
    else:
        table.write_text(json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows)))
    plan = read(pack(tmp_path / "x", {table.name: table.read_bytes(), **LISTED}))
    assert labels(plan) == [("train/a.png", "train", "0"), ("train/b.png", "train", "1")]


def test_every_format_that_is_decoded_is_known_by_its_first_bytes() -> None:
    picture = Picture.new("RGB", (8, 8), "red")
    for kind in ALLOWED_FORMATS:
        target = io.BytesIO()
        picture.save(target, kind)
        assert is_picture(target.getvalue()[:32]), kind
    for other in (b"", b"P", b"BM says hello to all", b"RIFF....WAVEfmt ", b"%PDF-1.7", b"PAR1", b"hello"):
        assert not is_picture(other.ljust(2, b"\0"))


@pytest.mark.parametrize(
    ("files", "splits", "untold"),
    [
        (["train-00000-of-00001-b42a775f407cee45", "test-00000-of-00001-cc110a1b2c3d4e5f"], ["train", "test"], []),
        (["train_images", "test_images"], ["train", "test"], []),
        (["train-0", "dev-0"], ["train", "validation"], []),
        (["data-train-of-mine", "data-eval-of-mine"], ["train", "test"], []),
        (["train-0", "more-0"], ["train", None], [("more-0.tar",)]),
        (["a", "b"], [None, None], []),
    ],
)
def test_a_word_of_a_shards_name_tells_its_split_or_the_shards_do_not_mix(
    files: list[str], splits: list[str | None], untold: list[tuple[str]]
) -> None:
    assert splits_of_files([(f"{name}.tar",) for name in files]) == (splits, untold)


def test_folders_tell_splits_by_a_word_only_if_the_rest_is_the_same() -> None:
    assert splits_of_folders(["seg_train", "seg_test"]) == {"seg_train": "train", "seg_test": "test"}
    assert splits_of_folders(["Training Data", "val"]) == {"Training Data": "train", "val": "validation"}
    assert splits_of_folders(["train station", "test tube"]) is None
    assert splits_of_folders(["steam_train"]) is None


@pytest.mark.parametrize(
    "labels", [["cat", "dog"] * 9, [f"class {n}" for n in range(10)] * 2, ["a", "b", "c", "d", "e"]]
)
def test_classes_are_no_descriptions(labels: list[str]) -> None:
    refuse_descriptions(labels)


@pytest.mark.parametrize(
    "labels",
    [["0 0.513 0.4 0.2 0.1"], [f"id{n}" for n in range(20)], ["a cat sits", "a dog runs", "the cow eats", "he is in"]],
)
def test_captions_boxes_and_ids_are_refused_as_classes(labels: list[str]) -> None:
    with pytest.raises(ArchiveRefusedError) as refused:
        refuse_descriptions(labels)
    assert refused.value.code == "not_classes"


@pytest.mark.parametrize(
    ("classes", "code"),
    [
        (["cat"], "one_class"),
        (["Cat", "cat"], "similar_classes"),
        (["cat", "cat "], "unclean_class_names"),
        (["bus", "Test"], "class_named_like_a_split"),
        (["n01440764", "n01443537"], "class_names_are_no_words"),
        (["001.Albatross", "002.Auklet"], "class_names_are_no_words"),
        (["0", "1"], "class_names_are_no_words"),
    ],
)
def test_the_owner_is_warned_of_odd_classes(classes: list[str], code: str) -> None:
    images = tuple(Image(f"{name}/{n}.png", None, name) for name in classes for n in range(2))
    plan = Plan("imagefolder", images, tuple(classes), Rejects(), None)  # type: ignore[arg-type]
    told = summarise(plan, {"train": images}, dict(zip(classes, classes, strict=True)), NO_DUPLICATES)
    assert code in [warning["code"] for warning in told["warnings"]]
    alone = summarise(
        Plan("x", images[:1], tuple(classes[:1]), Rejects(), None),  # type: ignore[arg-type]
        {"train": images[:1]},
        {classes[0]: "cat"},
        {"across_splits": 2, "with_different_labels": 1},
    )
    codes = {warning["code"] for warning in alone["warnings"]}
    assert codes == {"one_class", "classes_with_one_image", "leakage", "contradictory_labels"}


def test_a_user_may_choose_the_layout(tmp_path: Path) -> None:
    table = b"file_name,label\na/1.png,left\na/2.png,right\nb/1.png,left\n"
    members = {"a/1.png": ZERO[0], "a/2.png": ZERO[1], "b/1.png": ONE[0], "labels.csv": table}
    path = pack(tmp_path / "x", members)
    assert read(path).classes == ("left", "right")
    assert read(path, choices=Choices(layout="imagefolder")).classes == ("a", "b")
    with pytest.raises(ArchiveRefusedError) as refused:
        read(path, choices=Choices(layout="parquet"))
    assert refused.value.code == "bad_reading_option"
