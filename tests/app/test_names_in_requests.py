"""Names, reasons, ids, paths and queries with characters that nobody can see, on both databases."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from httpx2 import Response

from tests.app.test_authorisation import ROUTES, Route
from tests.app.test_unread_inputs import IDS
from tests.app.world import World, add_ready_dataset, check_problem, open_world
from tests.builders import digit_pngs
from tests.registry.postgres import PostgresServer

UNSAFE = ["\x00", "\x1b", "\x7f", "\x9b", "\u200b", "\u202e", "\u2028", "\ufeff", "\U000e0041", "\ue000"]
_FEW = {"\x00", "\x9b", "\u2028"}
TUS = {"tus-resumable": "1.0.0"}
PNG = digit_pngs(0)[0]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def named(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root: Path = tmp_path_factory.mktemp("named")
    if request.param == "sqlite":
        with open_world(root) as world:
            yield world
        return
    server = PostgresServer()
    try:
        with open_world(root, database_url=server.url(server.create_database())) as world:
            yield world
    finally:
        server.stop()


@pytest.fixture(scope="module")
def dataset(named: World) -> str:
    return add_ready_dataset(named.services, ["cat", "dog"], splits=("train", "validation", "test"))


def bodies(text: str, dataset: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every member of a JSON body that holds text, with that text in it."""
    patch = {"name": "p", "tasks": [dataset]}
    yield "POST", "/v1/patches", patch | {"name": text}
    yield "POST", "/v1/patches", patch | {"base": text}
    yield "POST", "/v1/patches", patch | {"tasks": [text]}
    yield "POST", "/v1/patches", patch | {"supported": [text]}
    yield "POST", "/v1/patches", patch | {"anchors": {"dataset": text}}
    yield "POST", "/v1/patches", patch | {"webhook_url": f"https://a.example/{text}"}
    yield (
        "POST",
        "/v1/patches",
        patch | {"supported": ["x"], "alpha": {"rule": "floor", "max_supported_drop": {text: 1}}},
    )
    yield "POST", "/v1/patches/none/reselect", {"name": text, "alpha": 0.5}
    yield "POST", "/v1/patches/none/reselect", {"rule": "floor", "max_supported_drop": {text: 1}}
    yield "POST", "/v1/patches/none/extend", {"tasks": [text]}
    yield "POST", "/v1/patches/none/extend", {"name": text, "tasks": [dataset]}
    yield "POST", "/v1/patches/none/forget", {"classes": [text]}
    yield "POST", "/v1/patches/none/forget", {"name": text, "classes": ["x"]}
    yield "POST", "/v1/versions", {"name": text, "from_version": 1, "remove": ["x"]}
    yield "POST", "/v1/versions", {"name": "v", "tags": [text], "from_version": 1, "remove": ["x"]}
    yield "POST", "/v1/versions", {"name": "v", "from_version": 1, "remove": [text]}
    yield "POST", "/v1/versions", {"name": "v", "base": text, "terms": [{"patch": "x"}]}
    yield "POST", "/v1/versions", {"name": "v", "terms": [{"patch": text}]}
    evaluation = {"versions": [1], "dataset": dataset}
    yield "POST", "/v1/evaluations", evaluation | {"name": text}
    yield "POST", "/v1/evaluations", evaluation | {"versions": [text]}
    yield "POST", "/v1/evaluations", evaluation | {"dataset": text}
    yield "POST", "/v1/evaluations", evaluation | {"labels": ["cat", "dog", text]}
    yield "POST", "/v1/evaluations", evaluation | {"templates": [f"a {{}} {text}"]}
    yield "POST", "/v1/evaluations", evaluation | {"webhook_url": f"https://a.example/{text}"}
    yield "PATCH", "/v1/versions/1", {"name": text}
    yield "PATCH", f"/v1/datasets/{dataset}", {"name": text}
    yield "PATCH", "/v1/patches/none", {"name": text}
    yield "PATCH", "/v1/versions/1", {"tags": [text]}
    yield "PUT", "/v1/aliases/canary", {"version": 1, "reason": text}
    yield "POST", "/v1/aliases/active/rollback", {"reason": text}
    yield "POST", "/v1/label-sets", {"name": text, "labels": ["a"]}
    yield "POST", "/v1/label-sets", {"labels": ["a", text]}
    yield "POST", "/v1/label-sets", {"labels": ["a"], "templates": [f"a {{}} {text}"]}
    yield "POST", "/v1/keys", {"name": text, "scopes": ["admin"]}
    yield "POST", f"/v1/datasets/{dataset}/derive", {"name": text}
    yield "POST", f"/v1/datasets/{dataset}/derive", {"name": "d", "classnames": {"cat": text}}
    yield "POST", f"/v1/datasets/{dataset}/derive", {"name": "d", "classnames": {text: "cat"}}
    yield "POST", f"/v1/datasets/{dataset}/derive", {"name": "d", "templates": [f"a {{}} {text}"]}
    corrections = {"name": "d"}
    yield "POST", "/v1/datasets/from-feedback", {"name": text}
    yield "POST", "/v1/datasets/from-feedback", corrections | {"ids": [text]}
    yield "POST", "/v1/datasets/from-feedback", corrections | {"templates": [f"a {{}} {text}"]}
    yield "POST", "/v1/datasets/from-feedback", corrections | {"classnames": {"cat": text}}
    yield "POST", "/v1/datasets/from-feedback", corrections | {"webhook_url": f"https://a.example/{text}"}
    for name in ("label", "predicted", "owner"):
        yield "POST", "/v1/datasets/from-feedback", corrections | {"filter": {name: text}}
    yield "PATCH", "/v1/feedback/none", {"label": text}
    yield "PATCH", "/v1/feedback/none", {"note": text}
    collected = {"name": "d", "from": [{"dataset": dataset, "split": "train"}]}
    yield "POST", "/v1/datasets/collect", collected | {"name": text}
    yield "POST", "/v1/datasets/collect", collected | {"templates": [f"a {{}} {text}"]}
    yield "POST", "/v1/datasets/collect", collected | {"webhook_url": f"https://a.example/{text}"}
    for field in ("dataset", "label", "as_label"):
        yield "POST", "/v1/datasets/collect", collected | {"from": [{"dataset": dataset, field: text}]}
    for field in ("evaluation", "label", "predicted"):
        yield "POST", "/v1/datasets/collect", collected | {"from": [{"evaluation": "none", field: text}]}
    image = {"images": [""]}
    for name in ("label", "predicted", "note", "version", "dataset", "sample"):
        yield "POST", "/v1/feedback", image | {name: text}
    yield "POST", "/v1/classify", image | {"candidate_labels": ["a", text]}
    yield "POST", "/v1/classify", image | {"label_set": text}
    yield "POST", "/v1/classify", image | {"dataset": text}
    yield "POST", "/v1/classify", image | {"candidate_labels": ["a"], "version": text}
    yield "POST", "/v1/classify", image | {"candidate_labels": ["a"], "hypothesis_template": f"a {{}} {text}"}
    yield "POST", "/v1/embed", image | {"version": text}
    yield "POST", "/hf/zero-shot-image-classification", {"inputs": "", "parameters": {"candidate_labels": [text]}}
    tensor = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [""]}
    for name in ("label_set", "dataset", "hypothesis_template"):
        yield "POST", "/v2/models/paintbox/infer", {"inputs": [tensor], "parameters": {name: text}}
    labels = {"name": "labels", "shape": [1], "datatype": "BYTES", "data": [text]}
    yield "POST", "/v2/models/paintbox/infer", {"inputs": [tensor, labels]}


