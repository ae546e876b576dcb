"""Ingest of every kind of upload, in a trainer process: what is stored is what anybody's tools read."""

import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import select

from contract.jobs import JobStatus
from paint_core.images.decoding import DECODER
from paint_core.models import BaseModel
from registry.datasets import DatasetOptions
from registry.shards import read_shard
from registry.tables import DatasetRow, JobAttemptRow
from tests.builders import WORDS, digit_members, digit_pngs, write_zip
from tests.registry.uploads import LISTED, ONE, ZERO, hugging_face_parquet, pack, webdataset_shard
from tests.support.forking import Forks
from tests.worker.conftest import Installation, install
from worker.supervisor import Supervisor


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """Ingest needs no PyTorch, whose import takes seconds."""
    with Forks("worker.steps.ingest") as opened:
        yield opened


def rows(installation: Installation, dataset: DatasetRow) -> list[tuple[str, str, bytes]]:
    """Split, classname and bytes of every stored image."""
    assert dataset.shards is not None
    assert dataset.classnames is not None
    return [
        (split, dataset.classnames[label], data)
        for split, shard in dataset.shards.items()
        for data, label in read_shard(installation.blobs.fetch(shard["sha256"]))
    ]


def test_metadata_in_a_tar_zst_is_ingested_and_a_bad_file_sinks_nothing(
    installation: Installation, tmp_path: Path
) -> None:
    table = "file_name,label\ntrain/a.png,zero\ntrain/b.png,one\ntrain/c.png,one\ntest/a.png,zero\n"
    members = {"metadata.csv": table.encode(), **LISTED, "train/c.png": b"no picture", "test/d.png": ONE[3]}
    dataset = installation.ingest(pack(tmp_path / "x", members, "tar.zst"))
    assert dataset.state == "ready"
    assert {entry["file"] for entry in dataset.rejected or ()} == {"train/c.png", "test/d.png"}
    found = rows(installation, dataset)
    assert ("test", "zero", ZERO[1]) in found
    assert {(split, name) for split, name, _ in found if split != "test"} == {
        ("train", "one"),
        ("validation", "zero"),
    } or {(split, name) for split, name, _ in found if split != "test"} == {("train", "zero"), ("validation", "one")}
    assert not list(installation.settings.scratch_dir.iterdir())


def test_a_data_set_tells_how_it_was_read_with_examples_and_warnings(
    installation: Installation, tmp_path: Path
) -> None:
    members = {
        **{f"set/train/{name}/{n}.png": data[n] for name, data in (("Cat", ZERO), ("cat", ONE)) for n in range(4)},
        "set/train/Cat/same.png": ONE[0],
        "set/val/Cat/0.png": ZERO[9],
        "set/val/cat/0.png": ONE[1],
        "set/test/0.png": ZERO[5],
    }
    reading = installation.ingest(pack(tmp_path / "x", members)).reading or {}
    assert reading["summary"] == "2 splits, 2 classes from folder level 2, 1 wrapper removed"
    assert (reading["root"], reading["class_level"]) == ("set", 2)
    assert reading["split_of"] == {"train": "train", "val": "validation"}
    assert len(reading["examples"]) == 10
    assert all(example["file"].split("/")[2] == example["label"] for example in reading["examples"])
    codes = {warning["code"] for warning in reading["warnings"]}
    assert codes == {"unlabelled_folder", "similar_classes", "leakage", "contradictory_labels"}


