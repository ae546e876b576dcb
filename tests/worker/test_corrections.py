"""Ingest of corrections: splits by what images show, no test images of other data sets, feedback marked as used."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from contract.datasets import DatasetState
from paint_core.images.decoding import check_picture
from registry.corrections import Manifest, compile_manifest, split_of
from registry.datasets import DatasetOptions, Datasets
from registry.errors import RequestRefusedError
from registry.feedback import Feedback, NewFeedback, erase
from registry.jobs import Jobs
from registry.retention import collect_garbage
from registry.shards import read_shard
from registry.tables import DatasetRow
from tests.builders import WORDS, digit_members, digit_pngs, write_zip
from tests.worker.conftest import Installation
from tests.worker.runs import Recorder, begin_job
from worker.collecting import split_of_content
from worker.steps.ingest import ingest


def send(installation: Installation, image: bytes, label: str) -> str:
    given = NewFeedback(
        image_sha256=installation.blobs.put_bytes(image),
        picture_sha256=check_picture(image).hex(),
        num_bytes=len(image),
        label=label,
        predicted="nought",
    )
    with installation.database.write() as session:
        return Feedback(session).add(given, 10_000)[0].id


def submit(installation: Installation, ids: list[str], name: str) -> DatasetRow:
    with installation.database.write() as session:
        manifest = compile_manifest(Feedback(session).rows(ids))
        sha256 = installation.blobs.put_bytes(manifest.to_bytes())
        return Datasets(session).submit(name, sha256, DatasetOptions(is_feedback=True))[0]


def do(installation: Installation, row: DatasetRow) -> DatasetRow:
    with installation.database.read() as session:
        job = Jobs(session).get(row.job_id)
    ingest(begin_job(installation, job, Recorder()))
    return installation.dataset(row.id)


def test_corrections_become_a_data_set_without_test_images_of_others(
    installation: Installation, tmp_path: Path
) -> None:
    members = digit_members(range(2), train=3, val=3, test=12)
    others = installation.ingest_here(write_zip(tmp_path / "others.zip", members))
    assert others.test_digests is not None
    with installation.database.write() as session:
        Datasets(session).get(others.id).test_digests = None  # as of an older release
    mine = [(image, WORDS[digit]) for digit in range(2) for image in digit_pngs(digit)[30:60]]
    leaking = [(data, name.split("/")[1]) for name, data in members.items() if name.startswith("test/")]
    ids = {send(installation, image, label): (image, label) for image, label in (*mine, *leaking)}
    made = do(installation, submit(installation, list(ids), "corrections"))
    assert (made.state, made.layout, made.classnames) == (DatasetState.READY, "feedback", ["nought", "one", "zero"])
    left_out = {each["file"] for each in made.rejected or ()}
    trained = {identifier for identifier, (image, _) in ids.items() if split_of(check_picture(image).hex()) != "test"}
    shown = {identifier for identifier, (image, _) in ids.items() if (image, ids[identifier][1]) in leaking}
    assert left_out == trained & shown
    assert others.id in (made.rejected or [{}])[0]["reason"]
    assert installation.dataset(others.id).test_digests == others.test_digests  # computed once for all
    expected = {image: label for identifier, (image, label) in ids.items() if identifier not in left_out}
    found: dict[bytes, str] = {}
    for split, shard in (made.shards or {}).items():
        for image, label in read_shard(installation.blobs.fetch(shard["sha256"])):
            assert split_of(check_picture(image).hex()) == split
            found[image] = (made.classnames or [])[label]
    assert found == expected
    with installation.database.read() as session:
        states = {row.id: (row.state, row.dataset_id) for row in Feedback(session).rows(list(ids))}
    assert {each for each, state in states.items() if state == ("used", made.id)} == ids.keys() - left_out
    assert {states[each] for each in left_out} == {("open", None)}
    collect_garbage(installation.database, installation.blobs, 0, grace_seconds=0)
    assert installation.blobs.stat(others.test_digests) is not None
    assert erase(installation.database, installation.blobs, list(ids)).dataset_ids == {made.id}


def test_what_was_deleted_meanwhile_is_left_out_and_may_leave_too_little(installation: Installation) -> None:
    pictures = {image: WORDS[digit] for digit in (5, 6) for image in digit_pngs(digit)[:25]}
    ids = {send(installation, image, label): label for image, label in pictures.items()}
    row = submit(installation, list(ids), "soon gone")
    places = {identifier: split_of(check_picture(image).hex()) for identifier, image in zip(ids, pictures, strict=True)}
    gone = [each for each, label in ids.items() if label == "six" and places[each] == "train"]
    assert erase(installation.database, installation.blobs, gone).num_files == len(gone) > 0
    with pytest.raises(RequestRefusedError) as caught:
        do(installation, row)
    assert caught.value.code == "too_few_corrections"
    assert "no image in train: 'six'" in caught.value.detail
    with installation.database.read() as session:
        assert {each.state for each in Feedback(session).rows(list(ids))} == {"open"}
    manifest = Manifest.from_bytes(installation.blobs.read(row.archive_sha256))
    assert json.loads(manifest.to_bytes())["confused_with"] == ["nought"]


def test_no_picture_is_for_testing_in_one_kind_of_data_set_and_for_training_in_another() -> None:
    digests = [hashlib.sha256(bytes([number])).digest() for number in range(256)]
    pairs = Counter((split_of(digest.hex()), split_of_content(digest)) for digest in digests)
    assert pairs["test", "train"] == pairs["train", "test"] == 0
    assert pairs["test", "test"] > 10 < pairs["train", "train"]
