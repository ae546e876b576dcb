"""The OpenAPI document is valid and tells of every error."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from fastapi.openapi.models import OpenAPI
from fastapi.routing import iter_route_contexts
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from app.inference.protocols.plain_errors import has_plain_errors
from app.main import create_app
from app.settings import AppSettings
from contract.job_events import EventData
from contract.recorded import Recorded
from tests.app.world import PROBLEM

PLAIN = ("application/json", "PlainError")
METHODS = {"get", "head", "put", "post", "delete", "patch"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(AppSettings()).openapi()


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield f"{method.upper()} {path}", item[method]


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_the_document_and_its_schemas_are_valid(document: dict[str, Any]) -> None:
    OpenAPI.model_validate(document)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(_references(document)) <= known


def test_every_route_tells_of_problems_and_of_nothing_else_that_fails(document: dict[str, Any]) -> None:
    for name, operation in _operations(document):
        media_type, model = PLAIN if has_plain_errors(name.partition(" ")[2]) else (PROBLEM, "Problem")
        errors = {status: each for status, each in operation["responses"].items() if int(status) >= 400}
        assert {"422", "500"} <= errors.keys(), name
        for error in errors.values():
            assert list(error["content"]) == [media_type], name
            assert error["content"][media_type]["schema"] == {"$ref": f"#/components/schemas/{model}"}


def test_every_route_is_described_and_named_once(document: dict[str, Any]) -> None:
    operations = dict(_operations(document))
    assert all(operation["description"] and operation["summary"] for operation in operations.values())
    identifiers = [operation["operationId"] for operation in operations.values()]
    assert len(set(identifiers)) == len(identifiers)


@pytest.mark.parametrize(
    ("path", "model"), [("/v1/classify", "ClassifyBody"), ("/v1/embed", "EmbedBody"), ("/v1/feedback", "FeedbackBody")]
)
def test_every_form_of_a_request_with_images_documents_the_same_options(
    document: dict[str, Any], path: str, model: str
) -> None:
    operation = document["paths"][path]["post"]
    content = operation["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json", "image/*", "application/octet-stream"}
    options = set(document["components"]["schemas"][model]["properties"]) - {"images", "texts"}
    assert set(content["multipart/form-data"]["schema"]["properties"]) == options | {"images"}
    assert {each["name"] for each in operation["parameters"] if each["in"] == "query"} == options


def test_the_routes_of_the_design_are_there(document: dict[str, Any]) -> None:
    names = {name for name, _ in _operations(document)}
    assert names == {
        "POST /v1/datasets", "GET /v1/datasets", "GET /v1/datasets/{dataset_id}",
        "POST /v1/datasets/{dataset_id}/derive", "POST /v1/datasets/collect",
        "PATCH /v1/datasets/{dataset_id}", "PATCH /v1/patches/{patch_id}",
        "GET /v1/datasets/{dataset_id}/images", "GET /v1/datasets/{dataset_id}/images/{split}/{row}",
        "POST /v1/uploads", "HEAD /v1/uploads/{upload_id}", "PATCH /v1/uploads/{upload_id}",
        "DELETE /v1/uploads/{upload_id}",
        "POST /v1/patches", "GET /v1/patches", "GET /v1/patches/{patch_id}",
        "GET /v1/patches/{patch_id}/curve", "GET /v1/patches/{patch_id}/changes",
        "POST /v1/patches/{patch_id}/reselect", "POST /v1/versions",
        "POST /v1/patches/{patch_id}/extend", "POST /v1/patches/{patch_id}/forget",
        "POST /v1/evaluations", "GET /v1/evaluations", "GET /v1/evaluations/{evaluation_id}",
        "DELETE /v1/evaluations/{evaluation_id}", "GET /v1/evaluations/{evaluation_id}/predictions",
        "GET /v1/evaluations/{evaluation_id}/predictions/file",
        "GET /v1/jobs", "GET /v1/jobs/{job_id}", "GET /v1/jobs/{job_id}/events", "POST /v1/jobs/{job_id}/cancel",
        "POST /v1/jobs/{job_id}/retry",
        "GET /v1/versions", "GET /v1/versions/{version_id}", "PATCH /v1/versions/{version_id}",
        "DELETE /v1/versions/{version_id}", "POST /v1/versions/{version_id}/restore",
        "POST /v1/versions/{version_id}/verify", "GET /v1/versions/{version_id}/export", "POST /v1/gc",
        "DELETE /v1/aliases/{alias}",
        "GET /v1/aliases", "GET /v1/aliases/{alias}", "GET /v1/aliases/{alias}/history", "PUT /v1/aliases/{alias}",
        "POST /v1/aliases/{alias}/rollback", "POST /v1/aliases/{alias}/check",
        "GET /v1/aliases/{alias}/approvals", "POST /v1/aliases/{alias}/approvals/{approval_id}/approve",
        "POST /v1/aliases/{alias}/approvals/{approval_id}/reject",
        "POST /v1/classify", "POST /v1/embed",
        "POST /v1/datasets/from-feedback",
        "POST /v1/feedback", "GET /v1/feedback", "DELETE /v1/feedback", "GET /v1/feedback/{feedback_id}",
        "PATCH /v1/feedback/{feedback_id}", "DELETE /v1/feedback/{feedback_id}",
        "GET /v1/feedback/{feedback_id}/image",
        "POST /v1/label-sets", "GET /v1/label-sets", "GET /v1/label-sets/{label_set_id}",
        "DELETE /v1/label-sets/{label_set_id}", "DELETE /v1/datasets/{dataset_id}", "DELETE /v1/patches/{patch_id}",
        "GET /v1/system", "GET /v1/bases", "GET /livez", "GET /readyz", "GET /metrics",
        "GET /v2/health/live", "GET /v2/health/ready", "GET /v2", "GET /v2/models/{model_name}",
        "GET /v2/models/{model_name}/ready", "POST /v2/models/{model_name}/infer",
        "GET /v2/models/{model_name}/versions/{model_version}",
        "GET /v2/models/{model_name}/versions/{model_version}/ready",
        "POST /v2/models/{model_name}/versions/{model_version}/infer",
        "POST /hf/zero-shot-image-classification",
        "GET /v1/versions/{version_id}/compare", "GET /v1/events", "POST /v1/patches/check",
            "GET /v1/patches/{patch_id}/report.html",
            "POST /v1/session", "GET /v1/session", "DELETE /v1/session",
            "GET /v1/keys", "POST /v1/keys", "DELETE /v1/keys/{key_id}", "POST /v1/verify",
    }  # fmt: skip


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model that an annotation names, those in other models' fields included."""
    todo, seen = [annotation], set()
    while todo:
        each = todo.pop()
        todo += get_args(each)
        if isinstance(each, type) and issubclass(each, BaseModel) and each not in seen:
            seen.add(each)
            yield each
            todo += [field.annotation for field in each.model_fields.values()]


