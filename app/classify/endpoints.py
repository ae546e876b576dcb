"""The route that classifies images."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Header, Request, Response

from app.access.callers import CallerDep
from app.access.policies import needs
from app.classify import service
from app.classify.schemas import Classification, ClassifyBody
from app.disconnects import cancelled_when_gone
from app.image_requests import VERSION_HEADER, describe, read_request
from app.problems import problem_responses
from app.services import ServicesDep
from registry.contract import Scope

router = APIRouter(tags=["classify"])


@router.post(
    "/v1/classify",
    response_model=Classification,
    responses=problem_responses(400, 404, 409, 413, 415, 429, 503, 504),
    openapi_extra=describe(ClassifyBody),
    dependencies=[needs(Scope.CLASSIFY)],
)
async def classify(
    services: ServicesDep,
    caller: CallerDep,
    request: Request,
    background: BackgroundTasks,
    request_key: Annotated[str | None, Header(alias="X-Request-Key", max_length=200)] = None,
) -> Response:
    """Tell which of the labels each image shows, best first. No training: any labels will do.

    Takes image files (multipart), base64 (JSON), or one image as the body (`image/*`) with everything else in the query
    string. The header `Paintbox-Version` names the version that answered: the one that `version` names, else that of
    `active`. While there is an alias `canary`, its version answers a share of the requests that name none: always those
    of the same `X-Request-Key`, or, without that, of the same API key or client address.
    """
    started = time.monotonic()
    body = await read_request(request, ClassifyBody)
    asker = request_key or caller.key_id or (request.client.host if request.client else "")
    async with cancelled_when_gone(request):
        answer = await service.answer(services, body.images, body, asker, started)
    if answer.offer is not None:
        background.add_task(services.shadow.offer, answer.offer)
    headers = {VERSION_HEADER: str(answer.version_id)}
    return Response(answer.json, headers=headers, media_type="application/json")  # validating it would cost more
