"""Every layout that people bring is read as it is; what cannot be used is told, and sinks nothing else."""

import gc
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry.archives import ArchiveLimits
from registry.errors import ArchiveRefusedError
from registry.intake.choices import Choices
from registry.intake.reading import look
from tests.registry.uploads import (
    CSV,
    FOLDERS,
    KINDS,
    LISTED,
    ONE,
    ZERO,
    contents,
    labels,
    pack,
    read,
    rejected,
)


def refusal(path: Path, manifest: str | None = None, limits: ArchiveLimits | None = None) -> str:
    with pytest.raises(ArchiveRefusedError) as refused:
        read(path, manifest, limits)
    assert refused.value.advice
    return refused.value.code


# -- Hugging Face imagefolder with metadata ------------------------------------------------------------------------


def _metadata(kind: str, path: Path) -> bytes:
    rows = [dict(zip(("file_name", "label"), line.split(","), strict=True)) for line in CSV.split()[1:]]
    if kind == "csv":
        return CSV.encode()
    if kind == "jsonl":
        return "\n".join(json.dumps(row) for row in rows).encode()
    pq.write_table(pa.Table.from_pylist(rows), path / "metadata.parquet")
    return (path / "metadata.parquet").read_bytes()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("root", ["", "data/"])
def test_metadata_names_files_and_labels_and_folders_the_splits(tmp_path: Path, kind: str, root: str) -> None:
    members = {f"metadata.{kind}": _metadata(kind, tmp_path), **LISTED}
    path = pack(tmp_path / "x", {root + name: data for name, data in members.items()})
    assert look(path) is None
    plan = read(path)
    assert (plan.layout, plan.classes, plan.rejected) == ("imagefolder-metadata", ("one", "zero"), ())
    assert contents(plan) == [("train", "zero", ZERO[0]), ("train", "one", ONE[0]), ("test", "zero", ZERO[1])]


@pytest.mark.parametrize("kind", KINDS)
def test_each_split_folder_may_hold_its_own_metadata(tmp_path: Path, kind: str) -> None:
    members = {
        "train/metadata.csv": b"file_name,label\nimages/a.png,zero\nimages/b.png,one\n",
        "train/images/a.png": ZERO[0],
        "train/images/b.png": ONE[0],
        "validation/metadata.jsonl": b'{"file_name": "a.png", "label": "zero"}\n',
        "validation/a.png": ZERO[1],
    }
    plan = read(pack(tmp_path / "x", members, kind))
    assert contents(plan) == [("train", "zero", ZERO[0]), ("train", "one", ONE[0]), ("validation", "zero", ZERO[1])]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # theirs leaves the table open
def test_hugging_face_reads_the_same_labels_from_the_same_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    members = {"train/metadata.csv": b"file_name,label\na.png,zero\nb.png,one\n"}
    members |= {"train/a.png": ZERO[0], "train/b.png": ONE[0]}
    for name, data in members.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
    theirs = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    ours = read(pack(tmp_path / "x", members))
    assert [image.label for image in ours.images] == theirs["train"]["label"] == ["zero", "one"]
    assert set(theirs) == {image.split for image in ours.images}
    del theirs
    gc.collect()


def test_rows_and_files_that_do_not_meet_are_told_and_sink_nothing(tmp_path: Path) -> None:
    rows = "file_name,label\na.png,zero\nmissing.png,one\n,one\nb.png,\na.png,one\nc.png\n"
    members = {"metadata.csv": rows.encode(), "a.png": ZERO[0], "b.png": ONE[0], "c.png": ONE[1], "d.png": ONE[2]}
    plan = read(pack(tmp_path / "x", {**members, "README.md": b""}))
    assert labels(plan) == [("a.png", None, "zero")]
    assert rejected(plan) == {
        "metadata.csv:3": "lists 'missing.png', which is not in the archive",
        "metadata.csv:4": "lists no file",
        "metadata.csv:5": "has no label",
        "metadata.csv:6": "lists 'a.png', which another row already lists",
        "metadata.csv:7": "has no label",
        "b.png": "not listed in metadata",
        "c.png": "not listed in metadata",
        "d.png": "not listed in metadata",
        "README.md": "not an image",
    }


