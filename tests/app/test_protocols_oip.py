"""The Open Inference Protocol, asked by Triton's own client over a real socket; and requests that are wrong."""

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.http.aio import InferenceServerClient as AsyncClient
from tritonclient.utils import InferenceServerException

from app.inference.protocols.oip.schemas import MODEL_NAME
from contract.access import Scope
from registry.keys import ApiKeys
from registry.versions import Versions
from tests.app.world import (
    World,
    add_ready_dataset,
    add_version,
    check_plain_error,
    expected_cosines,
    open_world,
    serve,
)
from tests.builders import digit_pngs

LABELS = ["digit zero", "digit one", "pizza", "taco"]
IMAGES = [digit_pngs(0)[0], digit_pngs(1)[0], digit_pngs(8)[0]]
INFER = f"/v2/models/{MODEL_NAME}/infer"


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    """Host and port, as the client takes them."""
    with serve(world) as url:
        yield url.removeprefix("http://")


@pytest.fixture
def triton(address: str) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(address) as client:
        yield client


def bytes_input(name: str, elements: Sequence[Any], binary: bool = True) -> InferInput:
    tensor = InferInput(name, [len(elements)], "BYTES")
    return tensor.set_data_from_numpy(np.array(elements, dtype=object), binary_data=binary)


def question(images: Sequence[bytes] = IMAGES, labels: Sequence[str] = LABELS) -> list[InferInput]:
    return [bytes_input("images", images), bytes_input("labels", labels)]


def classified(world: World, images: Sequence[bytes] = IMAGES, **options: Any) -> NDArray[np.float32]:
    """Scores [N, C] of `POST /v1/classify`, in the order of the labels."""
    body = {"images": [base64.b64encode(image).decode() for image in images], "candidate_labels": LABELS, **options}
    response = world.client.post("/v1/classify", json=body)
    assert response.status_code == 200, response.text
    rows = [{each["label"]: each["score"] for each in one["predictions"]} for one in response.json()["results"]]
    return np.array([[row[label] for label in LABELS] for row in rows], dtype=np.float32)


def check_scores(result: InferResult, expected: NDArray[np.float32]) -> None:
    scores = result.as_numpy("scores")
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_the_server_its_model_and_its_versions_are_described_and_ready(
    world: World, triton: InferenceServerClient
) -> None:
    added, _ = add_version(world.services, world.base, seed=1)
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(MODEL_NAME)
    assert triton.is_model_ready(MODEL_NAME, str(added))
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    described = triton.get_model_metadata(MODEL_NAME)
    assert {"1", str(added)} <= set(described["versions"])
    assert {each["name"]: each["datatype"] for each in described["inputs"]} == {
        "images": "BYTES",
        "labels": "BYTES",
        "templates": "BYTES",
    }
    assert {each["name"]: (each["datatype"], each["shape"]) for each in described["outputs"]} == {
        "scores": ("FP32", [-1, -1]),
        "cosines": ("FP32", [-1, -1]),
        "labels": ("BYTES", [-1]),
        "embedding": ("FP32", [-1, -1]),
    }
    assert triton.get_model_metadata(MODEL_NAME, str(added))["versions"] == [str(added)]
    assert triton.get_model_metadata(MODEL_NAME, "active")["versions"] == ["1"]


def test_binary_tensors_are_answered_with_the_scores_of_classify(world: World, triton: InferenceServerClient) -> None:
    result = triton.infer(MODEL_NAME, question(), request_id="mine")
    check_scores(result, classified(world))
    expected = expected_cosines(world.base, world.base.visual, IMAGES, LABELS)
    np.testing.assert_allclose(result.as_numpy("cosines"), expected.numpy(), atol=1e-4)
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (MODEL_NAME, "1", "mine")
    assert [output["name"] for output in answer["outputs"]] == ["scores", "cosines"]
    assert all("data" not in output for output in answer["outputs"])


def test_tensors_in_json_are_answered_with_the_same(world: World, triton: InferenceServerClient) -> None:
    encoded = [base64.b64encode(image).decode() for image in IMAGES]
    inputs = [bytes_input("images", encoded, binary=False), bytes_input("labels", LABELS, binary=False)]
    result = triton.infer(MODEL_NAME, inputs, outputs=[InferRequestedOutput("scores", binary_data=False)])
    check_scores(result, classified(world))
    (output,) = result.get_response()["outputs"]
    assert len(output["data"]) == len(IMAGES) * len(LABELS)
    assert "parameters" not in output


