"""The route `/metrics`."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.responses import Response

from app.http.problems import problem_responses
from app.metrics.metrics import MetricsDep

router = APIRouter(tags=["system"])


@router.head("/metrics", include_in_schema=False)
@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "content": {"text/plain": {"schema": {"type": "string"}}},
            "description": "Metrics in the Prometheus text format",
        },
        **problem_responses(),
    },
)
def read_metrics(metrics: MetricsDep) -> Response:
    """Return metrics for Prometheus: requests, jobs, batches, served versions. They contain no names or ids of data."""
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
