"""The route that embeds images and texts."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from app.access.callers import turn_of
from app.access.policies import needs
from app.http.dependencies import instance_of
from app.http.direct import DirectRoute
from app.http.disconnects import cancelled_when_gone
from app.http.problems import problem_responses
from app.inference.embed.schemas import EmbedBody, Embeddings
from app.inference.embed.service import Embedder
from app.inference.image_requests import VERSION_HEADER, describe, read_request
from contract.access import Scope

router = APIRouter(tags=["embed"], route_class=DirectRoute)


@router.post(
    "/v1/embed",
    response_model=Embeddings,
    responses=problem_responses(400, 404, 409, 413, 415, 429, 431, 503, 504),
    openapi_extra=describe(EmbedBody),
    dependencies=[needs(Scope.CLASSIFY)],
)
async def embed(request: Request) -> Response:
    """Embed images, or texts (JSON only), as vectors of unit length; the dot product of two is their cosine.

    Images are accepted in the same formats as for `POST /v1/classify`. Texts are embedded as they are. All embeddings
    of a response come from the version in `version`, else from `active`; the canary is only used if requested.
    """
    started = time.monotonic()
    body = await read_request(request, EmbedBody)
    async with cancelled_when_gone(request):
        version_id, answer = await instance_of(request.app, Embedder).embed(body, turn_of(request), started)
    return Response(answer, headers={VERSION_HEADER: str(version_id)}, media_type="application/json")
