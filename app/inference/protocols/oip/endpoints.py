"""Routes of the Open Inference Protocol: health, metadata, infer."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from app.access.policies import needs
from app.http.problems import problem_responses
from app.http.services import ServicesDep
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
_LOOKED_UP = problem_responses(404, 409, 503)


async def _require_model(model_name: str) -> None:
    if model_name != MODEL_NAME:
        raise NotFoundError(
            "model", model_name, f"The only model is {MODEL_NAME!r}; its versions are those of the service."
        )


_health = APIRouter(prefix="/v2/health", tags=["protocols"])
_guarded = APIRouter(prefix="/v2", tags=["protocols"], dependencies=[needs(Scope.CLASSIFY)])
_model = APIRouter(prefix="/models/{model_name}", dependencies=[Depends(_require_model)])
HeaderLength = Annotated[
    int | None, Header(alias=HEADER_LENGTH, ge=0, description="Bytes of the JSON; left out: all of the body is JSON")
]


@_health.head("/live", include_in_schema=False)
@_health.get("/live", responses=problem_responses())
async def server_live() -> ServerLive:
    """The process answers. As `/livez`, this needs no key."""
    return ServerLive()


@_health.head("/ready", include_in_schema=False)
@_health.get("/ready", responses=problem_responses(503))
async def server_ready(services: ServicesDep) -> ServerReady:
    """Infer requests are answered; 503 with the cause if not, or if the process is about to stop.

    As `/readyz`, this needs no key.
    """
    require_serving(services)
    return ServerReady()


@_guarded.get("", responses=problem_responses())
async def describe_server() -> ServerMetadata:
    """What this server is, and which extensions of the protocol it has."""
    return metadata.describe_server()


@_model.get("", responses=_LOOKED_UP)
def describe_model(services: ServicesDep) -> ModelMetadata:
    """What the model takes and gives, and the versions that can be asked for."""
    return metadata.describe_model(services, None)


@_model.get("/ready", responses=_LOOKED_UP)
async def model_ready(services: ServicesDep) -> ModelReady:
    """Infer requests that name no version are answered; 503 with the cause if not."""
    require_serving(services)
    return ModelReady()


@_model.post("/infer", **_INFER)
async def infer(request: Request, asker: AskerDep, header_length: HeaderLength = None) -> Response:
    """Score images against labels, by the version that `active` names or the canary, as `POST /v1/classify` does.

    The input `images` holds image files: in JSON as base64, in binary tensors as they are.
    """
    return await _infer(request, asker, header_length, None)


@_model.get("/versions/{model_version}", responses=_LOOKED_UP)
def describe_version(services: ServicesDep, model_version: VersionName) -> ModelMetadata:
    """What one version takes and gives. Versions are named by id or by an alias."""
    return metadata.describe_model(services, model_version)


@_model.get("/versions/{model_version}/ready", responses=_LOOKED_UP)
def version_ready(services: ServicesDep, model_version: VersionName) -> ModelReady:
    """Infer requests of this version are answered: the first of them may wait until it is loaded.

    409 with the cause if something that it is made of is missing or damaged.
    """
    services.versions.require_loadable(metadata.find_version(services, model_version))
    return ModelReady()


@_model.post("/versions/{model_version}/infer", **_INFER)
async def infer_with_version(
    request: Request, asker: AskerDep, model_version: VersionName, header_length: HeaderLength = None
) -> Response:
    """Score images against labels, by one version, which is named by id or by an alias."""
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