def test_metadata_without_labels_leaves_the_labels_to_the_folders(tmp_path: Path) -> None:
    members = {"metadata.csv": b"file_name,width\ntrain/zero/0.png,8\n", **FOLDERS}
    plan = read(pack(tmp_path / "x", members))
    assert (plan.layout, plan.classes) == ("imagefolder", ("one", "zero"))
    assert "it needs a column with image files" in rejected(plan)["metadata.csv"]


@pytest.mark.parametrize(
    ("table", "data"),
    [
        ("metadata.jsonl", b'{"file_name": "a.png", "label": "x"}\n{"file_'),
        ("metadata.csv", CSV.encode() + b'"a.png,x\n'),
    ],
)
def test_a_table_that_breaks_off_is_refused_by_name(tmp_path: Path, table: str, data: bytes) -> None:
    path = pack(tmp_path / "x", {table: data, **LISTED, "a.png": ZERO[0]})
    assert refusal(path) == "bad_table"


def test_a_metadata_path_leads_nowhere_but_into_the_archive(tmp_path: Path) -> None:
    rows = "file_name,label\n../../etc/passwd,x\n/etc/passwd,x\na.png,zero\n"
    plan = read(pack(tmp_path / "x", {"metadata.csv": rows.encode(), "a.png": ZERO[0]}))
    assert len(plan.images) == 1
    assert all(reason.endswith("which is not in the archive") for reason in rejected(plan).values())


def test_numbers_as_labels_are_ordered_by_value(tmp_path: Path) -> None:
    rows = "file_name,label\na.png,10\nb.png,9\n"
    plan = read(pack(tmp_path / "x", {"metadata.csv": rows.encode(), "a.png": ZERO[0], "b.png": ONE[0]}))
    assert plan.classes == ("9", "10")


# -- CSV manifest ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("column", ["title", "label"])
@pytest.mark.parametrize("root", ["", "set/"])
def test_a_manifest_as_open_clip_reads_it_names_files_and_titles(
    tmp_path: Path, delimiter: str, column: str, root: str
) -> None:
    rows = [("filepath", column), ("images/a.png", "a zero"), ("images/b.png", "a one")]
    text = "".join(delimiter.join(row) + "\n" for row in rows)
    members = {"train_list.csv": text.encode(), "images/a.png": ZERO[0], "images/b.png": ONE[0]}
    plan = read(pack(tmp_path / "x", {root + name: data for name, data in members.items()}))
    assert (plan.layout, plan.classes, plan.rejected) == ("csv-manifest", ("a one", "a zero"), ())
    assert contents(plan) == [(None, "a zero", ZERO[0]), (None, "a one", ONE[0])]


def test_a_manifest_may_tell_splits_and_a_row_that_tells_none_is_left_out(tmp_path: Path) -> None:
    rows = "filepath,label,split\na.png,zero,train\nb.png,one,val\nc.png,one,\nd.png,one,later\n"
    members = {f"{name}.png": ONE[index] for index, name in enumerate("abcd")}
    plan = read(pack(tmp_path / "x", {"list.csv": rows.encode(), **members}))
    assert labels(plan) == [("a.png", "train", "zero"), ("b.png", "validation", "one")]
    assert rejected(plan)["c.png"] == "has no split, while others have one"
    assert rejected(plan)["list.csv:5"] == "has the split 'later', which is not train, validation or test"


def test_a_manifest_somewhere_else_is_read_if_the_user_names_it(tmp_path: Path) -> None:
    members = {"zero/mine.csv": b"filepath,label\na.png,nought\n", "zero/a.png": ZERO[0], "one/a.png": ONE[0]}
    path = pack(tmp_path / "x", members)
    assert labels(read(path, "zero/mine.csv")) == [("zero/a.png", None, "nought")]
    assert refusal(path) == "ambiguous_layout"  # it lists one of two images, which lie in class folders as well
    assert refusal(path, "lists/other.csv") == "bad_manifest"
    assert refusal(path, "zero/a.png") in ("bad_table", "bad_manifest")
    with pytest.raises(ArchiveRefusedError, match=r"other\.csv"):
        look(path, Choices(manifest="lists/other.csv"))


@pytest.mark.parametrize("table", [b"id,breed\n1,tabby\n", b"\xe9t\xe9;x\n", b'"', b""])
def test_a_table_that_is_no_manifest_decides_nothing(tmp_path: Path, table: bytes) -> None:
    plan = read(pack(tmp_path / "x", {"breeds.csv": table, **FOLDERS}))
    assert (plan.layout, plan.classes) == ("imagefolder", ("one", "zero"))
