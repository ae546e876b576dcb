"""`paintbox events`: what happens in the installation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from paintbox_client.connection import AsJson, open_client
from paintbox_client.display import print_json, print_table, print_text
from paintbox_client.resources.jobs import InstallationEvent


def events(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Maximum number of events.")] = 20,
    after: Annotated[str | None, typer.Option(metavar="EVENT", help="Show only what followed this event.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Print events as they happen, until interrupted.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what happened: jobs that were queued, started and ended, and moves of aliases, oldest first."""
    with open_client(ctx) as client:
        if follow:
            for event in client.follow_events(after):
                print_json(event) if as_json else print_text("  ".join(_row(event)))
        items = client.events(after, limit)
    print_json(items) if as_json else _print(items)


def _print(items: Iterable[InstallationEvent]) -> None:
    print_table(("time", "event", "what", "by"), [_row(each) for each in items])


def _row(event: InstallationEvent) -> tuple[str, str, str, str]:
    at = event.at[:19].replace("T", " ")
    if event.move is not None:
        move = event.move
        versions = " → ".join("none" if each is None else str(each) for each in (move.from_version, move.to_version))
        return at, event.message, f"{move.alias}: {versions}", move.actor
    job = event.job
    assert job is not None
    return at, event.message, f"{job.kind} of {job.name or job.subject_id} ({job.id})", job.owner or ""
