"""What a request may hold: every answer to a bad one is short, and says in words what was wrong."""

import json
import reprlib
from collections.abc import Iterator
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from app.http.invalid import MAX_LISTED
from app.inference.image_requests import MAX_VALUES
from app.inference.protocols.plain_errors import has_plain_errors
from tests.app.world import World, add_ready_dataset, open_world
from tests.builders import digit_pngs

MANY, LONG = 50_000, "x" * 500_000
MAX_ANSWER = 10_000
OURS = (
    "rozenset",
    "Value error",
    "pattern '",
    "uple",
    "dict",
    "Dict",
    "instance of",
    "NoneType",
    "pydantic",
    "expected str",
)
ONES, EXTRAS = [1] * MANY, {f"k{index}": 1 for index in range(MANY)}
TENSOR = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [""]}
OF_JSON: list[tuple[str, str]] = [
    ("POST", "/v1/classify"),
    ("POST", "/v1/embed"),
    ("POST", "/v1/label-sets"),
    ("POST", "/v1/versions"),
    ("PATCH", "/v1/versions/1"),
    ("PUT", "/v1/aliases/active"),
    ("POST", "/v1/aliases/active/rollback"),
    ("POST", "/v1/patches"),
    ("POST", "/v1/patches/pt_1/reselect"),
    ("POST", "/v1/keys"),
    ("POST", "/v1/datasets/DATASET/derive"),
    ("POST", "/v2/models/paintbox/infer"),
    ("POST", "/hf/zero-shot-image-classification"),
]
LISTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/classify", {"images": [""], "candidate_labels": ONES}),
    ("POST", "/v1/classify", {"images": ONES, "candidate_labels": ["a"]}),
    ("POST", "/v1/classify", {"images": ["é"] * MANY, "candidate_labels": ["a"]}),
    ("POST", "/v1/classify", {"images": [""], "candidate_labels": ["a"], "templates": ONES}),
    ("POST", "/v1/classify", {"images": [""], "candidate_labels": ["a\u200b"] * MANY}),
    ("POST", "/v1/embed", {"texts": ONES}),
    ("POST", "/v1/embed", {"images": ONES}),
    ("POST", "/v1/label-sets", {"labels": ONES}),
    ("POST", "/v1/label-sets", {"labels": ["a"], "templates": ONES}),
    ("POST", "/v1/label-sets", {"labels": ["a"], "templates": ["no place"] * MANY}),
    ("POST", "/v1/versions", {"name": "v", "tags": ONES}),
    ("POST", "/v1/versions", {"name": "v", "tags": ["?"] * MANY, "terms": [EXTRAS]}),
    ("POST", "/v1/versions", {"name": "v", "terms": ONES}),
    ("POST", "/v1/versions", {"name": "v", "terms": [{"patch": 1, "version": "x"}] * 1000}),
    ("POST", "/v1/versions", {"name": "v", "from_version": 1, "remove": ONES}),
    ("PATCH", "/v1/versions/1", {"tags": ONES}),
    ("POST", "/v1/patches", {"name": "p", "tasks": ONES, "supported": ONES}),
    ("POST", "/v1/patches", {"name": "p", "tasks": ["\x00"] * MANY}),
    ("POST", "/v1/patches", {"name": "p", "tasks": ["a"], "finetune": EXTRAS}),
    ("POST", "/v1/patches", {"name": "p", "tasks": ["a"], "alpha": {"rule": "floor", "max_supported_drop": EXTRAS}}),
    ("POST", "/v1/patches", {"name": "p", "tasks": ["a"], "alpha": {"max_supported_drop": {"a": "b", "c": []}}}),
    ("POST", "/v1/patches/pt_1/reselect", {"rule": "floor", "max_supported_drop": EXTRAS}),
    ("POST", "/v1/patches/pt_1/reselect", {"rule": "floor", "max_supported_drop": dict.fromkeys(EXTRAS, "x")}),
    ("POST", "/v1/keys", {"name": "k", "scopes": ONES}),
    ("POST", "/v1/keys", {"name": "k", "scopes": [f"s{index}" for index in range(MANY)]}),
    ("POST", "/v1/datasets/DATASET/derive", {"name": "d", "classnames": EXTRAS}),
    ("POST", "/v1/datasets/DATASET/derive", {"name": "d", "templates": ONES}),
    ("POST", "/v2/models/paintbox/infer", {"inputs": ONES}),
    ("POST", "/v2/models/paintbox/infer", {"inputs": [TENSOR | {"data": ONES}]}),
    ("POST", "/v2/models/paintbox/infer", {"inputs": [TENSOR | {"shape": ["x"] * MANY}]}),
    ("POST", "/v2/models/paintbox/infer", {"inputs": [TENSOR], "parameters": {name: [] for name in EXTRAS}}),
    ("POST", "/v2/models/paintbox/infer", {"inputs": [TENSOR], "outputs": ONES}),
    ("POST", "/hf/zero-shot-image-classification", {"inputs": "", "parameters": {"candidate_labels": ONES}}),
    ("POST", "/hf/zero-shot-image-classification", {"inputs": "", "parameters": EXTRAS}),
]
TEXTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/classify", {"images": [""], "candidate_labels": ["a", LONG]}),
    ("POST", "/v1/classify", {"images": [LONG + "é"], "candidate_labels": ["a"]}),
    ("POST", "/v1/classify", {"images": [""], "label_set": LONG}),
    ("POST", "/v1/classify", {"images": [""], "dataset": LONG}),
    ("POST", "/v1/classify", {"images": [""], "candidate_labels": ["a"], "version": LONG}),
    ("POST", "/v1/classify", {"images": [""], "candidate_labels": ["a"], "hypothesis_template": LONG}),
    ("POST", "/v1/embed", {"texts": [LONG]}),
    ("POST", "/v1/label-sets", {"labels": ["a"], "name": LONG}),
    ("POST", "/v1/versions", {"name": LONG}),
    ("POST", "/v1/versions", {"name": "v", "terms": [{"patch": LONG}], "base": LONG}),
    ("POST", "/v1/versions", {"name": "v", "from_version": 1, "remove": [LONG]}),
    ("PUT", "/v1/aliases/active", {"version": LONG, "reason": LONG}),
    ("POST", "/v1/patches", {"name": "p", "tasks": [LONG], "base": LONG, "webhook_url": LONG, "priority": LONG}),
    ("POST", "/v1/keys", {"name": LONG, "scopes": [LONG]}),
    ("POST", "/v1/datasets/DATASET/derive", {"name": "d", "classnames": {LONG: "a"}}),
    ("POST", "/v1/datasets/DATASET/derive", {"name": "d", "classnames": {"cat": LONG}}),
    ("POST", "/v2/models/paintbox/infer", {"inputs": [TENSOR | {"name": LONG, "datatype": LONG}]}),
    ("POST", "/v2/models/paintbox/infer", {"inputs": [TENSOR], "parameters": {LONG: 1}}),
    ("POST", "/v2/models/paintbox/infer", {"inputs": [TENSOR], "outputs": [{"name": LONG}]}),
    ("POST", "/v2/models/paintbox/infer", {"inputs": [TENSOR], "id": LONG}),
    ("POST", "/hf/zero-shot-image-classification", {"inputs": LONG + "é", "parameters": {"candidate_labels": ["a"]}}),
]


