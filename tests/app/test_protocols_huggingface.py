"""Hugging Face's zero-shot task, asked by `huggingface_hub.InferenceClient` over a real socket."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from contract.access import Scope
from registry.keys import ApiKeys
from tests.app.world import World, add_version, check_plain_error, open_world, serve
from tests.builders import digit_pngs

LABELS = ["digit zero", "digit one", "pizza"]
IMAGE = digit_pngs(0)[0]
PATH = "/hf/zero-shot-image-classification"
ENCODED = base64.b64encode(IMAGE).decode()


@pytest.fixture(scope="module")
def url(world: World) -> Iterator[str]:
    with serve(world) as address:
        yield address + PATH


def classified(world: World, **options: Any) -> list[tuple[str, float]]:
    """Labels and scores of `POST /v1/classify`, in its order."""
    body = {"images": [ENCODED], "candidate_labels": LABELS, **options}
    (result,) = world.client.post("/v1/classify", json=body).json()["results"]
    return [(each["label"], pytest.approx(each["score"], abs=1e-4)) for each in result["predictions"]]


def pairs(answer: Any) -> list[tuple[str, float]]:
    return [(each.label, each.score) for each in answer]


def test_the_client_is_answered_with_the_labels_and_scores_of_classify(world: World, url: str) -> None:
    client = InferenceClient(model=url, token="none is needed here")
    assert pairs(client.zero_shot_image_classification(IMAGE, LABELS)) == classified(world)


def test_an_image_may_be_a_path(world: World, url: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(IMAGE)
    client = InferenceClient(model=url, token="x")
    for image in (path, str(path)):
        assert pairs(client.zero_shot_image_classification(image, LABELS)) == classified(world)


def test_the_template_is_the_requests_and_without_one_the_models_own(world: World, url: str) -> None:
    client = InferenceClient(model=url, token="x")
    template = "This is a photo of {}."
    answer = client.zero_shot_image_classification(IMAGE, LABELS, hypothesis_template=template)
    assert pairs(answer) == classified(world, templates=[template])
    own = client.zero_shot_image_classification(IMAGE, LABELS)
    assert pairs(own) == classified(world, templates=list(world.base.default_templates))


def test_a_version_in_the_address_answers(world: World, url: str) -> None:
    version, _ = add_version(world.services, world.base, seed=5)
    client = InferenceClient(token="x")
    answer = client.zero_shot_image_classification(IMAGE, LABELS, model=f"{url}?version={version}")
    assert pairs(answer) == classified(world, version=version)
    with pytest.raises(HfHubHTTPError) as caught:
        client.zero_shot_image_classification(IMAGE, LABELS, model=f"{url}?version=999")
    assert caught.value.response.status_code == 404


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")  # the client's own
def test_the_asyncio_client_is_answered_too(world: World, url: str) -> None:
    async def ask() -> Any:
        async with AsyncInferenceClient(model=url, token="x") as client:
            return await client.zero_shot_image_classification(IMAGE, LABELS)

    assert pairs(asyncio.run(ask())) == classified(world)


def test_the_token_is_the_key_and_needs_the_scope(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        with world.services.database.write() as session:
            create = ApiKeys(session).create
            reader, classifier = (
                create(name="x", scopes=[scope], expires_at=None, created_by="a test")[1]
                for scope in (Scope.READ, Scope.CLASSIFY)
            )
        world.services.keyring.reload()
        with serve(world) as address:
            for token, status, said in [("wrong", 401, "API key is invalid"), (reader, 403, "scope classify")]:
                with pytest.raises(HfHubHTTPError) as caught:
                    InferenceClient(model=address + PATH, token=token).zero_shot_image_classification(IMAGE, LABELS)
                assert caught.value.response.status_code == status
                assert said in str(caught.value)
            client = InferenceClient(model=address + PATH, token=classifier)
            assert len(client.zero_shot_image_classification(IMAGE, LABELS)) == len(LABELS)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"inputs": ENCODED}, 422, "body.parameters: Field required"),
        ({"inputs": ENCODED, "parameters": {}}, 422, "candidate_labels"),
        ({"inputs": "?", "parameters": {"candidate_labels": LABELS}}, 422, "not base64"),
        ({"inputs": ENCODED, "parameters": {"candidate_labels": LABELS, "hypothesis_template": "no"}}, 422, "template"),
        ({"inputs": ENCODED, "parameters": {"candidate_labels": ["a", "a"]}}, 422, "Duplicate label"),
        ({"inputs": "bm8=", "parameters": {"candidate_labels": LABELS}}, 422, "Image 0 cannot be decoded"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(world: World, body: Any, status: int, said: str) -> None:
    assert said in check_plain_error(world.client.post(PATH, json=body), status)


def test_a_body_that_is_no_json_is_refused(world: World) -> None:
    check_plain_error(world.client.post(PATH, content=b"{", headers={"content-type": "application/json"}), 422)