def test_a_parquet_file_keeps_its_label_order_and_is_read_back_by_hugging_face(
    installation: Installation, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    dataset = installation.ingest(hugging_face_parquet(tmp_path / "x", [0, 1] * 10))
    assert dataset.classnames == list(WORDS)
    assert {split: shard["num_images"] for split, shard in (dataset.shards or {}).items()} == {
        "train": 16, "validation": 2, "test": 2,
    }  # fmt: skip
    files = {split: str(installation.blobs.fetch(shard["sha256"])) for split, shard in (dataset.shards or {}).items()}
    theirs = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert theirs["test"].features["label"].names == list(WORDS)
    assert sorted(theirs["test"]["label"]) == [0, 1]
    assert theirs["test"][0]["image"].size == Image.open(io.BytesIO(ZERO[0])).size


def test_a_clip_benchmark_folder_brings_names_and_templates_and_the_user_may_change_them(
    installation: Installation, tmp_path: Path
) -> None:
    pytest.importorskip("webdataset")
    members = {
        "train/0.tar": webdataset_shard(tmp_path / "a", [0, 1, 2] * 4).read_bytes(),
        "test/0.tar": webdataset_shard(tmp_path / "b", [0, 1, 2], start=20).read_bytes(),
        "classnames.txt": b"zero\none\ntwo\nthree\n",
        "zeroshot_classification_templates.txt": b"a scan of a {c}.\n",
    }
    options = DatasetOptions((("1", "digit one"), ("two", "digit two")))
    dataset = installation.ingest(pack(tmp_path / "x", members, "tar.gz"), options)
    assert dataset.classnames == ["zero", "digit one", "digit two", "three"]
    assert dataset.templates == ["a scan of a {}."]
    assert (dataset.counts or {})["test"] == {"zero": 1, "digit one": 1, "digit two": 1}
    assert ("test", "digit two", digit_pngs(2)[22]) in rows(installation, dataset)


def test_pictures_in_two_splits_are_reported_and_kept(installation: Installation, tmp_path: Path) -> None:
    with Image.open(io.BytesIO(ZERO[0])) as picture:
        picture.convert("RGB").save(tmp_path / "same.bmp")
    members = {
        "train/zero/0.png": ZERO[0], "train/zero/1.png": ZERO[1], "train/one/0.png": ONE[0], "val/zero/9.png": ZERO[9],
        "test/zero/again.bmp": (tmp_path / "same.bmp").read_bytes(), "test/one/0.png": ONE[1],
    }  # fmt: skip
    dataset = installation.ingest(pack(tmp_path / "x", members))
    assert dataset.layout == "imagefolder"
    assert dataset.duplicates == {
        "across_splits": 1,
        "by_splits": {"train, test": 1},
        "within_splits": 0,
        "with_different_labels": 0,
        "examples": [
            {
                "num_files": 2,
                "files": [
                    {"split": "train", "file": "train/zero/0.png"},
                    {"split": "test", "file": "test/zero/again.bmp"},
                ],
            }
        ],
    }
    assert len(rows(installation, dataset)) == len(members)


def test_a_data_set_without_a_test_split_can_be_a_task_and_says_which_images_judge(
    installation: Installation, tmp_path: Path
) -> None:
    members = digit_members(range(2), train=10, val=3) | {"train/two/1.png": b"no picture"}
    dataset = installation.ingest(write_zip(tmp_path / "digits.zip", members))
    assert {name: each["num_images"] for name, each in (dataset.shards or {}).items()} == {
        "train": 18, "validation": 2, "test": 6,
    }  # fmt: skip
    assert dataset.taken_from == {"validation": "train", "test": "validation"}
    assert dataset.decoder == DECODER
    assert dataset.classnames == ["one", "zero"], "no image of class two can be read"
    assert [each["file"] for each in dataset.rejected or ()] == ["train/two/1.png", "two"]
    installation.submit_patch(name="a patch", tasks=[dataset.id])


def test_what_a_killed_attempt_left_is_removed(installation: Installation, tmp_path: Path) -> None:
    row = installation.submit_dataset(pack(tmp_path / "x", {"a/1.png": ZERO[0], "b/1.png": ONE[0]}))
    left, others = (installation.settings.scratch_dir / f"{name}-abc" for name in (row.job_id, "job_other"))
    for folder in (left, others):
        folder.mkdir()
        (folder / "unpacked.tar").write_bytes(b"much")
    Supervisor(installation.settings).run(row.job_id)  # in a fresh process, as a worker starts it
    assert installation.dataset(row.id).state == "ready"
    assert list(installation.settings.scratch_dir.iterdir()) == [others]
    (others / "unpacked.tar").unlink()
    others.rmdir()


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"a/1.png": ZERO[0], "../x.png": b""}, "path_traversal"),
        ({"metadata.csv": b'file_name,label\n"a.png,x', "a.png": ZERO[0]}, "bad_table"),
        ({"1.png": ZERO[0]}, "no_images"),
        ({"a/1.png": b"no picture", "b/1.png": b"no picture"}, "empty_class"),
    ],
)
def test_what_only_unpacking_shows_fails_the_job_with_its_code(
    installation: Installation, tmp_path: Path, members: dict[str, bytes], code: str
) -> None:
    dataset = installation.ingest(pack(tmp_path / "x", members, "tar.gz"))
    job = installation.job(dataset.job_id)
    assert (dataset.state, job.status, job.error_code) == ("failed", JobStatus.FAILED, code)


def test_what_an_upload_unpacks_to_counts_for_its_owner_and_ends_it_before_it_is_too_much(
    tmp_path: Path, base: BaseModel, forks: Forks
) -> None:
    small = install(tmp_path / "data", base, forks.launch, max_stored_bytes=100_000)
    noise = random.Random(0)
    members = {}
    for number in range(20):
        picture = io.BytesIO()
        Image.frombytes("RGB", (64, 64), noise.randbytes(3 * 64 * 64)).save(picture, "BMP")
        members[f"{'ab'[number % 2]}/{number}.bmp"] = picture.getvalue()
    archive = pack(tmp_path / "x", members)
    row = small.submit_dataset(archive, owner="alice")
    small.supervisor.run(row.job_id)
    failed = small.job(row.job_id)
    assert (failed.status, failed.error_code) == (JobStatus.FAILED, "storage_quota")
    assert "'alice'" in (failed.error_detail or "")
    assert not list(small.settings.scratch_dir.iterdir())
    nobodys = small.submit_dataset(pack(tmp_path / "y", {**members, "a/20.bmp": members["a/0.bmp"]}))
    small.supervisor.run(nobodys.job_id)
    made = small.dataset(nobodys.id)
    assert made.state == "ready"
    sizes = {shard["sha256"]: small.blobs.fetch(shard["sha256"]).stat().st_size for shard in made.shards.values()}
    assert made.blob_bytes == sizes | {made.test_digests: small.blobs.fetch(made.test_digests).stat().st_size}
    small.database.close()


def test_an_upload_that_would_fill_the_disk_waits_for_room_and_says_why(
    tmp_path: Path, base: BaseModel, forks: Forks
) -> None:
    low = install(tmp_path / "data", base, forks.launch, min_free_bytes=1 << 60)
    dataset = low.ingest(pack(tmp_path / "x", {"a/1.png": ZERO[0], "b/1.png": ONE[0]}))
    with low.database.read() as session:
        causes = session.scalars(select(JobAttemptRow.cause).where(JobAttemptRow.job_id == dataset.job_id)).all()
    assert (dataset.state, low.job(dataset.job_id).status) == ("ingesting", "queued")
    assert causes == ["disk_full"]
    low.database.close()