def unsafe(named: World) -> list[str]:
    """PostgreSQL stores all of them but one, so what refuses the others on SQLite refuses them there, too."""
    return UNSAFE if named.services.database.sqlite_path else ["\x00", "\u2028"]


def check_refused(response: Response, text: str) -> None:
    assert response.status_code in (400, 404, 405, 415, 422), response.text
    assert text not in response.text
    assert "\\u0000" not in response.text


def test_unseen_characters_are_refused_in_every_text_of_a_body(named: World, dataset: str) -> None:
    for char in unsafe(named):
        for text in (f"a{char}b", f"1{char}1"):
            for method, path, body in bodies(text, dataset):
                check_refused(named.client.request(method, path, json=body), char)


def test_unseen_characters_are_refused_in_every_field_of_a_form(named: World) -> None:
    for char in (*unsafe(named), "\ud800"):
        check_form(named, char)


def check_form(named: World, char: str) -> None:
    text, archive = f"a{char}b", ("a.zip", b"PK", "application/zip")
    if char == "\ud800":  # no form can carry it but as JSON
        for field, value in (("classnames", {"zero": text}), ("templates", [f"{{}} {text}"])):
            data = {"name": "d", field: json.dumps(value)}
            check_refused(named.client.post("/v1/datasets", data=data, files={"archive": archive}), char)
        return
    for data in (
        {"name": text},
        {"name": "d", "manifest": text},
        {"name": "d", "root": text},
        {"name": "d", "label_column": text},
        {"name": "d", "split_of": json.dumps({text: "train"})},
        {"name": "d", "templates": f"{{}} {text}"},
        {"name": "d", "templates": json.dumps([f"{{}} {text}"])},
        {"name": "d", "classnames": json.dumps({"zero": text})},
        {"name": "d", "classnames": json.dumps({text: "zero"})},
        {"name": "d", "webhook_url": f"https://a.example/{text}"},
    ):
        check_refused(named.client.post("/v1/datasets", data=data, files={"archive": archive}), char)
    check_refused(named.client.post("/v1/datasets", data={"name": "d", "upload": text}), char)
    for data in ({"candidate_labels": text}, {"label_set": text}, {"dataset": text}, {"version": text}):
        check_refused(named.client.post("/v1/classify", data=data, files={"images": PNG}), char)


