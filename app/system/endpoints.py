"""Routes for probes and operators."""

from __future__ import annotations

from fastapi import APIRouter

from app.access.policies import needs
from app.http.problems import problem_responses
from app.system.bases import BaseCatalogueDep, BaseList
from app.system.schemas import Finding, Live, Ready, System
from app.system.service import OverviewDep, ReadinessDep
from app.system.verification import AuditDep, LinesResponse, VerificationResponse
from contract.access import Scope

router = APIRouter(tags=["system"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", responses=problem_responses())
async def live() -> Live:
    """Check that the process responds."""
    return Live()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses=problem_responses(503))
def ready(readiness: ReadinessDep) -> Ready:
    """Check that classify requests are served; 503 with the cause if not, or if the process is shutting down."""
    return readiness.check()


@router.get("/v1/system", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def describe_system(overview: OverviewDep) -> System:
    """Return the software versions, the device and the model versions that are served."""
    return overview.describe()


@router.get("/v1/bases", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def list_bases(catalogue: BaseCatalogueDep) -> BaseList:
    """List the base models of the installation, with what is known of those that are loaded."""
    return catalogue.list()


@router.post(
    "/v1/verify",
    response_class=LinesResponse,
    responses={200: {"model": Finding}, **problem_responses(409)},
    dependencies=[needs(Scope.ADMIN)],
)
def verify(audit: AuditDep) -> VerificationResponse:
    """Verify that stored data is intact: the database, every referenced blob, and every version.

    Returns one JSON object per line as each item is checked; the last one is a summary. It reads all data, and takes
    longer while requests need the CPU.
    """
    return VerificationResponse(audit)
