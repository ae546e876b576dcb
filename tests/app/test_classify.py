"""Zero-shot classification in both content types."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from httpx2 import Response
from starlette.testclient import TestClient

from tests.app.world import World, add_ready_dataset, check_problem, expected_cosines, open_world
from tests.builders import digit_pngs

LABELS = ["pizza", "taco", "digit zero", "a {} in braces"]
IMAGES = [digit_pngs(0)[0], digit_pngs(1)[0], digit_pngs(8)[0]]


def _post_files(client: TestClient, images: Sequence[bytes], **form: Any) -> Response:
    return client.post("/v1/classify", files=[("images", ("image.png", image)) for image in images], data=form)


def _post_json(client: TestClient, images: Sequence[bytes], **body: Any) -> Response:
    return client.post("/v1/classify", json={"images": [base64.b64encode(image).decode() for image in images], **body})


def _cosines(answer: dict[str, Any], labels: Sequence[str]) -> torch.Tensor:
    rows = [{each["label"]: each["cosine"] for each in result["predictions"]} for result in answer["results"]]
    return torch.tensor([[row[label] for label in labels] for row in rows])


def test_both_content_types_answer_what_the_library_computes(world: World) -> None:
    by_files = _post_files(world.client, IMAGES, candidate_labels=LABELS)
    by_json = _post_json(world.client, IMAGES, candidate_labels=LABELS)
    expected = expected_cosines(world.base, world.base.visual, IMAGES, LABELS)
    for response in (by_files, by_json):
        assert response.status_code == 200
        torch.testing.assert_close(_cosines(response.json(), LABELS), expected, atol=1e-4, rtol=0)
    assert [result["index"] for result in by_files.json()["results"]] == [0, 1, 2]


def test_scores_are_the_softmax_over_the_models_own_scale_and_sorted(world: World) -> None:
    answer = _post_files(world.client, IMAGES, candidate_labels=LABELS).json()
    for result in answer["results"]:
        scores = [each["score"] for each in result["predictions"]]
        cosines = torch.tensor([each["cosine"] for each in result["predictions"]])
        assert scores == sorted(scores, reverse=True)
        expected = (world.base.logit_scale * cosines).softmax(dim=0)
        torch.testing.assert_close(torch.tensor(scores), expected, atol=1e-4, rtol=1e-3)


def test_the_version_stands_in_body_and_header(client: TestClient) -> None:
    response = _post_files(client, IMAGES, candidate_labels=LABELS)
    assert response.headers["paintbox-version"] == "1"
    answer = response.json()
    assert (answer["version"], answer["alias"]) == (1, "active")
    assert answer["templates"] == ["{}", "a {} icon", "an icon of a {}"]
    assert set(answer["timing_ms"]) == {"decode", "text", "model", "total"}


def test_labels_and_templates_may_be_one_json_list(world: World) -> None:
    templates = ["a drawing of a {}", "{}"]
    form = {"candidate_labels": json.dumps(LABELS), "templates": json.dumps(templates)}
    answer = _post_files(world.client, IMAGES[:1], **form).json()
    assert answer["templates"] == templates
    expected = expected_cosines(world.base, world.base.visual, IMAGES[:1], LABELS, templates)
    torch.testing.assert_close(_cosines(answer, LABELS), expected, atol=1e-4, rtol=0)


def test_top_k_keeps_the_best_with_their_scores(client: TestClient) -> None:
    everything = _post_json(client, IMAGES, candidate_labels=LABELS).json()["results"]
    best = _post_files(client, IMAGES, candidate_labels=LABELS, top_k=2).json()["results"]
    for whole, part in zip(everything, best, strict=True):
        assert [each["label"] for each in part["predictions"]] == [each["label"] for each in whole["predictions"][:2]]
        assert part["predictions"][0]["score"] == pytest.approx(whole["predictions"][0]["score"], abs=1e-4)


def test_a_data_set_gives_labels_and_templates(world: World) -> None:
    identifier = add_ready_dataset(world.services, ["digit zero", "digit one"], ["the {}"])
    answer = _post_json(world.client, IMAGES[:1], dataset=identifier).json()
    assert answer["templates"] == ["the {}"]
    assert {each["label"] for each in answer["results"][0]["predictions"]} == {"digit zero", "digit one"}
    other = _post_files(world.client, IMAGES[:1], dataset=identifier, templates=["a {}"]).json()
    assert other["templates"] == ["a {}"]


def test_one_label_is_enough(client: TestClient) -> None:
    (result,) = _post_json(client, IMAGES[:1], candidate_labels=["pizza"]).json()["results"]
    assert result["predictions"][0]["score"] == 1.0


def test_an_image_that_cannot_be_decoded_is_named(client: TestClient) -> None:
    for broken in (b"no image", IMAGES[0][:40], b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        for post in (_post_files, _post_json):
            problem = check_problem(
                post(client, [IMAGES[0], broken], candidate_labels=LABELS), 422, "image_undecodable"
            )
            assert problem["detail"].startswith("Image 1 ")


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"candidate_labels": "[]"}, 422, "no_labels"),
        ({"candidate_labels": ["a", " "]}, 422, "invalid_request"),
        ({"candidate_labels": ["a", "a"]}, 422, "duplicate_label"),
        ({"candidate_labels": ["a"], "dataset": "ds_x"}, 422, "invalid_request"),
        ({"dataset": "ds_nothing"}, 404, "not_found"),
        ({"candidate_labels": ["a"], "templates": "no placeholder"}, 422, "invalid_request"),
        ({"candidate_labels": ["a"], "templates": "[]"}, 200, ""),
        ({"candidate_labels": ["a"], "top_k": 0}, 422, "invalid_request"),
        ({"candidate_labels": ["a"], "typo": "b"}, 422, "invalid_request"),
        ({"candidate_labels": json.dumps([f"label {index}" for index in range(5001)])}, 422, "too_many_labels"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    client: TestClient, form: dict[str, Any], status: int, code: str
) -> None:
    response = _post_files(client, IMAGES[:1], **form)
    if status == 200:
        assert response.status_code == 200
    else:
        check_problem(response, status, code)


def test_images_that_cannot_be_used_are_refused(client: TestClient) -> None:
    check_problem(_post_json(client, [], candidate_labels=["a"]), 422, "no_images")
    check_problem(
        client.post("/v1/classify", json={"images": ["%%%"], "candidate_labels": ["a"]}), 422, "invalid_request"
    )
    check_problem(client.post("/v1/classify", json={"images": [1], "candidate_labels": ["a"]}), 422, "invalid_request")
    check_problem(_post_files(client, [IMAGES[0]] * 65, candidate_labels=["a"]), 422, "too_many_images")


def test_a_data_set_that_is_not_ready_is_refused(world: World) -> None:
    from registry.datasets import DatasetOptions, Datasets

    with world.services.database.write() as session:
        row, _ = Datasets(session).submit("slow", "2" * 64, DatasetOptions())
    check_problem(_post_json(world.client, IMAGES, dataset=row.id), 409, "dataset_not_ready")


def test_bodies_of_another_kind_are_refused(client: TestClient) -> None:
    for headers in ({"content-type": "text/plain"}, {"content-type": "images/png"}, {}):
        check_problem(client.post("/v1/classify", content=b"x", headers=headers), 415, "unsupported_media_type")
    multipart = {"content-type": "multipart/form-data"}
    check_problem(client.post("/v1/classify", content=b"x", headers=multipart), 400, "bad_request")
    not_json = {"content-type": "application/json"}
    check_problem(client.post("/v1/classify", content=b"{", headers=not_json), 422, "invalid_request")


def test_a_full_queue_turns_requests_away_until_there_is_room(world: World) -> None:
    admission = world.services.engine.admission
    with admission.hold(510):
        response = _post_files(world.client, IMAGES, candidate_labels=LABELS)
        check_problem(response, 429, "queue_full")
        assert int(response.headers["retry-after"]) >= 1
        assert _post_files(world.client, IMAGES[:2], candidate_labels=LABELS).status_code == 200
    assert admission.num_images == 0
    assert _post_files(world.client, IMAGES, candidate_labels=LABELS).status_code == 200


def test_failed_requests_give_their_places_back(world: World) -> None:
    _post_files(world.client, [b"no image"] * 3, candidate_labels=LABELS)
    assert world.services.engine.admission.num_images == 0


def test_an_image_over_the_limit_is_refused(tmp_path: Any) -> None:
    with open_world(tmp_path, max_image_bytes=100) as world:
        big = IMAGES[0] + bytes(200)
        problem = check_problem(_post_files(world.client, [big], candidate_labels=["a"]), 413, "image_too_large")
        assert "100 bytes" in problem["detail"]