@pytest.mark.parametrize("route", [each for each in ROUTES if each.scope is not None], ids=str)
def test_unseen_characters_are_refused_in_every_path_and_query(named: World, route: Route) -> None:
    placed = [name for name in IDS if f"{{{name}}}" in route.path]
    for char in _FEW & {*unsafe(named)}:
        text = quote(f"a{char}1", safe="")
        for name in placed:
            check_refused(named.client.request(route.method, route.url(IDS | {name: text}), headers=TUS), char)
        for name in ("cursor", "tag", "reason", "status", "version", "name", "owner", "since", "dataset"):
            url = f"{route.url(IDS)}?{name}={text}"
            check_refused(named.client.request(route.method, url, headers=TUS), char)


def test_a_key_that_is_no_printable_text_is_refused(named: World, dataset: str) -> None:
    for key in (b"", b" ", b"a\x80b", b"\xe2\x80\x8b", b"a\x9bb", b"x" * 256):
        response = named.client.post(
            "/v1/patches", json={"name": "p", "tasks": [dataset]}, headers=[(b"idempotency-key", key)]
        )
        check_refused(response, "\x9b")


def test_what_people_write_is_kept(named: World) -> None:
    for name in ("Früh­stück".replace("\xad", ""), "猫と犬", "👩\u200d🚀 #1", "a 'quoted' <b> & \"b\"", "x" * 200):
        assert named.client.patch("/v1/versions/1", json={"name": name}).json()["name"] == name
    moved = named.client.put("/v1/aliases/canary", json={"version": 1, "reason": "first line\n second\tone "})
    assert moved.status_code == 200
    history = named.client.get("/v1/aliases/canary/history").json()["items"]
    assert history[0]["reason"] == "first line second one"


def test_labels_that_are_one_in_two_spellings_are_refused_and_those_that_differ_in_case_are_told(named: World) -> None:
    ask = {"images": [base64.b64encode(PNG).decode()]}
    for labels in (["caf\u00e9", "cafe\u0301"], ["a  b", "a b"], ["a\u00a0b", "a b"]):
        for path, body in (
            ("/v1/classify", ask | {"candidate_labels": labels}),
            ("/v1/label-sets", {"labels": labels}),
        ):
            check_problem(named.client.post(path, json=body), 422, "duplicate_label")
        form = {"candidate_labels": json.dumps(labels)}
        response = named.client.post("/v1/classify", data=form, files={"images": PNG})
        check_problem(response, 422, "duplicate_label")
    answer = named.client.post("/v1/classify", json=ask | {"candidate_labels": ["Cat", "dog", "cat"]}).json()
    (warning,) = answer["warnings"]
    assert "'Cat' and 'cat'" in warning
    assert "warnings" not in named.client.post("/v1/classify", json=ask | {"candidate_labels": ["cat", "dog"]}).json()
