"""How the command line shows things: JSON or tables on standard output, progress and errors on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from paintbox_client.client import Client, JsonObject
from paintbox_client.errors import ClientError

_LINE_EVERY = 0.1  # where nobody watches a bar, a line for each tenth

_UNFOLDED_COLUMNS = 1000


def print_json(value: Any) -> None:
    """Write a value as JSON, on its own and unwrapped, so that a program can read it."""
    Console(highlight=False, markup=False, soft_wrap=True).print(json.dumps(value, indent=2, ensure_ascii=False))


def print_text(text: str) -> None:
    """Write text as it is: names that people gave may look like markup."""
    Console(highlight=False, markup=False, soft_wrap=True).print(text)


def print_note(text: str) -> None:
    """Write text to standard error: for people, not part of the result."""
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(text)


def print_error(error: ClientError) -> None:
    """Write what is wrong, and below it what to do next, to standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("Error: ", "bold red"), error.detail))
    if error.next:
        console.print(Text(error.next))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows below their column names; None is shown as a dash."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:  # a program that reads lines must not find them folded
        console.width = _UNFOLDED_COLUMNS
    console.print(table)


def describe_job(job: JsonObject) -> str:
    """Return where a job stands, as `finetune, 2 min to go` or, before it runs, `queued`."""
    stage = job["stage"] if job["status"] == "running" and job["stage"] else job["status"]
    eta = job.get("eta_seconds")
    return f"{stage}, {_duration(eta)} to go" if job["status"] == "running" and eta is not None else str(stage)


def watch_job(client: Client, job_id: str, title: str, console: Console | None = None) -> JsonObject:
    """Return a job once it has succeeded, with a live progress bar meanwhile, or lines where nobody can watch one.

    Args:
        client: Connection to the service.
        job_id: The job.
        title: What it does, for people.
        console: Where to show it; left out: standard error.

    Returns:
        The job, `succeeded`.

    Raises:
        JobFailedError: It failed or was cancelled.
    """
    shown = console or Console(stderr=True, highlight=False)
    try:
        return (_watch_live if shown.is_terminal else _watch_in_lines)(client, job_id, title, shown)
    except KeyboardInterrupt:
        print_note(
            f"\nThe job goes on. Look at it with `paintbox job {job_id}`, end it with `paintbox cancel {job_id}`."
        )
        raise


def _watch_live(client: Client, job_id: str, title: str, console: Console) -> JsonObject:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TextColumn("{task.fields[state]}", markup=False), console=console) as progress:
        bar = progress.add_task(title, total=1.0, state="")
        return client.wait_for_job(
            job_id, lambda job: progress.update(bar, completed=job["progress"], state=describe_job(job)), 0.3
        )


def _watch_in_lines(client: Client, job_id: str, title: str, console: Console) -> JsonObject:
    last: list[object] = []

    def show(job: JsonObject) -> None:
        state = [job["status"], job["stage"], int(job["progress"] / _LINE_EVERY)]
        if state != last:
            last[:] = state
            console.print(Text(f"{title}: {job['progress']:4.0%}  {describe_job(job)}"))

    return client.wait_for_job(job_id, show)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