def test_routes_that_repeat_stored_objects_leave_out_what_those_do_not_have() -> None:
    found = {
        route.name: getattr(route, "response_model_exclude_unset", False)
        for route in iter_route_contexts(create_app(AppSettings()).routes)
        if any(issubclass(each, Recorded) for each in _models_in(getattr(route, "response_model", None)))
    }
    assert len(found) > 8
    assert [name for name, is_left_out in found.items() if not is_left_out] == []


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("Patch", "request"), ("Patch", "report"), ("Version", "lineage"), ("Version", "evaluation"),
        ("Reselected", "validation"), ("Lineage", "request"), ("Lineage", "alpha"),
    ],
)  # fmt: skip
def test_what_is_stored_as_json_has_a_schema(document: dict[str, Any], model: str, field: str) -> None:
    schema = document["components"]["schemas"][model]["properties"][field]
    choices = schema.get("anyOf", [schema])
    assert [each for each in choices if "$ref" not in each and each["type"] not in ("null", "number")] == []


def test_every_property_has_a_description(document: dict[str, Any]) -> None:
    properties = [
        (f"{name}.{field}", described)
        for name, schema in document["components"]["schemas"].items()
        for field, described in schema.get("properties", {}).items()
    ]
    assert len(properties) > 300
    assert [path for path, described in properties if not described.get("description")] == []


def test_every_parameter_has_a_description(document: dict[str, Any]) -> None:
    parameters = [
        (f"{method} {path}: {parameter['name']}", parameter)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for parameter in operation.get("parameters", ())
    ]
    assert len(parameters) > 80
    assert [name for name, parameter in parameters if not parameter.get("description")] == []


def test_each_kind_of_event_has_its_own_shape(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    names = [_name(choice) for choice in schemas["JobEventList"]["properties"]["items"]["items"]["anyOf"]]
    events = {schemas[name]["properties"]["message"].get("const"): schemas[name]["properties"] for name in names}
    assert events.keys() == {None, *(kind.MESSAGE for kind in EventData.__subclasses__())}
    for kind in EventData.__subclasses__():
        shape, nothing = events[kind.MESSAGE]["data"]["anyOf"]
        assert (_name(shape), nothing) == (kind.__name__, {"type": "null"})


def _name(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
