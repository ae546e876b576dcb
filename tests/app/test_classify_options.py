"""What a classify request may say beside images and labels, in every form."""

import json
import math
from io import BytesIO
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from httpx2 import Response
from PIL import Image
from starlette.testclient import TestClient

from tests.app.asking import POSTS, Post, post_files, post_json, post_raw
from tests.app.world import (
    World,
    add_version,
    check_problem,
    expected_cosines,
    mixed_tower,
    open_world,
    random_task_vector,
)
from tests.builders import digit_pngs
from tests.paint_core import tiny

LABELS = ["pizza", "taco", "digit zero", "a {} in braces", "[a list?]", "digit eight"]
IMAGE = digit_pngs(0)[0]
PATH = "/v1/classify"


def predictions(response: Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["results"][0]["predictions"]
    return found


def ask(client: TestClient, **options: Any) -> list[dict[str, Any]]:
    return predictions(post_json(client, PATH, [IMAGE], **{"candidate_labels": LABELS, **options}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"templates": ["a drawing of a {}", "{}"]},
        {"hypothesis_template": "This is a photo of {}."},
        {"top_k": 3},
        {"threshold": 0.05},
        {"multi_label": True},
        {"multi_label": False},
        {"version": 1},
        {"version": "active", "top_k": 2, "multi_label": True, "threshold": 0.5, "timeout_ms": 60_000},
    ],
    ids=str,
)
def test_every_form_says_the_same_and_is_answered_the_same(client: TestClient, options: dict[str, Any]) -> None:
    answers = [post(client, PATH, [IMAGE], candidate_labels=LABELS, **options) for post in POSTS]
    expected = predictions(answers[0])
    assert expected
    for answer in answers:
        found = predictions(answer)
        assert [each["label"] for each in found] == [each["label"] for each in expected]
        assert [each["score"] for each in found] == pytest.approx([each["score"] for each in expected], abs=1e-5)
        told = answer.json()
        assert {key: told[key] for key in ("version", "alias", "templates")} == {
            key: answers[0].json()[key] for key in ("version", "alias", "templates")
        }


def test_a_raw_image_is_taken_under_any_type_of_an_image(client: TestClient) -> None:
    labels = json.dumps(LABELS)
    for media_type in ("image/png", "image/jpeg", "application/octet-stream", "IMAGE/WEBP; quality=high"):
        assert predictions(post_raw(client, PATH, [IMAGE], media_type, candidate_labels=labels))
    check_problem(post_raw(client, PATH, [b"no image"], candidate_labels="a"), 422, "image_undecodable")
    check_problem(post_raw(client, PATH, [IMAGE]), 422, "invalid_request")


def test_independent_scores_are_the_sigmoid_of_the_models_own_logits(world: World) -> None:
    single = ask(world.client, multi_label=True)
    expected = [(world.base.logit_scale * each["cosine"] + world.base.logit_bias) for each in single]
    torch.testing.assert_close(
        torch.tensor([each["score"] for each in single]), torch.tensor(expected).sigmoid(), atol=1e-4, rtol=1e-3
    )
    assert sum(each["score"] for each in single) != pytest.approx(1, abs=0.01)
    assert sum(each["score"] for each in ask(world.client)) == pytest.approx(1, abs=1e-4)
    one = ask(world.client, multi_label=True, candidate_labels=LABELS[2:3])[0]
    assert one["score"] == pytest.approx(next(each["score"] for each in single if each["label"] == LABELS[2]), abs=1e-4)


