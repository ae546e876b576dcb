"""The route of the installation's events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app.access.callers import CallerDep
from app.access.policies import needs
from app.events.schemas import InstallationEvent, InstallationEvents
from app.events.streaming import InstallationStreamsDep
from app.http.dependencies import DatabaseDep
from app.http.invalid import invalid
from app.http.problems import problem_responses
from app.jobs.streaming import EventStreamResponse, wants_stream
from contract.access import Scope
from registry.activity import Activity, Position
from registry.database import Database

_MAX_LENGTH = 40
router = APIRouter(prefix="/v1/events", tags=["events"])


@router.get(
    "",
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **problem_responses(429),
    },
    response_model=InstallationEvents,
    response_model_exclude_unset=True,
    dependencies=[needs(Scope.READ)],
)
async def list_events(
    request: Request,
    database: DatabaseDep,
    streams: InstallationStreamsDep,
    caller: CallerDep,
    after: Annotated[
        str | None,
        Query(max_length=_MAX_LENGTH, description="Id of the last event that is known already, or `0-0` for all"),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Maximum number of events")] = 100,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            max_length=_MAX_LENGTH,
            description="Resumes a stream after the event with this id",
        ),
    ] = None,
) -> InstallationEvents | Response:
    """List what happened in the installation: jobs that were queued, started and ended, and moves of aliases.

    Returns the events after `after`, oldest first; without it, the newest ones.

    With `Accept: text/event-stream`, events are streamed as they happen, from now on or after `Last-Event-ID`. In
    addition, an event `job` contains each queued or running job whenever it changes. The first event, `position`, says
    where the stream starts.
    """
    if wants_stream(request):
        known = last_event_id or after
        name = "Last-Event-ID" if last_event_id else "after"
        position = None if not known else _parse(known, "header" if last_event_id else "query", name)
        return EventStreamResponse(streams.open(position, caller.owner))
    return await run_in_threadpool(_page, database, None if after is None else _parse(after, "query", "after"), limit)


def _parse(text: str, place: str, name: str) -> Position:
    position = Position.parse(text)
    if position is None:
        raise invalid("is not the id of an event, such as `120-7`", place, name)
    return position


def _page(database: Database, after: Position | None, limit: int) -> InstallationEvents:
    with database.read() as session:
        activity = Activity(session)
        entries, last = activity.newest(limit) if after is None else activity.after(after, limit)
        return InstallationEvents(items=[InstallationEvent.of(*each) for each in entries], next_after=str(last))
