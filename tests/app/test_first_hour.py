"""What people send and type in their first hour: forms, base64 and labels of every kind, references, a browser."""

import base64
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from app.inference.base64_images import decode_base64_image
from registry.label_sets import LabelSets
from tests.app.world import World, add_ready_dataset, add_version, check_problem, open_world
from tests.builders import digit_members, digit_pngs, write_zip

IMAGE = digit_pngs(0)[0]
LABELS = {"candidate_labels": json.dumps(["digit zero", "digit one"])}
ENCODED = base64.b64encode(IMAGE).decode()
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("hour")) as world:
        yield world


@pytest.mark.parametrize("field", ["images", "image", "file", "files", "images[]", "file[]"])
def test_an_image_is_read_under_the_usual_names_of_a_file_field(world: World, field: str) -> None:
    answer = world.client.post("/v1/classify", data=LABELS, files=[(field, ("x.png", IMAGE)), ("images", IMAGE)])
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["results"]) == 2


@pytest.mark.parametrize("field", ["photo", "upload", "", "candidate_label"])
def test_a_file_in_an_unknown_field_is_named_in_the_error(world: World, field: str) -> None:
    refused = world.client.post("/v1/classify", data=LABELS, files={field: ("x.png", IMAGE)})
    detail = check_problem(refused, 422, "invalid_request")["detail"]
    assert (field or "no name") in detail
    assert "send images in the field `images`" in detail


def test_labels_in_a_file_are_still_a_field(world: World) -> None:
    files = [("images", IMAGE), ("candidate_labels", ("labels.json", LABELS["candidate_labels"]))]
    assert world.client.post("/v1/classify", files=files).status_code == 200


def test_an_unknown_option_is_answered_with_those_that_there_are(world: World) -> None:
    for request in (
        {"data": {"labels": "a"}, "files": {"images": IMAGE}},
        {"json": {"images": [ENCODED], "labels": ["a"]}},
    ):
        problem = check_problem(world.client.post("/v1/classify", **request), 422, "invalid_request")
        told = {each["location"]: each["message"] for each in problem["errors"]}
        assert "candidate_labels, dataset" in told["body.labels"]


def folded(text: str) -> str:
    return "\r\n".join(re.findall(".{1,76}", text)) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        ENCODED,
        folded(ENCODED),
        ENCODED.rstrip("="),
        f"data:image/png;base64,{ENCODED}",
        f" DATA:image/png;name=x;Base64,{folded(ENCODED)}",
        "data:;base64," + ENCODED.replace("+", "%2B").replace("/", "%2F"),
        base64.urlsafe_b64encode(IMAGE).decode(),
    ],
)
def test_base64_is_read_in_every_spelling_of_it(text: str) -> None:
    assert decode_base64_image(text) == IMAGE


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("data:image/svg+xml,%3Csvg", "without base64"),
        ("https://example.org/a.png", "are not fetched"),
        ("photo one.jpg", "not base64"),
        ("AAAAA", "not base64"),
        ("\u00e4" * 8, "not base64"),
        (5, "must be a base64 string"),
    ],
)
def test_what_is_no_base64_is_told_what_it_looks_like(world: World, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decode_base64_image(value)
    refused = world.client.post("/v1/classify", json={"images": [value], "candidate_labels": ["a", "b"]})
    assert said in check_problem(refused, 422, "invalid_request")["detail"]


def test_every_route_with_base64_reads_a_data_url(world: World) -> None:
    url = f"data:image/png;base64,{folded(ENCODED)}"
    asked = {"images": [url], "candidate_labels": ["a", "b"]}
    assert world.client.post("/v1/classify", json=asked).status_code == 200
    assert world.client.post("/v1/embed", json={"images": [url]}).status_code == 200
    hugging_face = {"inputs": url, "parameters": {"candidate_labels": ["a", "b"]}}
    assert world.client.post("/hf/zero-shot-image-classification", json=hugging_face).status_code == 200
    tensors = [
        {"name": "images", "datatype": "BYTES", "shape": [1], "data": [url]},
        {"name": "labels", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
    ]
    assert world.client.post("/v2/models/paintbox/infer", json={"inputs": tensors}).status_code == 200


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("candidate_labels=circle", ["is always 1"]),
        ("candidate_labels=circle,square", ["contains a comma", "is always 1"]),
        ("candidate_labels=circle,square&multi_label=true", ["contains a comma"]),
        ("candidate_labels=circle&multi_label=true", []),
        ("candidate_labels=a, b&candidate_labels=c", []),
    ],
)
def test_one_label_alone_is_warned_about(world: World, query: str, said: list[str]) -> None:
    answer = world.client.post(f"/v1/classify?{query}", content=IMAGE, headers={"content-type": "image/png"}).json()
    warnings = answer.get("warnings", [])
    assert len(warnings) == len(said)
    assert all(each in warning for each, warning in zip(said, warnings, strict=True))


def test_no_image_and_too_many_are_said_in_numbers(world: World) -> None:
    none = world.client.post("/v1/classify", json={"images": [], "candidate_labels": ["a", "b"]})
    assert check_problem(none, 422, "no_images")["detail"] == "No image was sent."
    limit = world.services.settings.max_images_per_request
    many = world.client.post("/v1/classify", json={"images": [ENCODED] * (limit + 1), "candidate_labels": ["a", "b"]})
    said = check_problem(many, 422, "too_many_images")["detail"]
    assert said == f"Too many images: {limit + 1}; the limit is {limit} per request."