def test_a_model_with_a_bias_is_answered_with_it(tmp_path: Path) -> None:
    weights = tiny.state_dict(model_cfg=tiny.SIGLIP_CFG)
    folder = tiny.write_model(tmp_path / "siglip", weights, model_cfg=tiny.SIGLIP_CFG)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    with torch.inference_mode():
        pixels = preprocess(Image.open(BytesIO(IMAGE)).convert("RGB")).unsqueeze(0)
        tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(LABELS)
        image, text, scale, bias = model.eval()(pixels, tokens)
        logits = scale * image @ text.T + bias
        assert [float(scale), float(bias)] == pytest.approx([math.exp(2.3), -2])
    with open_world(tmp_path, bases=(f"local-dir:{folder}",)) as world:
        for multi_label, expected in ((True, logits.sigmoid()), (False, logits.softmax(dim=1))):
            found = ask(world.client, multi_label=multi_label, templates=["{}"])
            scores = {each["label"]: each["score"] for each in found}
            torch.testing.assert_close(torch.tensor([[scores[label] for label in LABELS]]), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_threshold_leaves_out_what_is_below_it(client: TestClient, multi_label: bool) -> None:
    whole = ask(client, multi_label=multi_label)
    for threshold in (0.0, whole[2]["score"], 1.0):
        expected = [each["label"] for each in whole if each["score"] >= threshold]
        assert [each["label"] for each in ask(client, multi_label=multi_label, threshold=threshold)] == expected
    both = ask(client, multi_label=multi_label, threshold=whole[2]["score"], top_k=2)
    assert [each["label"] for each in both] == [each["label"] for each in whole[:2]]


@pytest.mark.parametrize("top_k", [1, 2, 5, 6, 1000])
def test_the_best_are_a_prefix_of_all(client: TestClient, top_k: int) -> None:
    tied = ["Pizza", "pizza", "PIZZA", "taco", "TACO", "bus"]  # the tokenizer sees no capitals
    assert ask(client, candidate_labels=tied, top_k=top_k) == ask(client, candidate_labels=tied)[:top_k]


def test_one_template_is_a_list_of_one(client: TestClient) -> None:
    template = "This is a photo of {}."
    response = post_files(client, PATH, [IMAGE], candidate_labels=LABELS, hypothesis_template=template)
    assert response.json()["templates"] == [template]
    assert predictions(response) == ask(client, templates=[template])


def test_the_version_that_is_named_answers_while_another_is_active(world: World) -> None:
    pinned, _ = add_version(world.services, world.base, seed=3)
    tower = mixed_tower(world.base, random_task_vector(world.base, seed=3), 1.0)
    expected = expected_cosines(world.base, tower, [IMAGE], LABELS)[0]
    body = {"version": pinned, "reason": "a test"}
    assert world.client.put("/v1/aliases/staging", json=body).status_code in (200, 201)
    for name, alias in ((pinned, None), (str(pinned), None), ("staging", "staging")):
        response = post_json(world.client, PATH, [IMAGE], candidate_labels=LABELS, version=name)
        answer = response.json()
        assert (answer["version"], answer["alias"]) == (pinned, alias)
        assert response.headers["paintbox-version"] == str(pinned)
        cosines = {each["label"]: each["cosine"] for each in predictions(response)}
        torch.testing.assert_close(torch.tensor([cosines[each] for each in LABELS]), expected, atol=1e-4, rtol=0)
    assert post_json(world.client, PATH, [IMAGE], candidate_labels=LABELS).json()["version"] == 1


@pytest.mark.parametrize("version", [99, "99", "nobody"])
def test_a_version_that_is_not_there_is_missing(client: TestClient, version: int | str) -> None:
    for post in POSTS:
        check_problem(post(client, PATH, [IMAGE], candidate_labels=LABELS, version=version), 404, "not_found")


@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 1.1},
        {"threshold": -0.1},
        {"threshold": "nan"},
        {"top_k": 0},
        {"multi_label": "perhaps"},
        {"timeout_ms": 0},
        {"version": 0},
        {"version": "Active"},
        {"version": "9" * 40},
        {"label_set": "ls_x"},
        {"hypothesis_template": "no placeholder"},
        {"hypothesis_template": "a {}", "templates": ["a {}"]},
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused_in_every_form(
    client: TestClient, post: Post, options: dict[str, Any]
) -> None:
    response = post(client, PATH, [IMAGE], candidate_labels=LABELS, **options)
    place = "query" if post is post_raw else "body"
    problem = check_problem(response, 422, "invalid_request")
    assert all(error["location"].startswith(place) for error in problem["errors"])


def test_an_answer_that_would_come_too_late_is_a_timeout(world: World) -> None:
    for post in POSTS:
        response = post(
            world.client, PATH, [IMAGE], candidate_labels=[f"a rare label by {post.__name__}"], timeout_ms=1
        )
        check_problem(response, 504, "deadline_exceeded")
    assert world.services.engine.admission.num_images == 0


def test_an_answer_is_what_the_document_says(client: TestClient) -> None:
    from app.inference.classify.schemas import Classification

    for options in ({}, {"top_k": 1, "version": 1}, {"threshold": 1.0}):
        answer = post_json(client, PATH, [IMAGE] * 3, candidate_labels=LABELS, **options).json()
        assert Classification.model_validate(answer, strict=True).model_dump() == answer
