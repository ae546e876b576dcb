"""Routes for probes and people who look after the service."""

from __future__ import annotations

from fastapi import APIRouter

from app.access.policies import needs
from app.http.problems import problem_responses
from app.http.services import ServicesDep
from app.system import service
from app.system.schemas import Finding, Live, Ready, System
from app.system.verification import LinesResponse, VerificationResponse
from contract.access import Scope

router = APIRouter(tags=["system"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", responses=problem_responses())
async def live() -> Live:
    """The process answers."""
    return Live()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses=problem_responses(503))
def ready(services: ServicesDep) -> Ready:
    """Classify requests are answered; 503 with the cause if not, or if the process is about to stop."""
    return service.check_ready(services)


@router.get("/v1/system", responses=problem_responses(), dependencies=[needs(Scope.READ)])
def describe_system(services: ServicesDep) -> System:
    """Versions of the software, the device, and which model version answers."""
    return service.describe_system(services)


@router.post(
    "/v1/verify",
    response_class=LinesResponse,
    responses={200: {"model": Finding}, **problem_responses(409)},
    dependencies=[needs(Scope.ADMIN)],
)
def verify(services: ServicesDep) -> VerificationResponse:
    """Check that what is stored has not changed: the database, every blob that a row names, and every version.

    The answer is one JSON object a line, as each thing has been checked; the last one is a summary. It takes as long as
    reading everything, and longer while requests need the cores.
    """
    return VerificationResponse(services)