def test_images_may_be_binary_while_labels_are_in_the_json(world: World, triton: InferenceServerClient) -> None:
    inputs = [bytes_input("labels", LABELS, binary=False), bytes_input("images", IMAGES)]
    check_scores(triton.infer(MODEL_NAME, inputs), classified(world))


def test_many_requests_at_once_each_get_their_own_answer(world: World, address: str) -> None:
    expected = classified(world)
    with InferenceServerClient(address, concurrency=4) as client:
        pending = [client.async_infer(MODEL_NAME, question([image])) for image in IMAGES * 4]
        for index, request in enumerate(pending):
            check_scores(request.get_result(), expected[[index % len(IMAGES)]])


def test_the_asyncio_client_is_answered_too(world: World, address: str) -> None:
    async def ask() -> list[InferResult]:
        async with AsyncClient(address) as client:
            assert await client.is_model_ready(MODEL_NAME)
            return await asyncio.gather(*(client.infer(MODEL_NAME, question([image])) for image in IMAGES))

    for result, expected in zip(asyncio.run(ask()), classified(world), strict=True):
        check_scores(result, expected[None])


def test_outputs_are_those_that_are_asked_for_each_in_its_own_form(world: World, triton: InferenceServerClient) -> None:
    wanted = [
        InferRequestedOutput("labels", binary_data=False),
        InferRequestedOutput("embedding"),
        InferRequestedOutput("cosines", binary_data=False),
        InferRequestedOutput("scores"),
    ]
    result = triton.infer(MODEL_NAME, question(), outputs=wanted)
    assert [output["name"] for output in result.get_response()["outputs"]] == [each.name() for each in wanted]
    assert result.as_numpy("labels").tolist() == LABELS
    features = result.as_numpy("embedding")
    assert features.shape == (len(IMAGES), world.base.embed_dim)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-4)
    assert ["data" in output for output in result.get_response()["outputs"]] == [True, False, True, False]
    check_scores(result, classified(world))


def test_classification_names_the_best_labels_as_triton_does(world: World, triton: InferenceServerClient) -> None:
    wanted = [InferRequestedOutput("scores", class_count=2), InferRequestedOutput("cosines", class_count=9)]
    result = triton.infer(MODEL_NAME, question(), outputs=wanted)
    best = result.as_numpy("scores")
    assert best.shape == (len(IMAGES), 2)
    assert result.as_numpy("cosines").shape == (len(IMAGES), len(LABELS))
    for row, expected in zip(best, classified(world), strict=True):
        order = np.argsort(-expected, kind="stable")[:2]
        fields = [each.decode().split(":", 2) for each in row]
        assert [(int(index), label) for _, index, label in fields] == [(index, LABELS[index]) for index in order]
        assert [float(value) for value, _, _ in fields] == pytest.approx(expected[order], abs=1e-4)


def test_templates_and_options_mean_what_they_mean_to_classify(world: World, triton: InferenceServerClient) -> None:
    template = "a drawing of a {}"
    inputs = [*question(), bytes_input("templates", [template])]
    check_scores(triton.infer(MODEL_NAME, inputs), classified(world, templates=[template]))
    parameters = {"multi_label": True, "hypothesis_template": template}
    expected = classified(world, templates=[template], multi_label=True)
    check_scores(triton.infer(MODEL_NAME, question(), parameters=parameters), expected)


def test_a_data_set_may_name_the_labels_which_come_back_if_asked_for(
    world: World, triton: InferenceServerClient
) -> None:
    dataset = add_ready_dataset(world.services, LABELS)
    wanted = [InferRequestedOutput("scores"), InferRequestedOutput("labels")]
    images = [bytes_input("images", IMAGES)]
    result = triton.infer(MODEL_NAME, images, outputs=wanted, parameters={"dataset": dataset})
    check_scores(result, classified(world))
    assert [label.decode() for label in result.as_numpy("labels")] == LABELS


def test_a_version_in_the_path_answers_and_is_named(world: World, triton: InferenceServerClient) -> None:
    added, _ = add_version(world.services, world.base, seed=2)
    result = triton.infer(MODEL_NAME, question(), model_version=str(added))
    assert result.get_response()["model_version"] == str(added)
    check_scores(result, classified(world, version=added))
    assert np.abs(result.as_numpy("scores") - classified(world)).max() > 1e-3
    assert triton.infer(MODEL_NAME, question(), model_version="active").get_response()["model_version"] == "1"


