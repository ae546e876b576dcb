"""Parquet files and WebDataset shards, alone and in archives, are read as they are."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry.archives import ArchiveLimits
from registry.intake.reading import look
from tests.builders import WORDS
from tests.registry.test_intake import refusal
from tests.registry.uploads import (
    CSV,
    FOLDERS,
    KINDS,
    LISTED,
    ONE,
    ZERO,
    contents,
    hugging_face_parquet,
    labels,
    pack,
    read,
    rejected,
    tar_bytes,
    webdataset_shard,
)

# -- Parquet --------------------------------------------------------------------------------------------------------


def test_a_bare_parquet_file_of_hugging_face_is_read(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    plan = read(hugging_face_parquet(tmp_path / "x", [0, 1, 1]))
    assert (plan.layout, plan.classes, plan.is_declared) == ("parquet", WORDS, True)
    assert contents(plan) == [(None, "zero", ZERO[0]), (None, "one", ONE[1]), (None, "one", ONE[2])]
    assert look(tmp_path / "x") is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
        ("digits-train.parquet", "digits-test.parquet"),
    ],
)
def test_shards_tell_their_split_by_their_names(tmp_path: Path, kind: str, train: str, test: str) -> None:
    pytest.importorskip("datasets")
    members = {
        train: hugging_face_parquet(tmp_path / "a", [0, 1]).read_bytes(),
        test: hugging_face_parquet(tmp_path / "b", [0], start=5).read_bytes(),
    }
    plan = read(pack(tmp_path / "x", members, kind))
    assert sorted(contents(plan), key=str) == sorted(
        [("train", "zero", ZERO[0]), ("train", "one", ONE[1]), ("test", "zero", ZERO[5])], key=str
    )


@pytest.mark.parametrize("name", ["train station", "train-station", "bullettrain", "trainset", "my test tube"])
def test_a_shard_whose_name_only_holds_the_word_tells_no_split(tmp_path: Path, name: str) -> None:
    data = _parquet(tmp_path / "a", ["cat"])
    plan = read(pack(tmp_path / "x", {f"{name}-00000-of-00001.parquet": data}))
    assert labels(plan) == [(f"{name}-00000-of-00001.parquet#0", None, "cat")]


def test_shards_with_other_prefixes_tell_no_split(tmp_path: Path) -> None:
    data = _parquet(tmp_path / "a", ["cat"])
    plan = read(pack(tmp_path / "x", {"steam-train-0.parquet": data, "bullet-train-0.parquet": data}))
    assert {image.split for image in plan.images} == {None}


def _parquet(path: Path, column: list[object], image: object = None) -> bytes:
    images = [{"bytes": ZERO[0], "path": None} if image is None else image] * len(column)
    pq.write_table(pa.table({"image": images, "label": column, "other": list(range(len(column)))}), path)
    return path.read_bytes()


@pytest.mark.parametrize(("column", "classes"), [(["b", "a"], ("a", "b")), ([10, 9], ("9", "10"))])
def test_labels_without_names_are_sorted(tmp_path: Path, column: list[object], classes: tuple[str, ...]) -> None:
    _parquet(tmp_path / "x", column)
    assert read(tmp_path / "x").classes == classes


def test_rows_without_image_or_label_are_told(tmp_path: Path) -> None:
    table = pa.table(
        {"image": [{"bytes": ZERO[0]}, None, {"bytes": b""}, {"bytes": ONE[0]}], "label": ["a", "a", "b", None]}
    )
    pq.write_table(table, tmp_path / "x")
    plan = read(tmp_path / "x")
    assert labels(plan) == [("data.parquet#0", None, "a")]
    assert rejected(plan) == {
        "data.parquet#1": "has no image bytes",
        "data.parquet#2": "has no image bytes",
        "data.parquet#3": "has no label",
    }


def test_a_number_outside_of_the_names_is_told(tmp_path: Path) -> None:
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": ["a"]}}}})}
    table = pa.table({"image": [{"bytes": ZERO[0]}] * 3, "label": [0, 1, -1]}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "x")
    assert set(rejected(read(tmp_path / "x"))) == {"data.parquet#1", "data.parquet#2"}


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"picture": ["a"], "label": ["a"]}),
        pa.table({"image": [{"bytes": b"x"}], "mood": ["a"]}),
    ],
)
def test_parquet_without_the_columns_is_refused(tmp_path: Path, table: pa.Table) -> None:
    pq.write_table(table, tmp_path / "x")
    assert refusal(tmp_path / "x") == "bad_table"


def test_parquet_that_is_damaged_or_a_bomb_is_refused(tmp_path: Path) -> None:
    data = _parquet(tmp_path / "x", ["a"] * 50)
    (tmp_path / "x").write_bytes(data[:-30])
    assert refusal(tmp_path / "x") == "bad_table"
    images = pa.array([{"bytes": random.Random(0).randbytes(1 << 12)}] * 400)  # stored once, named 400 times
    pq.write_table(pa.table({"image": images, "label": ["a"] * 400}), tmp_path / "z")
    assert (tmp_path / "z").stat().st_size < 30_000
    assert refusal(tmp_path / "z", limits=ArchiveLimits(ratio_floor_bytes=1 << 16)) == "archive_bomb"
    images = pa.array([{"bytes": bytes(1 << 16)}] * 64)
    pq.write_table(
        pa.table({"image": images, "label": ["a"] * 64}), tmp_path / "y", compression="zstd", use_dictionary=False
    )
    assert refusal(tmp_path / "y", limits=ArchiveLimits(ratio_floor_bytes=1 << 16)) == "archive_bomb"


# -- WebDataset -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["cls", "txt", "json"])
def test_a_bare_shard_of_webdataset_is_read(tmp_path: Path, label: str) -> None:
    pytest.importorskip("webdataset")
    path = webdataset_shard(tmp_path / "x", [0, 1, 1], label=label)
    zero, one = ("0", "1") if label == "cls" else ("zero", "one")
    plan = read(path)
    assert look(path) is None
    assert (plan.layout, plan.rejected) == ("webdataset", ())
    assert contents(plan) == [(None, zero, ZERO[0]), (None, one, ONE[1]), (None, one, ONE[2])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("names", [("train/0.tar", "test/0.tar"), ("digits-train-000.tar", "digits-test-000.tar")])
def test_shards_in_an_archive_tell_their_split_by_their_names(
    tmp_path: Path, kind: str, names: tuple[str, str]
) -> None:
    pytest.importorskip("webdataset")
    train = webdataset_shard(tmp_path / "a", [0, 1]).read_bytes()
    test = webdataset_shard(tmp_path / "b", [1], start=5).read_bytes()
    plan = read(pack(tmp_path / "x", dict(zip(names, (train, test), strict=True)), kind))
    expected = [("train", "0", ZERO[0]), ("train", "1", ONE[1]), ("test", "1", ONE[5])]
    assert sorted(contents(plan), key=str) == sorted(expected, key=str)


EXPORT = """
import sys
from pathlib import Path

