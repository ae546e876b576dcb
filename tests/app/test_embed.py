"""Embeddings of images and texts, in every form."""

import base64
import struct
import time
from typing import Any

import pytest
import torch
from httpx2 import Response
from starlette.testclient import TestClient

from app.inference.embed.schemas import Embeddings
from tests.app.asking import POSTS, post_files, post_json
from tests.app.world import World, add_version, check_problem, open_world
from tests.builders import digit_pngs

PATH = "/v1/embed"
IMAGES = [digit_pngs(0)[0], digit_pngs(1)[0], digit_pngs(8)[0]]
TEXTS = ["digit zero", "a {} in braces", "  spaces  "]


def vectors(response: Response) -> torch.Tensor:
    assert response.status_code == 200, response.text
    answer = response.json()
    assert [each["index"] for each in answer["embeddings"]] == list(range(len(answer["embeddings"])))
    found = torch.tensor([each["embedding"] for each in answer["embeddings"]])
    assert found.shape[1] == answer["dim"]
    return found


def test_every_form_gives_the_same_unit_vectors_as_the_library(world: World) -> None:
    from paint_core.evaluation import encode

    pixels = torch.stack([torch.from_numpy(world.base.preprocess.decode(image)) for image in IMAGES[:1]])
    features = torch.nn.functional.normalize(encode(world.base.visual, pixels, world.base.preprocess), dim=-1)
    for post in POSTS:
        found = vectors(post(world.client, PATH, IMAGES[:1]))
        torch.testing.assert_close(found, features, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(1), atol=1e-5, rtol=0)


def test_image_times_text_is_the_cosine_that_classify_tells(client: TestClient) -> None:
    images = vectors(post_files(client, PATH, IMAGES))
    texts = vectors(client.post(PATH, json={"texts": TEXTS[:2]}))
    answer = post_json(client, "/v1/classify", IMAGES, candidate_labels=TEXTS[:2], templates=["{}"]).json()
    rows = [{each["label"]: each["cosine"] for each in result["predictions"]} for result in answer["results"]]
    told = torch.tensor([[row[text] for text in TEXTS[:2]] for row in rows])
    torch.testing.assert_close(images @ texts.T, told, atol=1e-4, rtol=0)


def test_base64_holds_the_same_floats(client: TestClient) -> None:
    for ask in ({"texts": TEXTS}, {"images": [base64.b64encode(image).decode() for image in IMAGES]}):
        floats = client.post(PATH, json=ask).json()
        packed = client.post(PATH, json={**ask, "encoding_format": "base64"}).json()
        for number, text in zip(floats["embeddings"], packed["embeddings"], strict=True):
            assert list(struct.unpack(f"<{floats['dim']}f", base64.b64decode(text["embedding"]))) == number["embedding"]
    for post in POSTS:
        assert isinstance(
            post(client, PATH, IMAGES[:1], encoding_format="base64").json()["embeddings"][0]["embedding"], str
        )


def test_an_answer_names_its_version_and_is_what_the_document_says(world: World) -> None:
    pinned, _ = add_version(world.services, world.base, seed=4)
    for asked, version, alias in (({}, 1, "active"), ({"version": pinned}, pinned, None)):
        response = post_json(world.client, PATH, IMAGES, **asked)
        answer = response.json()
        assert (answer["version"], answer["alias"]) == (version, alias)
        assert response.headers["paintbox-version"] == str(version)
        assert Embeddings.model_validate(answer, strict=True).model_dump() == answer
    active, other = (vectors(post_json(world.client, PATH, IMAGES, version=name)) for name in ("active", pinned))
    assert not torch.allclose(active, other, atol=1e-3)
    texts = [vectors(world.client.post(PATH, json={"texts": TEXTS, "version": name})) for name in (1, pinned)]
    torch.testing.assert_close(texts[0], texts[1])


def test_a_canary_does_not_embed_unless_it_is_named(tmp_path: Any) -> None:
    with open_world(tmp_path, canary_share=1.0) as world:
        canary, _ = add_version(world.services, world.base, seed=5)
        assert world.client.put("/v1/aliases/canary", json={"version": canary}).status_code in (200, 201)
        world.services.follower.follow()
        assert post_json(world.client, "/v1/classify", IMAGES, candidate_labels=["a"]).json()["alias"] == "canary"
        assert post_json(world.client, PATH, IMAGES).json()["alias"] == "active"
        assert post_json(world.client, PATH, IMAGES, version="canary").json()["version"] == canary


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"texts": ["a"], "images": []}, 422, "invalid_request"),
        ({"texts": []}, 422, "no_texts"),
        ({"images": []}, 422, "no_images"),
        ({"texts": ["a", ""]}, 422, "invalid_request"),
        ({"texts": ["a" * 501]}, 422, "invalid_request"),
        ({"texts": ["a"] * 20_001}, 422, "too_many_texts"),
        ({"images": ["%%%"]}, 422, "invalid_request"),
        ({"images": [""] * 65}, 422, "too_many_images"),
        ({"texts": ["a"], "encoding_format": "hex"}, 422, "invalid_request"),
        ({"texts": ["a"], "version": "nobody"}, 404, "not_found"),
        ({"texts": ["a"], "typo": 1}, 422, "invalid_request"),
        ({"texts": ["a text that nobody has asked for"] * 500, "timeout_ms": 1}, 504, "deadline_exceeded"),
    ],
    ids=lambda each: str(each)[:60],
)
def test_what_cannot_be_embedded_is_refused(client: TestClient, body: Any, status: int, code: str) -> None:
    check_problem(client.post(PATH, json=body), status, code)


def test_images_that_cannot_be_decoded_are_named(client: TestClient) -> None:
    for post in POSTS:
        check_problem(post(client, PATH, [b"no image"]), 422, "image_undecodable")
    check_problem(
        client.post(PATH, content=b"x", headers={"content-type": "text/plain"}), 415, "unsupported_media_type"
    )


def test_texts_wait_in_a_queue_of_their_own_that_can_be_full(world: World) -> None:
    texts = world.services.engine.heads.admission
    while texts.num_images:  # of requests before whose time was over
        time.sleep(0.01)
    with texts.hold(39_999):
        response = world.client.post(PATH, json={"texts": ["one", "two"]})
        assert "39999 texts are waiting" in check_problem(response, 429, "queue_full")["detail"]
        assert int(response.headers["retry-after"]) >= 1
        assert world.client.post(PATH, json={"texts": ["one"]}).status_code == 200
    assert texts.num_images == 0
