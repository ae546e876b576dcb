"""Routes of the Open Inference Protocol: health, metadata, infer."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from app.access.policies import needs
from app.http.dependencies import DatabaseDep
from app.http.problems import problem_responses
from app.inference.image_requests import VersionName
from app.inference.protocols.asking import Asker, AskerDep
from app.inference.protocols.oip import metadata
from app.inference.protocols.oip.answer import HEADER_LENGTH, render
from app.inference.protocols.oip.question import read_question
from app.inference.protocols.oip.schemas import (
    MODEL_NAME,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from app.models.bases import BasesDep
from app.models.dependencies import EngineDep
from app.models.pool import VersionPoolDep
from app.system.service import require_serving
from contract.access import Scope
from registry.errors import NotFoundError

_BINARY = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": f"#/components/schemas/{InferRequest.__name__}"}},
            "application/octet-stream": _BINARY,
        },
    }
}
_INFER: dict[str, Any] = {
    "response_model": InferResponse,
    "response_model_exclude_none": True,
    "responses": {
        200: {"content": {"application/octet-stream": _BINARY}},
        **problem_responses(400, 404, 409, 413, 429, 503, 504),
    },
    "openapi_extra": _BODY,
}
ModelVersion = Annotated[VersionName, Path(description="Id of a version, or an alias")]
_LOOKED_UP = problem_responses(404, 409, 503)


async def _require_model(model_name: Annotated[str, Path(description=f"Name of the model: `{MODEL_NAME}`")]) -> None:
    if model_name != MODEL_NAME:
        raise NotFoundError(
            "model", model_name, f"The only model is {MODEL_NAME!r}; its versions are those of the service."
        )


_health = APIRouter(prefix="/v2/health", tags=["protocols"])
_guarded = APIRouter(prefix="/v2", tags=["protocols"], dependencies=[needs(Scope.CLASSIFY)])
_model = APIRouter(prefix="/models/{model_name}", dependencies=[Depends(_require_model)])
HeaderLength = Annotated[
    int | None,
    Header(alias=HEADER_LENGTH, ge=0, description="Length of the JSON in bytes; default: the whole body is JSON"),
]


@_health.head("/live", include_in_schema=False)
@_health.get("/live", responses=problem_responses())
async def server_live() -> ServerLive:
    """Check that the process responds. Like `/livez`, this needs no key."""
    return ServerLive()


@_health.head("/ready", include_in_schema=False)
@_health.get("/ready", responses=problem_responses(503))
async def server_ready(engine: EngineDep, versions: VersionPoolDep) -> ServerReady:
    """Check that infer requests are served; 503 with the cause if not, or if the process is shutting down.

    Like `/readyz`, this needs no key.
    """
    require_serving(engine, versions)
    return ServerReady()


@_guarded.get("", responses=problem_responses())
async def describe_server() -> ServerMetadata:
    """Return the name and version of the server, and the protocol extensions that it supports."""
    return metadata.describe_server()


@_model.get("", responses=_LOOKED_UP)
def describe_model(database: DatabaseDep, bases: BasesDep) -> ModelMetadata:
    """Return the inputs and outputs of the model, and its versions."""
    return metadata.describe_model(database, bases, None)


@_model.get("/ready", responses=_LOOKED_UP)
async def model_ready(engine: EngineDep, versions: VersionPoolDep) -> ModelReady:
    """Check that infer requests without a version are served; 503 with the cause if not."""
    require_serving(engine, versions)
    return ModelReady()


@_model.post("/infer", **_INFER)
async def infer(request: Request, asker: AskerDep, header_length: HeaderLength = None) -> Response:
    """Score images against labels with the version of `active` or its canary, as `POST /v1/classify` does.

    The input `images` contains image files: as base64 in JSON, as raw bytes in binary tensors.
    """
    return await _infer(request, asker, header_length, None)


@_model.get("/versions/{model_version}", responses=_LOOKED_UP)
def describe_version(database: DatabaseDep, bases: BasesDep, model_version: ModelVersion) -> ModelMetadata:
    """Return the inputs and outputs of a version, given by id or alias."""
    return metadata.describe_model(database, bases, model_version)


@_model.get("/versions/{model_version}/ready", responses=_LOOKED_UP)
def version_ready(
    database: DatabaseDep, bases: BasesDep, versions: VersionPoolDep, model_version: ModelVersion
) -> ModelReady:
    """Check that infer requests to a version are served; the first one may wait until it is loaded.

    Returns 409 with the cause if its weights are missing or damaged.
    """
    versions.require_loadable(metadata.find_version(database, bases, model_version))
    return ModelReady()


@_model.post("/versions/{model_version}/infer", **_INFER)
async def infer_with_version(
    request: Request, asker: AskerDep, model_version: ModelVersion, header_length: HeaderLength = None
) -> Response:
    """Score images against labels with a version, given by id or alias."""
    return await _infer(request, asker, header_length, model_version)


async def _infer(request: Request, asker: Asker, header_length: int | None, version: int | str | None) -> Response:
    started = time.monotonic()
    question = await run_in_threadpool(read_question, await request.body(), header_length, version)
    classified = await asker.ask(question.images, question.options, started)
    return await run_in_threadpool(render, classified, question)


_guarded.include_router(_model)
router = APIRouter()
router.include_router(_health)
router.include_router(_guarded)