def test_tus_is_discovered_and_errors_say_its_version(world: World) -> None:
    told = world.client.options("/v1/uploads")
    assert told.status_code == 204
    assert told.headers["tus-version"] == told.headers["tus-resumable"] == "1.0.0"
    assert set(told.headers["tus-extension"].split(",")) == {"creation", "expiration", "termination"}
    assert int(told.headers["tus-max-size"]) == world.services.settings.max_upload_bytes
    for refused, code in (
        (world.client.post("/v1/uploads", headers={"Upload-Length": "5"}), 412),
        (world.client.head(f"/v1/uploads/{'0' * 32}", headers=TUS), 404),
        (world.client.post("/v1/uploads", headers=TUS), 422),
        (world.client.get(f"/v1/uploads/{'0' * 32}"), 405),
    ):
        assert refused.status_code == code
        assert refused.headers["tus-resumable"] == "1.0.0"
        assert ("tus-version" in refused.headers) == (code == 412)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (f"/v1/uploads/{'0' * 32}", "DELETE, HEAD, PATCH"),
        ("/v1/datasets/ds_1", "DELETE, GET, PATCH"),
        ("/v1/aliases/active", "DELETE, GET, PUT"),
    ],
)
def test_a_refused_method_is_answered_with_all_that_the_path_has(world: World, path: str, allowed: str) -> None:
    refused = world.client.request("COPY", path)
    assert check_problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == allowed


def send_upload(world: World, content: bytes) -> str:
    begun = world.client.post("/v1/uploads", headers=TUS | {"Upload-Length": str(len(content))})
    part = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert world.client.patch(begun.headers["location"], content=content, headers=TUS | part).status_code == 204
    return str(begun.headers["location"]).rsplit("/", 1)[-1]


def test_an_upload_whose_answer_was_lost_is_asked_for_again(world: World, tmp_path: Any) -> None:
    content = write_zip(tmp_path / "a.zip", digit_members(range(2), train=2)).read_bytes()
    form, key = {"name": "digits", "upload": send_upload(world, content)}, {"Idempotency-Key": uuid.uuid4().hex}
    first = world.client.post("/v1/datasets", data=form, headers=key)
    again = world.client.post("/v1/datasets", data=form, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = world.client.post("/v1/datasets", data=form | {"name": "another"}, headers=key)
    check_problem(other, 422, "idempotency_key_reused")
    without = world.client.post("/v1/datasets", data=form)
    check_problem(without, 404, "not_found")


def test_a_key_belongs_to_the_bytes_of_an_archive(world: World, tmp_path: Any) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = write_zip(tmp_path / "a.zip", digit_members(range(2), train=3)).read_bytes()
    other = write_zip(tmp_path / "b.zip", digit_members(range(2), train=4)).read_bytes()
    answers = [
        world.client.post("/v1/datasets", data={"name": "x"}, files={"archive": each}, headers=key)
        for each in (first, first, other)
    ]
    assert [each.status_code for each in answers] == [202, 200, 422]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    check_problem(answers[2], 422, "idempotency_key_reused")


def found(world: World, path: str, **query: Any) -> list[Any]:
    answer = world.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["items"]]


def test_lists_are_filtered_by_what_people_call_things(world: World) -> None:
    dataset = add_ready_dataset(world.services, ["a", "b"], splits=("train", "validation", "test"))
    percent = "100%_of"
    with world.services.database.write() as session:
        label_set = LabelSets(session).add(["x", "y"], [], percent)[0].id
    asked = {"name": "first patch", "tasks": [dataset]}
    started = world.client.post("/v1/patches", json=asked).json()
    patch, job = started["patch"]["id"], started["job"]["id"]
    version, _ = add_version(world.services, world.base, seed=77)
    for path, references, identifier in (
        ("/v1/datasets", (dataset, dataset[:-2], dataset[3:20]), dataset),
        ("/v1/patches", (patch, patch[3:], "first p"), patch),
        ("/v1/jobs", (job, job[4:], patch), job),
        ("/v1/label-sets", (label_set, percent, "100%"), label_set),
        ("/v1/versions", ("seed 77",), version),
    ):
        for reference in references:
            assert found(world, path, ref=reference) == [identifier], (path, reference)
        assert found(world, path, ref="no%") == []
    assert dataset in found(world, "/v1/datasets", state="ready")
    assert dataset not in found(world, "/v1/datasets", state=["failed", "ingesting"])
    assert found(world, "/v1/patches", status="queued") == [patch]
    assert found(world, "/v1/patches", status=["failed", "succeeded"]) == []
    check_problem(world.client.get("/v1/datasets", params={"state": "red"}), 422, "invalid_request")
    check_problem(world.client.get("/v1/datasets", params={"ref": "a\x00"}), 422, "invalid_request")


def test_a_browser_is_shown_where_to_go_and_a_program_is_answered_as_before(world: World) -> None:
    check_problem(world.client.get("/"), 404, "route_not_found")
    headers = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    page = world.client.get("/", headers=headers, follow_redirects=True)
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    for path in re.findall('href="([^"#]+)"', page.text):
        assert world.client.get(path).status_code == 200, path
    assert "//" not in page.text.replace("<!DOCTYPE", "")  # nothing of another host
