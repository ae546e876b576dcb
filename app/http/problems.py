"""Error responses: `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from app.http.errors import EdgeError, status_of
from app.http.faults import storage_fault
from app.http.invalid import MAX_LISTED, InvalidField, describe_errors, drop_consequences
from contract.names import shorten
from paint_core.errors import PaintCoreError
from registry.errors import RegistryError
from registry.faults import classify_fault

_log = structlog.get_logger(__name__)
PROBLEM_MEDIA_TYPE = "application/problem+json"
MAX_DETAIL, MAX_PATH = 2000, 200
"""Maximum length of a detail, and of a quoted path."""

_SEE_DOCS = "See the routes and schemas at /docs."
PROBLEMS_OF_STATUS = {  # errors of Starlette and FastAPI: code and advice
    400: ("bad_request", "Correct the body; its format is described at /docs."),
    404: ("route_not_found", _SEE_DOCS),
    405: ("method_not_allowed", "The header Allow lists the methods of this route."),
    413: ("body_too_large", "Send less data in one request."),
    415: ("unsupported_media_type", _SEE_DOCS),
    429: ("bodies_full", "Retry in a second, or send less data at once."),
}


class Problem(BaseModel):
    """Body of every error response (RFC 9457)."""

    type: str = Field(description="URN of the error code", examples=["urn:paintbox:error:not_found"])
    title: str = Field(description="HTTP status phrase", examples=["Not Found"])
    status: int = Field(description="HTTP status code", examples=[404])
    detail: str = Field(description="Description of the error")
    code: str = Field(description="Stable, machine-readable error code", examples=["not_found"])
    next: str = Field(description="How to resolve the error")
    instance: str = Field(description="Id of the request", examples=["urn:paintbox:request:4f0c"])
    errors: list[InvalidField] | None = Field(
        default=None,
        max_length=MAX_LISTED,
        description=f"Invalid fields, at most {MAX_LISTED}; `detail` states how many more there are",
    )


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of a route's error responses; 422, 500 and 503 are always among them.

    503: a store is unavailable, which nearly every route needs.
    """
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {PROBLEM_MEDIA_TYPE: {"schema": schema}}}
        for status in sorted({*statuses, 422, 500, 503})
    }


def problem_response(
    request_id: str,
    status: int,
    *,
    code: str,
    detail: str,
    advice: str,
    headers: Mapping[str, str] | None = None,
    errors: list[InvalidField] | None = None,
) -> JSONResponse:
    """Return the response for one problem."""
    problem = Problem(
        type=f"urn:paintbox:error:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=shorten(detail, MAX_DETAIL),
        code=code,
        next=shorten(advice, MAX_DETAIL),
        instance=f"urn:paintbox:request:{request_id}",
        errors=errors,
    )
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, int(status), dict(headers or {}), media_type=PROBLEM_MEDIA_TYPE)


def internal_problem(request_id: str) -> JSONResponse:
    """Return the response for an internal error: no details, but the id under which the log has them."""
    return problem_response(
        request_id,
        500,
        code="internal_error",
        detail="Internal server error.",
        advice=f"Retry; if the problem persists, find request {request_id} in the log of the API.",
    )


def known_problem(request_id: str, error: RegistryError | EdgeError | PaintCoreError) -> JSONResponse:
    """Return the response for an error of the registry, the edge or the core."""
    headers = {}
    if hasattr(error, "retry_after_seconds"):
        headers["Retry-After"] = str(error.retry_after_seconds)
    status = status_of(error)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="paintbox"'
    if isinstance(error, PaintCoreError):
        detail, _, advice = str(error).partition(": ")
    else:
        detail, advice = error.detail, error.advice
    return problem_response(
        request_id, status, code=error.code, detail=detail, advice=advice or _SEE_DOCS, headers=headers
    )


def add_problem_handlers(app: FastAPI) -> None:
    """Make the application respond to every error with a problem document."""
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    for kind in (RegistryError, EdgeError, PaintCoreError):
        app.add_exception_handler(kind, _on_known_error)
    app.add_exception_handler(SQLAlchemyError, _on_database_error)
    app.add_exception_handler(OSError, _on_storage_fault)


async def _on_storage_fault(request: Request, error: Exception) -> JSONResponse:
    fault = storage_fault(error)
    if fault is None:
        raise error
    _log.error("storage fault", error=str(error))
    return known_problem(request.state.request_id, fault)


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, Exception) and storage_fault(error.__cause__):  # while parsing a form
        return await _on_storage_fault(request, error.__cause__)
    code, advice = PROBLEMS_OF_STATUS.get(error.status_code, ("http_error", _SEE_DOCS))
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (allowed := _allowed_methods(request)):
        headers = {"Allow": ", ".join(allowed)}
    path = shorten(request.url.path, MAX_PATH)
    detail = {
        404: f"There is no route {path}.",
        405: f"{path} does not support {shorten(request.method, MAX_PATH)}.",
    }.get(error.status_code, error.detail)
    return problem_response(
        request.state.request_id, error.status_code, code=code, detail=detail, advice=advice, headers=headers
    )


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes of a path; the router itself names those of the first one only."""
    path = request.scope["path"]
    contexts = iter_route_contexts(request.app.routes)
    found = [(getattr(each, "path_regex", None), each.methods or ()) for each in contexts]
    return sorted({method for pattern, methods in found if pattern and pattern.match(path) for method in methods})


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return invalid_problem(request.state.request_id, error)


def invalid_problem(request_id: str, error: RequestValidationError) -> JSONResponse:
    """Return the response for an invalid request."""
    items = drop_consequences(error.errors())
    fields = describe_errors(items) or [InvalidField(location="body", message="Input is not valid")]
    more = f" {len(items) - len(fields)} more errors are not listed." if len(items) > len(fields) else ""
    return problem_response(
        request_id,
        422,
        code="invalid_request",
        detail=f"{fields[0].location}: {fields[0].message}.{more}",
        advice="Correct the fields listed in `errors`; see the schema at /docs.",
        errors=fields,
    )


async def _on_known_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RegistryError | EdgeError | PaintCoreError)
    return known_problem(request.state.request_id, error)


async def _on_database_error(request: Request, error: Exception) -> JSONResponse:
    """Respond to a fault of the database; any other SQLAlchemy error is a bug."""
    assert isinstance(error, SQLAlchemyError)
    fault = classify_fault(error)
    if fault is None:
        raise error
    _log.warning("database failed", code=fault.code, reason=fault.detail)
    return known_problem(request.state.request_id, fault)
