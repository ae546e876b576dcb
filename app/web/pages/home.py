"""The first page: what answers, what runs, what waits for a decision, and what happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response

from app.events.schemas import InstallationEvent
from app.http.dependencies import DatabaseDep, built
from app.jobs.schemas import Job
from app.versions.schemas import Version
from app.versions.service import get_version
from app.web.site import render
from app.web.visitors import VisitorDep
from contract.versions import ACTIVE_ALIAS, CANARY_ALIAS, SHADOW_ALIAS
from registry.activity import Activity
from registry.aliases import Aliases
from registry.approvals import Approvals
from registry.patches import Patches
from registry.tables import AliasApprovalRow, AliasHistoryRow, PatchRow

router = APIRouter(prefix="/ui", include_in_schema=False)

NUM_EVENTS, NUM_JOBS, NUM_PATCHES = 12, 20, 20


@dataclass(frozen=True)
class Served:
    """An alias that answers requests, the version that it names, and its last move."""

    alias: str
    version: Version
    move: AliasHistoryRow | None


@dataclass(frozen=True)
class Front:
    """Reads what the first page shows."""

    database: DatabaseDep

    def served(self) -> list[Served]:
        """Return the aliases with traffic."""
        with self.database.read() as session:
            aliases = Aliases(session)
            named = {row.name: row.version_id for row in aliases.all()}
            shown = [name for name in (ACTIVE_ALIAS, CANARY_ALIAS, SHADOW_ALIAS) if name in named]
            moves = {name: next(iter(aliases.history(name, 1)), None) for name in shown}
        return [Served(name, get_version(self.database, named[name]), moves[name]) for name in shown]

    def jobs(self) -> list[Job]:
        """Return the newest unfinished jobs, without child jobs."""
        with self.database.read() as session:
            return [Job.of(row) for row in Activity(session).unfinished(NUM_JOBS) if row.parent_id is None]

    def waiting(self) -> tuple[list[AliasApprovalRow], list[PatchRow]]:
        """Return moves that wait for approval, and new patches whose versions were never served."""
        with self.database.read() as session:
            return (
                list(Approvals(session).pending(NUM_PATCHES)),
                list(Patches(session).undecided(NUM_PATCHES)),
            )

    def events(self) -> list[InstallationEvent]:
        """Return what happened last, newest first."""
        with self.database.read() as session:
            entries, _ = Activity(session).newest(NUM_EVENTS)
            return [InstallationEvent.of(*each) for each in reversed(entries)]


FrontDep = Annotated[Front, built(Front)]


@router.get("")
def leave_out_nothing() -> Response:
    """Redirect to the address with a slash."""
    return RedirectResponse("/ui/", status_code=308)


@router.get("/")
def show_home(visitor: VisitorDep, front: FrontDep) -> Response:
    """Show the first page; whoever may only classify is led to the playground."""
    if not visitor.may("read"):
        return RedirectResponse("/ui/playground", status_code=303)
    approvals, patches = front.waiting()
    return render(
        "home.html",
        visitor,
        served=front.served(),
        jobs=front.jobs(),
        approvals=approvals,
        patches=patches,
        events=front.events(),
    )
