"""Uploading data sets, and refusing hostile ones."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from contract.datasets import DatasetKind
from registry.datasets import Datasets
from registry.jobs import Jobs
from tests.app import hostile
from tests.app.world import World, add_ready_dataset, check_problem
from tests.builders import digit_members, digit_pngs, write_zip
from tests.registry.uploads import FOLDERS, contents, pack, read, rejected


def _upload(client: TestClient, path: Path, **form: Any) -> Response:
    with path.open("rb") as file:
        return client.post("/v1/datasets", files={"archive": file}, data={"name": "digits", **form})


def brief_of(dataset: dict[str, Any]) -> dict[str, Any]:
    """What a list tells of a data set."""
    brief = {
        key: dataset[key]
        for key in dataset.keys()
        - {"classnames", "templates", "rejected", "num_rejected", "duplicates", "decoder", "reading", "collected"}
    }
    return brief | {"splits": {name: {"num_images": each["num_images"]} for name, each in dataset["splits"].items()}}


@pytest.fixture
def archive(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    members = digit_members(range(3), train=3, val=1, test=1)
    return write_zip(tmp_path / "digits.zip", {**members, "notes.txt": request.node.name.encode()})


def test_an_upload_is_accepted_with_a_job_that_somebody_is_told_of(world: World, archive: Path) -> None:
    response = _upload(world.client, archive, templates=["a {}", "the {}"], classnames='{"zero": "digit zero"}')
    assert response.status_code == 202
    dataset = response.json()
    assert response.headers["location"] == f"/v1/datasets/{dataset['id']}"
    assert dataset["state"] == "ingesting"
    assert dataset["templates"] == ["a {}", "the {}"]
    assert dataset["job"] == {"id": dataset["job_id"], "status": "queued"}
    assert world.dispatcher.dispatched.count(dataset["job_id"]) == 1
    assert world.client.get(response.headers["location"]).json() == dataset
    assert brief_of(dataset) in world.client.get("/v1/datasets").json()["items"]


def test_the_archive_is_kept_for_the_worker_and_nothing_else_stays(world: World, archive: Path) -> None:
    blobs = world.services.settings.blob_dir
    before = {path for path in blobs.rglob("*") if path.is_file()}
    assert _upload(world.client, archive).status_code == 202
    (stored,) = {path for path in blobs.rglob("*") if path.is_file()} - before
    assert stored.read_bytes() == archive.read_bytes()
    assert list(world.services.settings.scratch_dir.iterdir()) == []


def test_the_same_bytes_and_options_give_the_same_data_set(world: World, archive: Path) -> None:
    first = _upload(world.client, archive)
    num_dispatched = len(world.dispatcher.dispatched)
    again = _upload(world.client, archive, name="another name")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["name"] == "digits"
    assert len(world.dispatcher.dispatched) == num_dispatched
    other = _upload(world.client, archive, templates=["a {}"])
    assert other.status_code == 202
    assert other.json()["id"] != first.json()["id"]


def test_templates_may_be_one_json_list(client: TestClient, archive: Path) -> None:
    repeated = _upload(client, archive, templates=["a {}", "the {}"]).json()
    listed = _upload(client, archive, templates=json.dumps(["a {}", "the {}"]))
    assert listed.status_code == 200
    assert listed.json()["id"] == repeated["id"]


def test_a_failed_data_set_tells_why_and_may_be_uploaded_again(world: World, archive: Path) -> None:
    dataset = _upload(world.client, archive).json()
    with world.services.database.write() as session:
        lease = Jobs(session).lease(dataset["job_id"], "a test")
        assert lease is not None
        Jobs(session).fail(lease, "no_images", "Not one image could be read.")
    failed = world.client.get(f"/v1/datasets/{dataset['id']}").json()
    assert failed["state"] == "failed"
    assert failed["error"] == {"code": "no_images", "detail": "Not one image could be read."}
    again = _upload(world.client, archive)
    assert again.status_code == 202
    assert again.json()["id"] == dataset["id"]
    assert again.json()["job_id"] != dataset["job_id"]


def test_a_ready_data_set_tells_what_it_holds(world: World) -> None:
    identifier = add_ready_dataset(world.services, ["zero", "one"], ["a {}"], ["train", "test"])
    dataset = world.client.get(f"/v1/datasets/{identifier}").json()
    assert dataset["state"] == "ready"
    assert dataset["classnames"] == ["zero", "one"]
    assert dataset["splits"]["train"] == {
        "num_images": 2, "per_class": {"zero": 1, "one": 1}, "taken_from": None,
    }  # fmt: skip
    assert len(dataset["content_sha256"]) == 64


def test_a_flat_archive_is_a_pool_if_its_owner_says_so(world: World, tmp_path: Path) -> None:
    flat = write_zip(tmp_path / "flat.zip", {f"{index}.png": data for index, data in enumerate(digit_pngs(3)[:4])})
    check_problem(_upload(world.client, flat), 422, "no_images")
    pool = _upload(world.client, flat, kind="pool")
    assert (pool.status_code, pool.json()["kind"]) == (202, "pool")
    assert _upload(world.client, flat, kind="pool").status_code == 200
    named = _upload(world.client, flat, kind="pool", classnames='{"a": "b"}')
    assert "classnames" in str(check_problem(named, 422, "invalid_request")["errors"][0])
    check_problem(_upload(world.client, flat, kind="heap"), 422, "invalid_request")
    empty = write_zip(tmp_path / "empty.zip", {"notes.txt": b"no picture"})
    check_problem(_upload(world.client, empty, kind="pool"), 422, "no_images")


def test_a_pool_names_no_labels(world: World) -> None:
    identifier = add_ready_dataset(world.services, [], splits=["train"])
    with world.services.database.write() as session:
        Datasets(session).get(identifier).kind = DatasetKind.POOL
    answer = world.client.post("/v1/classify", files={"images": digit_pngs(3)[0]}, data={"dataset": identifier})
    check_problem(answer, 422, "unlabelled_pool")


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (partial(hostile.write_named, name="../../x"), "path_traversal"),
        (partial(hostile.write_named, name="zero/../../../x.png"), "path_traversal"),
        (partial(hostile.write_named, name="/etc/cron.d/x"), "absolute_path"),
        (hostile.write_declared_bomb, "archive_bomb"),
        (hostile.write_overlapping_bomb, "archive_bomb"),
        (hostile.write_empty_class, "empty_class"),
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_no_trace(
    world: World, tmp_path: Path, write: Callable[[Path], Path], code: str
) -> None:
    path = write(tmp_path / "hostile.zip")
    outside = world.outside_data()
    inside = {each for each in world.services.settings.blob_dir.rglob("*")}
    check_problem(_upload(world.client, path), 422, code)
    assert world.outside_data() == outside
    assert {each for each in world.services.settings.blob_dir.rglob("*")} == inside
    assert list(world.services.settings.scratch_dir.iterdir()) == []
    assert not Path("/etc/cron.d/x").exists()


def test_a_link_in_an_archive_is_left_out_and_what_it_names_is_not_read(world: World, tmp_path: Path) -> None:
    path = hostile.write_symlink(tmp_path / "x")
    assert _upload(world.client, path).status_code == 202
    plan = read(path)
    assert "one/link.png" in rejected(plan)
    assert all(isinstance(data, bytes) and b"root:" not in data for _, _, data in contents(plan))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b no gzip", b"%PDF-1.7"])
def test_what_is_of_no_known_kind_is_refused_and_told_what_is(
    client: TestClient, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "text.zip"
    path.write_bytes(content)
    problem = check_problem(_upload(client, path), 422, "unknown_format")
    assert all(word in problem["next"] for word in ("tar.zst", "metadata.csv", "manifest", "Parquet", "WebDataset"))


def test_a_zip_that_is_damaged_is_refused(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"PK\x03\x04 and then something else")
    check_problem(_upload(client, tmp_path / "x"), 422, "not_a_zip")


def test_an_archive_in_no_layout_is_refused_and_told_which_there_are(client: TestClient, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x", {"1.png": digit_pngs(0)[0], "2.png": digit_pngs(1)[0]})
    assert "SPLIT/CLASS/image" in check_problem(_upload(client, path), 422, "no_images")["next"]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.zst"])
def test_the_kind_of_an_upload_is_told_by_its_bytes(world: World, tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / "pictures.zip", FOLDERS, kind)
    assert _upload(world.client, path).status_code == 202
    if kind == "tar":  # whose names lie open
        check_problem(_upload(world.client, path, classnames='{"nine": "9"}'), 422, "unknown_class")
    assert list(world.services.settings.scratch_dir.iterdir()) == []


def test_a_manifest_that_the_archive_does_not_hold_is_refused(client: TestClient, archive: Path) -> None:
    check_problem(_upload(client, archive, manifest="list.csv"), 422, "bad_manifest")


def test_the_manifest_is_part_of_what_names_a_data_set(client: TestClient, tmp_path: Path) -> None:
    table = b"filepath,label\n000.png,nought\n001.png,nought\n"
    path = write_zip(tmp_path / "x", {**digit_members(range(2), train=2), "train/zero/list.csv": table})
    assert _upload(client, path).json()["id"] != _upload(client, path, manifest="train/zero/list.csv").json()["id"]


@pytest.mark.parametrize(
    ("form", "location"),
    [
        ({"templates": "no placeholder"}, "body.templates.0"),
        ({"templates": "[1]"}, "body.templates.0"),
        ({"classnames": "no JSON"}, "body.classnames"),
        ({"classnames": "[]"}, "body.classnames"),
        ({"classnames": '{"zero": " "}'}, "body.classnames.zero"),
        ({"name": ""}, "body.name"),
        ({"layout": "folders"}, "body.layout"),
        ({"class_level": "0"}, "body.class_level"),
        ({"split_of": "no JSON"}, "body.split_of"),
        ({"split_of": '{"extra": "nothing"}'}, "body.split_of.extra"),
        ({"label_column": "x" * 201}, "body.label_column"),
    ],
)
def test_options_that_cannot_be_read_are_named(
    client: TestClient, archive: Path, form: dict[str, str], location: str
) -> None:
    problem = check_problem(_upload(client, archive, **form), 422, "invalid_request")
    assert location in [error["location"] for error in problem["errors"]]


EXTRA = {f"{split}/{name}/1.png": digit_pngs(0)[0] for split in ("train", "extra") for name in ("a", "b")}


def test_an_upload_that_can_be_read_in_two_ways_is_refused_until_its_owner_chooses(
    client: TestClient, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "x", EXTRA)
    problem = check_problem(_upload(client, path), 422, "ambiguous_layout")
    assert "'extra'" in problem["detail"]
    assert "split_of" in problem["next"]
    chosen = [
        {"split_of": '{"extra": "test", "train": "train"}'},
        {"split_of": "{}", "class_level": "1"},
        {"root": "extra"},
    ]
    answers = [_upload(client, path, **form) for form in chosen]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.json()["id"] for answer in answers}) == 3
    assert answers[0].json()["reading"] is None  # until the job has read it
    assert _upload(client, path, split_of='{"train": "train", "extra": "test"}').json()["id"] == answers[0].json()["id"]
    check_problem(_upload(client, path, root="nowhere"), 422, "bad_reading_option")


def test_what_was_sent_in_parts_takes_the_same_options(client: TestClient, tmp_path: Path) -> None:
    data = write_zip(tmp_path / "x", EXTRA | {"notes.txt": b"in parts"}).read_bytes()
    tus = {"Tus-Resumable": "1.0.0"}
    made = client.post("/v1/uploads", headers=tus | {"Upload-Length": str(len(data))})
    part = tus | {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert client.patch(made.headers["location"], content=data, headers=part).status_code == 204
    form = {"name": "x", "upload": made.headers["location"].rpartition("/")[2]}
    check_problem(client.post("/v1/datasets", data=form), 422, "ambiguous_layout")
    assert (
        client.post("/v1/datasets", data=form | {"split_of": '{"extra": "ignore", "train": "train"}'}).status_code
        == 202
    )


def test_display_names_must_fit_the_archive(client: TestClient, archive: Path) -> None:
    check_problem(_upload(client, archive, classnames='{"nine": "digit nine"}'), 422, "unknown_class")
    check_problem(_upload(client, archive, classnames='{"zero": "one"}'), 422, "duplicate_classname")


def test_a_data_set_that_is_not_there_is_a_problem(client: TestClient) -> None:
    check_problem(client.get("/v1/datasets/ds_nothing"), 404, "not_found")


def test_a_derived_data_set_has_other_words_for_the_same_images(world: World) -> None:
    source = add_ready_dataset(world.services, ["zero", "one"], ["a {}"], ["train", "test"])
    before = world.client.get(f"/v1/datasets/{source}").json()
    body = {"name": "digits, spelt out", "classnames": {"zero": "digit zero"}, "templates": ["the {}", "one {}"]}
    made = world.client.post(f"/v1/datasets/{source}/derive", json=body)
    assert made.status_code == 201
    derived = made.json()
    assert made.headers["location"] == f"/v1/datasets/{derived['id']}"
    assert (derived["state"], derived["derived_from"], derived["name"]) == ("ready", source, "digits, spelt out")
    assert derived["classnames"] == ["digit zero", "one"]
    assert derived["templates"] == ["the {}", "one {}"]
    assert derived["splits"]["train"] == {
        "num_images": 2, "per_class": {"digit zero": 1, "one": 1}, "taken_from": None,
    }  # fmt: skip
    with world.services.database.read() as session:
        rows = [Datasets(session).get(each) for each in (source, derived["id"])]
        assert rows[0].shards == rows[1].shards
        assert rows[0].content_sha256 != rows[1].content_sha256
    assert world.client.get(f"/v1/datasets/{source}").json() == before
    assert brief_of(derived) in world.client.get("/v1/datasets").json()["items"]


def test_the_same_derivation_gives_the_same_data_set_and_may_go_on_from_there(world: World) -> None:
    source = add_ready_dataset(world.services, ["zero", "one"], ["a {}"], ["train"])
    first, again = (world.client.post(f"/v1/datasets/{source}/derive", json={"name": "copy"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert first.json()["templates"] == ["a {}"]
    swap = {"name": "swapped", "classnames": {"zero": "one", "one": "zero"}, "templates": []}
    further = world.client.post(f"/v1/datasets/{first.json()['id']}/derive", json=swap).json()
    assert (further["classnames"], further["templates"]) == (["one", "zero"], [])
    assert further["derived_from"] == first.json()["id"]


def test_a_derivation_that_does_not_fit_is_refused(world: World, archive: Path) -> None:
    source = add_ready_dataset(world.services, ["zero", "one"], splits=["train"])
    route = f"/v1/datasets/{source}/derive"
    for body, code in (
        ({"name": "x", "classnames": {"nine": "9"}}, "unknown_class"),
        ({"name": "x", "classnames": {"zero": "one"}}, "duplicate_classname"),
        ({"name": "x", "templates": ["no placeholder"]}, "invalid_request"),
        ({"name": "x", "other": 1}, "invalid_request"),
        ({"classnames": {}}, "invalid_request"),
    ):
        check_problem(world.client.post(route, json=body), 422, code)
    check_problem(world.client.post("/v1/datasets/ds_nothing/derive", json={"name": "x"}), 404, "not_found")
    ingesting = _upload(world.client, archive).json()["id"]
    check_problem(world.client.post(f"/v1/datasets/{ingesting}/derive", json={"name": "x"}), 409, "dataset_not_ready")
