"""The routes of the API, in the order in which they are matched."""

from __future__ import annotations

from fastapi import FastAPI

from app.access.keys.endpoints import router as keys_router
from app.access.session.endpoints import router as session_router
from app.collecting.endpoints import router as collecting_router
from app.datasets.endpoints import router as datasets_router
from app.datasets.gallery_endpoints import router as galleries_router
from app.datasets.uploads.endpoints import router as uploads_router
from app.evaluations.endpoints import router as evaluations_router
from app.events.endpoints import router as events_router
from app.feedback.endpoints import router as feedback_router
from app.http.direct import add_routers
from app.inference.classify.endpoints import router as classify_router
from app.inference.embed.endpoints import router as embed_router
from app.inference.label_sets.endpoints import router as label_sets_router
from app.inference.protocols.huggingface import router as huggingface_router
from app.inference.protocols.oip.endpoints import router as oip_router
from app.jobs.endpoints import router as jobs_router
from app.metrics.endpoints import router as metrics_router
from app.patches.endpoints import router as patches_router
from app.system.endpoints import router as system_router
from app.versions.endpoints import router as versions_router
from app.web.report_page import router as report_page_router

_ROUTERS = (
    classify_router,
    embed_router,
    datasets_router,
    galleries_router,
    collecting_router,
    uploads_router,
    patches_router,
    report_page_router,
    evaluations_router,
    feedback_router,
    jobs_router,
    events_router,
    versions_router,
    label_sets_router,
    keys_router,
    session_router,
    system_router,
    metrics_router,
    oip_router,
    huggingface_router,
)


def add_routes(app: FastAPI) -> None:
    """Add every route of the API to an application; the most frequent ones are matched first."""
    add_routers(app, _ROUTERS)
