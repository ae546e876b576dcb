"""The OpenAPI document: FastAPI's, completed by what it cannot know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.classify.schemas import ClassifyBody
from app.problems import InvalidField, Problem

_REF = "#/components/schemas/{model}"


def document(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """Return what `app.openapi` is to be: it builds the document once, with the schemas that routes name."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
        return app.openapi_schema

    return openapi


def _build(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for model in (Problem, InvalidField, ClassifyBody):
        described = model.model_json_schema(ref_template=_REF)
        described.pop("$defs", None)
        schemas[model.__name__] = described
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{}, {"key": []}]  # needed once PAINTBOX_API_KEY is set
    return schema
