"""The OpenAPI document: FastAPI's, with additions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.access.policies import SCHEME_NAME, Policies, Stores
from app.feedback.schemas import FeedbackBody
from app.http.invalid import InvalidField
from app.http.problems import Problem, problem_responses
from app.inference.classify.schemas import ClassifyBody
from app.inference.embed.schemas import EmbedBody
from app.inference.protocols.huggingface import ZeroShotParameters, ZeroShotRequest
from app.inference.protocols.oip.schemas import InferRequest, InputTensor, RequestedOutput
from app.inference.protocols.plain_errors import PlainError, rewrite_documented

_NAMED = (
    *(Problem, InvalidField, PlainError),
    *(ClassifyBody, EmbedBody, FeedbackBody),
    *(InferRequest, InputTensor, RequestedOutput),
    *(ZeroShotRequest, ZeroShotParameters),
)
"""Schemas that routes refer to by name."""

_REF = "#/components/schemas/{model}"


def document(app: FastAPI, root_path: str = "") -> Callable[[], dict[str, Any]]:
    """Return the function for `app.openapi`: it builds the document once, with the schemas that routes name."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
            if root_path:
                app.openapi_schema["servers"] = [{"url": root_path}]
        return app.openapi_schema

    return openapi


def _build(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for model in _NAMED:
        described = model.model_json_schema(ref_template=_REF)
        described.pop("$defs", None)
        schemas[model.__name__] = described
    components["securitySchemes"] = {SCHEME_NAME: {"type": "http", "scheme": "bearer"}}
    for operations in schema["paths"].values():
        for operation in operations.values():
            operation["security"] = []
            _add_responses(operation, 403)  # without keys: a foreign Host or Origin
            if "requestBody" in operation:
                _add_responses(operation, 400, 413, 415)  # no JSON or multipart at all; too large; compressed
    for policy in Policies.of(app):
        for method in policy.methods:
            operation = schema["paths"][policy.path][method.lower()]
            scopes = [policy.guard.scope.value] if policy.guard.scope is not None else []  # none: any key will do
            operation["security"] = [{}, {SCHEME_NAME: scopes}]  # {}: while there is no key
            _add_responses(operation, 401, 403, 429)
            if policy.guard.stores is not Stores.NOTHING:
                _add_responses(operation, 413, 507)  # the owner's quota; the disk
            if policy.guard.own is not None:
                operation["x-paintbox-owned"] = policy.guard.own.value
    rewrite_documented(schema["paths"])
    return schema


def _add_responses(operation: dict[str, Any], *statuses: int) -> None:
    for status, described in problem_responses(*statuses).items():
        operation["responses"].setdefault(str(status), described)
