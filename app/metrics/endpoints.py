"""The route that Prometheus asks."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.responses import Response

from app.http.problems import problem_responses
from app.http.services import ServicesDep

router = APIRouter(tags=["system"])


@router.head("/metrics", include_in_schema=False)
@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "content": {"text/plain": {"schema": {"type": "string"}}},
            "description": "In the text format of Prometheus",
        },
        **problem_responses(),
    },
)
def read_metrics(services: ServicesDep) -> Response:
    """Figures for Prometheus: requests, jobs, batches, what is served. They hold no names and no ids of data."""
    return Response(generate_latest(services.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