from clip_benchmark.webdataset_builder import convert_dataset


class Digits(list):
    classes = ["digit zero", "digit one"]
    templates = ["a scan of a {c}.", "the {c}."]


for split, names in (("train", ["0-0", "1-3", "0-2"]), ("test", ["1-5"])):
    items = [(Path(sys.argv[1], name).read_bytes(), int(name[0])) for name in names]
    convert_dataset(Digits(items), split, sys.argv[2], image_format="png", max_count=2, verbose=False)
"""


def test_what_clip_benchmark_itself_exports_is_read(tmp_path: Path) -> None:
    images, exported = tmp_path / "images", tmp_path / "wds"
    images.mkdir()
    for name, png in {"0-0": ZERO[0], "1-3": ONE[3], "0-2": ZERO[2], "1-5": ONE[5]}.items():
        (images / name).write_bytes(png)
    subprocess.run([sys.executable, "-c", EXPORT, images, exported], check=True, capture_output=True)
    members = {str(path.relative_to(tmp_path)): path.read_bytes() for path in exported.rglob("*") if path.is_file()}
    assert "wds/train/1.tar" in members
    plan = read(pack(tmp_path / "x", members, "zip"))
    assert [name for _, name in plan.display_names] == ["digit zero", "digit one"]
    assert (plan.templates, plan.rejected) == (("a scan of a {}.", "the {}."), ())
    expected = [("test", "1", ONE[5]), ("train", "0", ZERO[0]), ("train", "1", ONE[3]), ("train", "0", ZERO[2])]
    assert contents(plan) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("root", ["", "wds_digits/"])
def test_a_folder_like_those_that_clip_benchmark_exports_brings_classnames_and_templates(
    tmp_path: Path, kind: str, root: str
) -> None:
    pytest.importorskip("webdataset")
    members = {
        "train/0.tar": webdataset_shard(tmp_path / "a", [0, 2]).read_bytes(),
        "train/1.tar": webdataset_shard(tmp_path / "b", [1], start=3).read_bytes(),
        "train/nshards.txt": b"2",
        "test/0.tar": webdataset_shard(tmp_path / "c", [1], start=5).read_bytes(),
        "test/nshards.txt": b"1",
        "classnames.txt": "".join(f"digit {word}\n" for word in WORDS[:4]).encode(),
        "zeroshot_classification_templates.txt": b"a scan of a {c}.\nthe {c}.\n",
        "dataset_type.txt": b"classification",
    }
    plan = read(pack(tmp_path / "x", {root + name: data for name, data in members.items()}, kind))
    assert plan.classes == ("0", "1", "2", "3")
    assert [name for _, name in plan.display_names] == [f"digit {word}" for word in WORDS[:4]]
    assert plan.templates == ("a scan of a {}.", "the {}.")
    assert (plan.is_declared, plan.rejected) == (True, ())
    assert [(split, label) for split, label, _ in contents(plan)] == [
        ("test", "1"), ("train", "0"), ("train", "2"), ("train", "1"),
    ]  # fmt: skip


def _shard(tmp_path: Path, members: dict[str, bytes]) -> Path:
    (tmp_path / "x").write_bytes(tar_bytes(members))
    return tmp_path / "x"


def test_samples_without_an_image_or_a_label_are_told(tmp_path: Path) -> None:
    members = {
        "a.png": ZERO[0], "a.cls": b"0", "b.png": ONE[0], "c.cls": b"1", "d.png": ONE[0], "d.json": b'{"width": 8}',
        "e.png": ONE[1], "e.cls": b"", "e.txt": b"one", "f.png": b"", "f.jpg": b"", "f.cls": b"1", "g.npy": b"",
    }  # fmt: skip
    plan = read(_shard(tmp_path, members))
    assert labels(plan) == [("a.png", None, "0"), ("e.png", None, "one"), ("f.jpg", None, "1")]
    assert rejected(plan) == {
        "b.png": "has no .cls, .json or .txt file with the same key",
        "c.cls": "has no matching image",
        "d.png": "has no label in its .json",
        "f.png": "is a second image of sample 'f'",
        "g.npy": "is neither an image nor a label",
    }


def test_a_label_beyond_the_classnames_is_told(tmp_path: Path) -> None:
    members = {"a.png": ZERO[0], "a.cls": b"0", "b.png": ONE[0], "b.cls": b"2", "c.png": ONE[1], "c.cls": b"one"}
    plan = read(_shard(tmp_path, {**members, "classnames.txt": b"zero\none\n"}))
    assert labels(plan) == [("a.png", None, "0"), ("c.png", None, "1")]
    assert rejected(plan) == {"b.png": "has a label that is not in classnames.txt, which has 2 classes"}


def test_a_repeated_classname_is_told_and_gets_its_number(tmp_path: Path) -> None:
    plan = read(_shard(tmp_path, {"a.png": ZERO[0], "a.cls": b"2", "classnames.txt": b"missile\nprison\nmissile\n"}))
    assert dict(plan.display_names) == {"0": "missile", "1": "prison", "2": "missile (2)"}
    assert rejected(plan) == {"classnames.txt:3": "repeats 'missile', so this class is named 'missile (2)'"}


def test_files_and_folders_with_a_splits_name_in_them_confuse_no_layout(tmp_path: Path) -> None:
    rows = "file_name,label\ntrain station.png,train station\ntest tube/1.png,test tube\n"
    members = {"metadata.csv": rows.encode(), "train station.png": ZERO[0], "test tube/1.png": ONE[0]}
    plan = read(pack(tmp_path / "x", members))
    assert {image.split for image in plan.images} == {None}
    assert plan.classes == ("test tube", "train station")
    data = tar_bytes({"s0.png": ZERO[0], "s0.txt": b"train station"})
    shards = read(pack(tmp_path / "y", {"train station/0.tar": data, "test tube/0.tar": data}))
    assert {image.split for image in shards.images} == {None}
    assert shards.classes == ("train station",)


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("classnames.txt", b"zero\n\none\n", "bad_table"),
        ("classnames.txt", b"\xff\xfe", "bad_table"),
        ("zeroshot_classification_templates.txt", b"a photo\n", "bad_template"),
    ],
)
def test_tables_beside_shards_that_cannot_be_used_are_refused(
    tmp_path: Path, name: str, data: bytes, code: str
) -> None:
    assert refusal(_shard(tmp_path, {"a.png": ZERO[0], "a.cls": b"0", name: data})) == code


def test_a_text_beside_an_image_in_a_class_folder_is_a_stray(tmp_path: Path) -> None:
    plan = read(pack(tmp_path / "x", {**FOLDERS, "train/zero/0.txt": b"one", "train/zero/0.json": b"1"}, "tar"))
    assert (plan.layout, plan.classes) == ("imagefolder", ("one", "zero"))


def test_what_macos_leaves_behind_is_not_there_in_any_layout(tmp_path: Path) -> None:
    junk = {"__MACOSX/train/._a.png": b"", ".DS_Store": b"", "train/._a.png": b"", "._metadata.csv": b"\0"}
    plan = read(pack(tmp_path / "x", {"metadata.csv": CSV.encode(), **LISTED, **junk}))
    assert (len(plan.images), plan.rejected) == (3, ())
    shard = read(_shard(tmp_path, {"._a.png": b"", "a.png": ZERO[0], "a.cls": b"0", "._a.cls": b"\0"}))
    assert (len(shard.images), shard.rejected) == (1, ())


def test_too_many_classes_are_descriptions_not_classes(tmp_path: Path) -> None:
    rows = "filepath,title\na.png,one picture\nb.png,another picture\n"
    path = pack(tmp_path / "x", {"list.csv": rows.encode(), "a.png": ZERO[0], "b.png": ONE[0]})
    assert refusal(path, limits=ArchiveLimits(max_classes=1)) == "too_many_classes"
