"""Asking for patches."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.jobs.schemas import Job
from app.patches.checks import refuse_what_the_base_cannot
from app.patches.schemas import Patch, PatchStarted
from app.services import Services
from registry.jobs import Jobs
from registry.patch_request import PatchRequest
from registry.patches import Patches
from registry.tables import PatchRow
from registry.versions import Versions


def list_patches(services: Services, limit: int) -> list[Patch]:
    """Return the newest patches first."""
    with services.database.read() as session:
        return [_resource(session, row) for row in Patches(session).newest(limit)]


def get_patch(services: Services, patch_id: str) -> Patch:
    """Return the patch."""
    with services.database.read() as session:
        return _resource(session, Patches(session).get(patch_id))


def start_patch(services: Services, request: PatchRequest) -> PatchStarted:
    """Return the new patch and its queued job; what cannot start is refused at once."""
    with services.database.write() as session:
        row = Patches(session).submit(request, default_base=services.settings.bases[0])
        base = services.bases.get(row.base_fingerprint)
        if base is not None:  # another API of the installation may have loaded it instead
            refuse_what_the_base_cannot(base, request)
        jobs = Jobs(session)
        jobs.mark_rung(row.job_id)
        started = PatchStarted(patch=_resource(session, row), job=Job.of(jobs.get(row.job_id)))
    services.doorbell.ring(started.job.id)
    return started


def _resource(session: Session, row: PatchRow) -> Patch:
    return Patch.of(row, Versions(session).base(row.base_fingerprint), Jobs(session).get(row.job_id))