def _short(value: object) -> str:
    return value if isinstance(value, str) else reprlib.repr(value)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("strict")) as world:
        yield world


@pytest.fixture(scope="module")
def dataset(strict: World) -> str:
    return add_ready_dataset(strict.services, ["cat", "dog"], splits=("train", "validation", "test"))


def check_refusal(response: Response, path: str, *statuses: int) -> str:
    """What a short refusal in words says."""
    assert response.status_code in (statuses or (400, 404, 422)), response.text[:1000]
    assert len(response.content) <= MAX_ANSWER
    told = response.json()
    if has_plain_errors(path):
        said = str(told["error"])
    else:
        errors = told.get("errors", [])
        assert len(errors) <= MAX_LISTED
        said = " ".join([told["detail"], *(f"{each['location']}: {each['message']}" for each in errors)])
    assert not [word for word in OURS if word in said], said
    assert LONG[:1000] not in said
    return said


def send(client: TestClient, method: str, path: str, body: Any, dataset: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    return client.request(method, path.replace("DATASET", dataset), content=content, headers=headers)


@pytest.mark.parametrize(("method", "path", "body"), LISTS, ids=_short)
def test_a_list_of_many_wrong_items_is_answered_in_few_words(
    strict: World, dataset: str, method: str, path: str, body: dict[str, Any]
) -> None:
    check_refusal(send(strict.client, method, path, body, dataset), path)


@pytest.mark.parametrize(("method", "path", "body"), TEXTS, ids=_short)
def test_a_long_text_is_not_sent_back(
    strict: World, dataset: str, method: str, path: str, body: dict[str, Any]
) -> None:
    check_refusal(send(strict.client, method, path, body, dataset), path)


@pytest.mark.parametrize(("method", "path"), OF_JSON)
def test_no_json_whatever_its_shape_is_a_server_error(strict: World, dataset: str, method: str, path: str) -> None:
    nested = b"[" * 100_000
    digits = b"9" * 5000
    for body in (
        nested,
        b'{"name":' + nested,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"name":' + digits + b"}",
        b"[" + digits + b"]",
        b'{"name":1e999,"version":NaN,"alpha":NaN,"coefficient":Infinity,"threshold":NaN}',
        b'{"name":"\\ud800","reason":"\\udfff","labels":["\\ud800"],"images":["\\ud800"],"inputs":"\\ud800"}',
        b'{"\\ud800":1}',
        b"\xff\xfe{}",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"{",
        b"\x00",
        b"",
        json.dumps(EXTRAS).encode(),
        json.dumps({LONG: 1}).encode(),
        json.dumps(dict.fromkeys(f"{LONG[:10_000]}{index}" for index in range(100))).encode(),
    ):
        response = send(strict.client, method, path, body, dataset)
        if response.status_code >= 400 or path != "/v1/aliases/active/rollback":
            check_refusal(response, path, 400, 404, 409, 413, 422)


@pytest.mark.parametrize(
    ("method", "path"), [each for each in OF_JSON if each[1].startswith(("/v1/c", "/v1/e", "/hf"))]
)
def test_json_of_more_values_than_any_request_needs_is_refused_before_it_is_parsed(
    strict: World, dataset: str, method: str, path: str
) -> None:
    body = b'{"images":[""],"candidate_labels":[' + b"1," * (MAX_VALUES + 1) + b"1]}"
    assert f"more than {MAX_VALUES} values" in check_refusal(
        send(strict.client, method, path, body, dataset), path, 422
    )


def test_only_routes_of_images_and_archives_take_large_bodies(strict: World, dataset: str) -> None:
    large = b" " * (strict.services.settings.max_json_bytes + 1)
    for method, path in OF_JSON:
        response = send(strict.client, method, path, large, dataset)
        carries_images = path.startswith(("/v1/classify", "/v1/embed", "/v2", "/hf"))
        assert (response.status_code == 413) == (not carries_images), path
    pages = strict.client.get("/v1/jobs", headers={"content-length": str(len(large))})
    assert pages.status_code in (413, 422)


NOT_NUMBERS = (
    ("POST", "/v1/patches/pt_1/reselect", {"alpha": float("nan")}),
    ("POST", "/v1/patches", {"name": "p", "tasks": ["a"], "finetune": {"max_grad_norm": float("inf")}}),
    ("POST", "/v1/patches", {"name": "p", "tasks": ["a"], "finetune": {"learning_rate": float("nan")}}),
    ("POST", "/v1/patches", {"name": "p", "tasks": ["a"], "finetune": {"weight_decay": float("nan")}}),
    ("POST", "/v1/patches", {"name": "p", "tasks": ["a"], "anchors": {"supported": True, "weight": float("nan")}}),
    ("POST", "/v1/patches", {"name": "p", "tasks": ["a"], "alpha": {"grid_step": float("nan")}}),
    ("POST", "/v1/versions", {"name": "v", "terms": [{"version": 1, "coefficient": float("nan")}]}),
    ("POST", "/v1/classify", {"images": [""], "candidate_labels": ["a"], "threshold": float("nan")}),
    ("POST", "/v2/models/paintbox/infer", {"inputs": [TENSOR], "parameters": {"timeout": float("nan")}}),
    ("POST", "/v2/models/paintbox/infer", {"inputs": [TENSOR], "parameters": {"timeout": 10**400}}),
)


@pytest.mark.parametrize(("method", "path", "body"), NOT_NUMBERS, ids=_short)
def test_what_is_no_finite_number_is_refused(
    strict: World, dataset: str, method: str, path: str, body: dict[str, Any]
) -> None:
    check_refusal(send(strict.client, method, path, body, dataset), path, 400, 422)


@pytest.mark.parametrize("version", ["1", 1.0, True, [1], 0, -1, 2**31, 10**4000])
def test_a_version_in_json_is_a_whole_number(strict: World, dataset: str, version: Any) -> None:
    before = strict.client.get("/v1/aliases/active").json()
    for path, body in (
        ("/v1/versions", {"name": "v", "from_version": version, "remove": ["pt_1"]}),
        ("/v1/versions", {"name": "v", "terms": [{"version": version}]}),
    ):
        check_refusal(send(strict.client, "POST", path, body, dataset), path)
    body = {"version": version, "reason": "to see", "force": False}
    check_refusal(send(strict.client, "PUT", "/v1/aliases/active", body, dataset), "/v1/aliases/active")
    assert strict.client.get("/v1/aliases/active").json() == before


@pytest.mark.parametrize("field", ["classnames", "templates"])
@pytest.mark.parametrize(
    "value", ["[" * 100_000, '{"a":' * 50_000, "9" * 5000, "NaN", json.dumps(ONES), json.dumps(EXTRAS), LONG, '{"a":1}']
)
def test_fields_of_an_upload_are_bounded_too(strict: World, field: str, value: str) -> None:
    files = {"archive": ("a.zip", b"PK", "application/zip")}
    response = strict.client.post("/v1/datasets", data={"name": "d", field: value}, files=files)
    check_refusal(response, "/v1/datasets", 400, 422)


@pytest.mark.parametrize("value", ["[" * 100_000, json.dumps(ONES), LONG, "9" * 5000])
@pytest.mark.parametrize("field", ["candidate_labels", "templates", "version", "top_k", "hypothesis_template"])
def test_fields_of_a_form_with_images_are_bounded_too(strict: World, field: str, value: str) -> None:
    files = {"images": ("a.png", digit_pngs(0)[0], "image/png")}
    response = strict.client.post("/v1/classify", data={"candidate_labels": "a", field: value}, files=files)
    check_refusal(response, "/v1/classify", 400, 422)


def test_many_unknown_fields_of_a_form_are_told_in_few_words(strict: World) -> None:
    files = {"images": ("a.png", digit_pngs(0)[0], "image/png")}
    response = strict.client.post("/v1/classify", data={f"k{index}": "1" for index in range(5000)}, files=files)
    check_refusal(response, "/v1/classify", 400, 422)
    data = {f"k{index}": "1" for index in range(900)} | {"name": "d"}
    response = strict.client.post("/v1/datasets", data=data, files={"archive": ("a.zip", b"PK", "application/zip")})
    check_refusal(response, "/v1/datasets", 400, 422)


@pytest.mark.parametrize(
    "path",
    ["/v1/jobs?" + "status=x&" * 900, "/v1/versions?" + "tag=%3F&" * 900, "/v1/jobs?" + "a=1&" * 5000]
    + [f"/v1/{noun}/{LONG[:60_000]}" for noun in ("jobs", "versions", "datasets", "aliases", "nothing")]
    + [f"/v1/jobs?cursor={LONG[:60_000]}", f"/v1/jobs?{LONG[:60_000]}=1", f"/v1/jobs?kind={LONG[:60_000]}"],
    ids=lambda path: path[:30],
)
def test_long_paths_and_queries_are_answered_in_few_words(strict: World, path: str) -> None:
    check_refusal(strict.client.get(path), path)


def test_messages_are_words_for_people(strict: World, dataset: str) -> None:
    for path, body, said in (
        ("/v1/label-sets", {}, "body.labels: Field required"),
        ("/v1/label-sets", {"labels": "cat"}, "body.labels: Input should be a list"),
        ("/v1/label-sets", {"labels": []}, "body.labels: List should have at least 1 item"),
        ("/v1/label-sets", {"labels": [3]}, "body.labels.0: Input should be a valid string"),
        ("/v1/label-sets", {"labels": ["a"], "lables": 1}, "body.lables: is not a known field"),
        ("/v1/label-sets", {"labels": ["a"], "templates": ["a"]}, "at least 2 characters"),
        (
            "/v1/label-sets",
            {"labels": ["a"], "templates": ["a photo"]},
            "must contain {} or {c} as the placeholder of the label",
        ),
        ("/v1/versions", {"name": "v", "tags": "x"}, "body.tags: Input should be a list"),
        ("/v1/versions", {"name": "v", "tags": ["?"]}, "is not a tag: these have letters"),
        ("/v1/versions", {"name": "a\x1bb"}, "body.name: has a control, invisible"),
        ("/v1/keys", {"name": "k", "scopes": ["root"]}, "should be 'read', 'classify', 'write' or 'admin'"),
        (
            "/v1/patches",
            {"name": "p", "tasks": ["a"], "folds": 1},
            "body.folds: Input should be greater than or equal to 2",
        ),
        ("/v1/patches", [], "body: Input should be an object"),
    ):
        assert said in check_refusal(send(strict.client, "POST", path, body, dataset), path, 422)
    many = {f"k{index}": 1 for index in range(MAX_LISTED + 3)} | {"name": "p"}
    response = send(strict.client, "POST", "/v1/patches", many, dataset)
    assert len(response.json()["errors"]) == MAX_LISTED
    assert "4 more errors" in response.json()["detail"]