def test_what_is_not_there_is_404_and_what_is_in_the_trash_is_not_ready(
    world: World, triton: InferenceServerClient
) -> None:
    for name, version, said in [("other", "", "no model 'other'"), (MODEL_NAME, "999", "no version 999")]:
        assert not triton.is_model_ready(name, version)
        for ask in (
            lambda: triton.get_model_metadata(name, version),  # noqa: B023
            lambda: triton.infer(name, question(), model_version=version),  # noqa: B023
        ):
            with pytest.raises(InferenceServerException, match=said) as caught:
                ask()
            assert caught.value.status() == "404"
    trashed, _ = add_version(world.services, world.base, seed=3)
    with world.services.database.write() as session:
        Versions(session).trash(trashed)
    assert not triton.is_model_ready(MODEL_NAME, str(trashed))
    assert str(trashed) not in triton.get_model_metadata(MODEL_NAME)["versions"]


def test_the_same_request_key_is_answered_by_the_same_version(tmp_path: Path) -> None:
    with open_world(tmp_path, canary_share=0.5) as world:
        canary, _ = add_version(world.services, world.base, seed=1)
        assert world.client.put("/v1/aliases/canary", json={"version": canary}).status_code in (200, 201)
        world.services.follower.follow()
        with serve(world) as url, InferenceServerClient(url.removeprefix("http://")) as triton:

            def answered_by(key: str) -> str:
                result = triton.infer(MODEL_NAME, question(IMAGES[:1]), headers={"X-Request-Key": key})
                return str(result.get_response()["model_version"])

            by_key = {str(key): answered_by(str(key)) for key in range(12)}
            assert set(by_key.values()) == {"1", str(canary)}
            assert by_key == {key: answered_by(key) for key in by_key}


