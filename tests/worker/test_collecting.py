"""Collecting rows of data sets: the same bytes under new splits and classes, and no test image in training."""

import io
from collections.abc import Iterator
from typing import Any

import pytest

from contract.collections import Manifest
from contract.datasets import DatasetKind
from contract.jobs import JobStatus
from registry.datasets import DatasetOptions, Datasets
from registry.errors import ConflictError
from registry.jobs import Jobs
from registry.removal import Removal
from registry.shards import read_index, read_rows
from registry.tables import DatasetRow
from tests.builders import digit_pngs, write_zip
from tests.support.forking import Forks
from tests.worker.conftest import Installation
from worker.collecting import split_of_content
from worker.job_context import JobContext
from worker.messages import Channel
from worker.steps.ingest import ingest

ZERO, ONE = digit_pngs(0), digit_pngs(1)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """Ingest needs no PyTorch, whose import takes seconds."""
    with Forks("worker.steps.ingest") as opened:
        yield opened


@pytest.fixture(scope="module")
def source(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> DatasetRow:
    """Of which an image of train is in test, too."""
    members = {
        **{f"train/zero/{number}.png": ZERO[number] for number in range(20)},
        **{f"train/one/{number}.png": ONE[number] for number in range(20)},
        **{f"val/zero/{number}.png": ZERO[20 + number] for number in range(2)},
        **{f"test/{name}/{number}.png": data[30 + number] for name, data in (("zero", ZERO), ("one", ONE)) for number in
           range(3)},
        "test/one/leaked.png": ONE[0],
    }  # fmt: skip
    return installation.ingest_here(write_zip(tmp_path_factory.mktemp("source") / "x.zip", members))


def part(source: DatasetRow, split: str, rows: Any = None, **goal: str) -> dict[str, Any]:
    chosen = range((source.shards or {})[split]["num_images"]) if rows is None else rows
    return {"as_split": None, "as_label": None, "dataset": source.id, "split": split, "rows": list(chosen)} | goal


def submit(installation: Installation, *parts: dict[str, Any], **options: Any) -> DatasetRow:
    kind = options.pop("kind", DatasetKind.LABELLED)
    asked = {"splits": "keep", "allow_test_images": False, "sources": parts} | options
    manifest = Manifest.model_validate(asked)
    with installation.database.write() as session:
        sha256 = installation.blobs.put_bytes(manifest.to_bytes())
        chosen = DatasetOptions(kind=kind, is_collected=True)
        row, _ = Datasets(session).submit("collected", sha256, chosen, collected=manifest.report(), archive_bytes=99)
        return row


def collect(installation: Installation, *parts: dict[str, Any], **options: Any) -> DatasetRow:
    row = submit(installation, *parts, **options)
    with installation.database.write() as session:
        lease = Jobs(session).lease(row.job_id, "a test", 600)
    assert lease is not None
    stores = (installation.database, installation.blobs)
    ingest(JobContext(row.id, {}, lease, *stores, Channel(io.StringIO()), installation.settings))
    return installation.dataset(row.id)


def stored(installation: Installation, row: DatasetRow) -> dict[str, list[tuple[str, str, bytes]]]:
    """Name, class and bytes of each image, by split."""
    found = {}
    for split, shard in (row.shards or {}).items():
        rows = read_rows(installation.blobs.fetch(shard["sha256"]), range(shard["num_images"]))
        found[split] = [(name, (row.classnames or ["-"])[label], data) for data, name, label in rows]
    return found


def test_rows_are_copied_with_their_classes_and_say_where_they_come_from(
    installation: Installation, source: DatasetRow
) -> None:
    made = collect(installation, part(source, "train", [3, 25]), part(source, "test", [0], as_label="naught"))
    names = read_index(installation.blobs.fetch((source.shards or {})["train"]["sha256"]))["name"].to_pylist()
    found = stored(installation, made)
    labels = ["zero" if "zero" in names[row] else "one" for row in (3, 25)]
    assert [(name, label) for name, label, _ in found["train"]] == [
        (f"{source.id}/train/3/{names[3]}", labels[0]), (f"{source.id}/train/25/{names[25]}", labels[1]),
    ]  # fmt: skip
    assert {data for _, _, data in found["train"]} < {*ZERO, *ONE}
    assert [label for _, label, _ in found["test"]] == ["naught"]
    assert (made.layout, made.classnames) == ("collection", [*(source.classnames or []), "naught"])
    assert made.counts == {
        "train": {label: labels.count(label) for label in labels}, "test": {"naught": 1},
    }  # fmt: skip
    report = made.collected or {}
    assert [(each["split"], each["num_images"]) for each in report["sources"]] == [("train", 2), ("test", 1)]
    assert (report["num_left_out"], report["num_test_images_in_training"]) == (0, 0)


def test_what_a_test_split_shows_is_left_out_of_training_unless_it_is_allowed(
    installation: Installation, source: DatasetRow
) -> None:
    made = collect(installation, part(source, "train"))
    assert made.shards is not None
    assert made.shards["train"]["num_images"] == 39
    assert ONE[0] not in [data for _, _, data in stored(installation, made)["train"]]
    assert [entry["reason"] for entry in made.rejected or ()] == [
        "shows the same as an image in a test split of the sources"
    ]
    parts = (part(source, "train"), part(source, "test", as_split="validation"))
    allowed = collect(installation, *parts, allow_test_images=True)
    assert {split: shard["num_images"] for split, shard in (allowed.shards or {}).items()} == {
        "train": 40, "validation": 7,
    }  # fmt: skip
    assert (allowed.collected or {})["num_test_images_in_training"] == 8


def test_by_content_the_same_picture_always_has_the_same_split_and_test_images_stay(
    installation: Installation, source: DatasetRow
) -> None:
    whole = collect(installation, part(source, "train"), part(source, "test"), splits="by_content")
    half = collect(installation, part(source, "train", range(0, 40, 2)), splits="by_content")
    splits = {data: split for split, rows in stored(installation, whole).items() for _, _, data in rows}
    assert len(splits) == 46
    assert {splits[data] for data in (*ZERO[30:33], *ONE[30:33], ONE[0])} == {"test"}
    for split, rows in stored(installation, half).items():
        assert {splits[data] for _, _, data in rows} == {split}


def test_shares_of_content_are_those_that_are_documented() -> None:
    found = [split_of_content(number.to_bytes(32, "big")) for number in range(20_000)]
    assert found.count("test") / 20_000 == pytest.approx(0.1, abs=0.01)
    assert found.count("validation") / 20_000 == pytest.approx(0.1, abs=0.01)


def test_a_pool_has_neither_classes_nor_test_images(installation: Installation, source: DatasetRow) -> None:
    pool = collect(installation, part(source, "train"), kind=DatasetKind.POOL)
    assert (pool.classnames, list(pool.shards or ())) == ([], ["train"])
    assert (pool.shards or {})["train"]["num_images"] == 39


def test_a_source_stays_until_its_images_are_copied_and_what_is_gone_is_told(
    installation: Installation, tmp_path: Any
) -> None:
    members = {f"{split}/zero/{number}.png": ZERO[60 + number] for number, split in enumerate(("train", "val", "test"))}
    short_lived = installation.ingest_here(write_zip(tmp_path / "x.zip", members))
    waiting = submit(installation, part(short_lived, "train"))
    with pytest.raises(ConflictError, match=waiting.job_id), installation.database.write() as session:
        Removal(session).delete_dataset(short_lived.id, force=True)
    with installation.database.write() as session:
        session.delete(session.get(DatasetRow, short_lived.id))
    installation.supervisor.run(waiting.job_id)
    job = installation.job(waiting.job_id)
    assert (job.status, job.error_code) == (JobStatus.FAILED, "source_deleted")
    assert short_lived.id in str(job.error_detail)
