"""The route that classifies images."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response
from starlette.background import BackgroundTask

from app.access.callers import asker_of, caller_of, turn_of
from app.access.policies import needs
from app.http.dependencies import instance_of
from app.http.direct import DirectRoute
from app.http.disconnects import cancelled_when_gone
from app.http.problems import problem_responses
from app.inference.classify.schemas import Classification, ClassifyBody
from app.inference.classify.service import Answer, Classifier
from app.inference.image_requests import REQUEST_KEY, VERSION_HEADER, describe, read_request, read_request_key
from app.models.shadow import Shadow
from contract.access import Scope

router = APIRouter(tags=["classify"], route_class=DirectRoute)


@router.post(
    "/v1/classify",
    response_model=Classification,
    responses=problem_responses(400, 404, 409, 413, 415, 429, 431, 503, 504),
    openapi_extra=describe(ClassifyBody, REQUEST_KEY),
    dependencies=[needs(Scope.CLASSIFY)],
)
async def classify(request: Request) -> Response:
    """Score images against candidate labels, best first. Labels are arbitrary texts; no training is needed.

    Accepts image files (multipart), base64 (JSON), or one image as the body (`image/*`) with all options in the query
    string. The header `Paintbox-Version` states the version that was used: the one in `version`, else that of
    `active`. If the alias `canary` exists, its version serves a share of the requests without `version`. Requests are
    assigned by `X-Request-Key` or, without it, by API key or client address.
    """
    started = time.monotonic()
    key = asker_of(request, read_request_key(request))
    body = await read_request(request, ClassifyBody)
    async with cancelled_when_gone(request):
        owner = caller_of(request).owner
        answer = await instance_of(request.app, Classifier).answer(
            body.images, body, key, turn_of(request), started, owner
        )
    later = None
    if answer.offer is not None or answer.keep is not None:
        later = BackgroundTask(_follow_up, instance_of(request.app, Shadow), answer)
    headers = {VERSION_HEADER: str(answer.version_id)}
    return Response(answer.json, headers=headers, media_type="application/json", background=later)


async def _follow_up(shadow: Shadow, answer: Answer) -> None:
    """Do what follows an answer that was sent."""
    if answer.keep is not None:
        answer.keep()
    if answer.offer is not None:
        await shadow.offer(answer.offer)