def test_without_a_model_that_can_be_loaded_the_server_is_live_and_not_ready(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        version, sha256 = add_version(world.services, world.base, seed=7)
        assert world.client.put("/v1/aliases/active", json={"version": version}).status_code == 200
        world.services.blobs.delete(sha256)
    with (
        open_world(tmp_path) as world,
        serve(world) as url,
        InferenceServerClient(url.removeprefix("http://")) as triton,
    ):
        assert triton.is_server_live()
        assert not triton.is_server_ready()
        assert not triton.is_model_ready(MODEL_NAME)
        with pytest.raises(InferenceServerException, match=sha256) as caught:
            triton.infer(MODEL_NAME, question())
        assert caught.value.status() == "503"


def test_a_server_that_is_about_to_stop_is_not_ready_and_still_answers(tmp_path: Path) -> None:
    with (
        open_world(tmp_path) as world,
        serve(world) as url,
        InferenceServerClient(url.removeprefix("http://")) as triton,
    ):
        world.services.engine.is_draining = True
        assert not triton.is_server_ready()
        assert triton.infer(MODEL_NAME, question()).as_numpy("scores") is not None


def test_the_clients_errors_say_what_is_wrong_with_key_scope_and_size(tmp_path: Path) -> None:
    with open_world(tmp_path, max_request_bytes=100_000) as world:
        with world.services.database.write() as session:
            create = ApiKeys(session).create
            tokens = {
                scope: create(name="x", scopes=[scope], expires_at=None, created_by="a test")[1]
                for scope in (Scope.READ, Scope.CLASSIFY)
            }
        world.services.keyring.reload()
        keys = {scope: {"Authorization": f"Bearer {token}"} for scope, token in tokens.items()}
        large = [*question(), bytes_input("templates", ["{}" * 200_000])]
        with serve(world) as url, InferenceServerClient(url.removeprefix("http://")) as triton:
            assert triton.is_server_ready()
            assert triton.infer(MODEL_NAME, question(), headers=keys[Scope.CLASSIFY]).as_numpy("scores") is not None
            for headers, inputs, status, said in [
                (None, question(), "401", "API key is missing"),
                (keys[Scope.READ], question(), "403", "scope classify is required"),
                (keys[Scope.CLASSIFY], large, "413", "body is larger than 100000 bytes"),
            ]:
                with pytest.raises(InferenceServerException, match=said) as caught:
                    triton.infer(MODEL_NAME, inputs, headers=headers and dict(headers))
                assert caught.value.status() == status


def tensor(name: str, data: Any, **other: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data, **other}


IMAGE = tensor("images", [base64.b64encode(IMAGES[0]).decode()])
NAMES = tensor("labels", LABELS)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no inputs": ({}, "inputs: Field required"),
    "no images": ({"inputs": [NAMES]}, "'images' is missing"),
    "no labels": ({"inputs": [IMAGE]}, "Send the input 'labels', or the parameter 'label_set' or 'dataset'"),
    "two sources": ({"inputs": [IMAGE, NAMES], "parameters": {"dataset": "ds_x"}}, "Exactly one source of labels"),
    "another input": ({"inputs": [IMAGE, NAMES, tensor("image", [])]}, "'image' is not an input of this model"),
    "twice": ({"inputs": [IMAGE, NAMES, NAMES]}, "'labels' is given more than once"),
    "numbers": ({"inputs": [{**IMAGE, "datatype": "FP32"}, NAMES]}, "'images' has type FP32 and shape \\[1\\]"),
    "two dimensions": ({"inputs": [{**IMAGE, "shape": [1, 1]}, NAMES]}, "one dimension"),
    "other shape": ({"inputs": [{**IMAGE, "shape": [2]}, NAMES]}, "1 elements, but its shape is \\[2\\]"),
    "no strings": ({"inputs": [IMAGE, tensor("labels", [1, 2])]}, "no `data` of strings"),
    "not base64": ({"inputs": [tensor("images", ["?"]), NAMES]}, "not base64"),
    "an empty label": ({"inputs": [IMAGE, tensor("labels", ["a", " "])]}, "labels.1: "),
    "another output": ({"inputs": [IMAGE, NAMES], "outputs": [{"name": "logits"}]}, "scores, cosines, labels"),
    "another parameter": ({"inputs": [IMAGE, NAMES], "parameters": {"mult_label": True}}, "parameter 'mult_label'"),
    "a parameter's type": ({"inputs": [IMAGE, NAMES], "parameters": {"multi_label": "perhaps"}}, "multi_label: "),
    "a negative timeout": ({"inputs": [IMAGE, NAMES], "parameters": {"timeout": -5}}, "timeout_ms: "),
    "shared memory": (
        {"inputs": [IMAGE, NAMES], "outputs": [{"name": "scores", "parameters": {"shared_memory_region": "x"}}]},
        "Shared memory",
    ),
    "best of an embedding": (
        {"inputs": [IMAGE, NAMES], "outputs": [{"name": "embedding", "parameters": {"classification": 2}}]},
        "'embedding' cannot have classification 2",
    ),
    "nothing after the JSON": (
        {"inputs": [IMAGE, {**NAMES, "parameters": {"binary_data_size": 9}}]},
        "'labels' has binary_data_size 9, but 0 bytes remain",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_tensor_is_400_and_named(world: World, name: str) -> None:
    body, said = WRONG[name]
    response = world.client.post(INFER, json=body)
    error = check_plain_error(response, 400)
    with pytest.raises(InferenceServerException, match=said):
        raise InferenceServerException(error)


@pytest.mark.parametrize(
    ("header_length", "binary", "said"),
    [
        (5, b"", "Invalid request"),
        (10_000, b"", "is 10000, but the body has"),
        (None, b"\x04\x00\x00\x00abcd", "Invalid request"),
        ("json", b"\x09\x00\x00\x00abcd", "ends within an element"),
        ("json", b"\x00\x00\x00\x00\x00\x00\x00", "ends within an element"),
        ("json", b"\x04\x00\x00\x00\xff\xff\xff\xff", "not UTF-8"),
        ("json", b"\x04\x00\x00\x00abcd+", "1 bytes after the last input"),
        ("json", b"", "has binary_data_size 8, but 0 bytes remain"),
    ],
)
def test_binary_data_that_do_not_add_up_are_400(
    world: World, header_length: int | str | None, binary: bytes, said: str
) -> None:
    size = 7 if len(binary) == 7 else 8
    labels = {"name": "labels", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    header = json.dumps({"inputs": [IMAGE, labels]}).encode()
    length = len(header) if header_length == "json" else header_length
    headers = {} if length is None else {"inference-header-content-length": str(length)}
    response = world.client.post(INFER, content=header + binary, headers=headers)
    assert said in check_plain_error(response, 400)


def test_errors_of_the_engine_keep_their_status(world: World) -> None:
    broken = tensor("images", [base64.b64encode(b"no image").decode()])
    said = check_plain_error(world.client.post(INFER, json={"inputs": [broken, NAMES]}), 422)
    assert said.startswith("Image 0 cannot be decoded")
    twice = tensor("labels", ["a", "a"])
    assert "Duplicate label" in check_plain_error(world.client.post(INFER, json={"inputs": [IMAGE, twice]}), 422)
    body = {"inputs": [IMAGE], "parameters": {"dataset": "ds_unknown"}}
    assert "ds_unknown" in check_plain_error(world.client.post(INFER, json=body), 404)


def test_routes_that_are_not_there_answer_in_the_protocols_words(world: World) -> None:
    assert "There is no route" in check_plain_error(world.client.post("/v2/repository/index"), 404)
    assert "does not support" in check_plain_error(world.client.get(INFER), 405)
