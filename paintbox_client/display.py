"""How the command line shows things: JSON or tables on standard output, progress and errors on standard error."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from paintbox_client.cleaning import clean, is_command
from paintbox_client.errors import ServiceUnreachableError
from paintbox_client.records import JsonObject

_POLL_SECONDS = 0.3
_LINE_EVERY = 0.1  # without a terminal, a line for each tenth

_UNFOLDED_COLUMNS = 1000
_MIN_WIDTH = 4


def print_json(value: Any) -> None:
    """Write a value as JSON, on its own and unwrapped, so that a program can read it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if not text.isprintable():
        text = "".join(each if each == "\n" or not is_command(each) else json.dumps(each)[1:-1] for each in text)
    _console().print(text)


def print_text(text: str) -> None:
    """Print to standard output without interpreting markup."""
    _console().print(clean(text, keep_lines=True))


def print_note(text: str) -> None:
    """Print to standard error: information for people that is not part of the result."""
    _console(stderr=True).print(clean(text, keep_lines=True))


def print_notice(text: str) -> None:
    """Print a line to standard error, above a progress bar if there is one."""
    sys.stderr.write(f"{clean(text)}\n")  # which the bar listens to
    sys.stderr.flush()


def print_error(detail: str, next_step: str = "") -> None:
    """Print an error, and below it what to do next, to standard error."""
    console = _console(stderr=True)
    console.print(Text.assemble(("Error: ", "bold red"), clean(detail, keep_lines=True)))
    if next_step:
        console.print(Text(clean(next_step, keep_lines=True)))


def print_warning(text: str) -> None:
    """Print a warning to standard error."""
    _console(stderr=True).print(Text.assemble(("Warning: ", "bold yellow"), clean(text)))


def escape_unencodable() -> None:
    """Make standard output and error escape what their encoding cannot represent, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, whole: Collection[str] = (), spare: Sequence[str] = ()
) -> None:
    """Print rows below their column names; None is shown as a dash.

    Args:
        columns: Names.
        rows: A cell for each column.
        whole: Columns that are never wrapped, because people copy them.
        spare: Columns to leave out, the first one first, while the terminal is too narrow for all.
    """
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:  # output for programs is not wrapped
        console.width = _UNFOLDED_COLUMNS
    cells = [["-" if cell is None else clean(cell) for cell in row] for row in rows]
    needed = [max(cell_len(each) for each in (name, *(row[at] for row in cells))) for at, name in enumerate(columns)]
    shown = _fitting(columns, needed, console.width, spare)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for at in shown:
        least = needed[at] if columns[at] in whole else min(needed[at], _MIN_WIDTH)
        table.add_column(Text(clean(columns[at])), overflow="fold", min_width=least)
    for row in cells:
        table.add_row(*(Text(row[at]) for at in shown))
    console.print(table)


def _fitting(columns: Sequence[str], needed: Sequence[int], width: int, spare: Sequence[str]) -> list[int]:
    """Return which columns to show: all, or fewer if their texts do not fit side by side."""
    shown = list(range(len(columns)))
    for name in spare:
        if sum(needed[at] + 2 for at in shown) - 2 <= width:
            break
        shown.remove(list(columns).index(name))
    return shown


def describe_job(job: JsonObject) -> str:
    """Return where a job stands, as `finetune, 2 min to go` or, before it runs, `queued`."""
    stage = clean((job["stage"] or "starting") if job["status"] == "running" else job["status"])
    eta = job.get("eta_seconds")
    return f"{stage}, {_duration(eta)} to go" if job["status"] == "running" and eta is not None else stage


class Waiter(Protocol):
    """A client, as far as it is needed here."""

    def wait_for_job(
        self, job_id: str, on_update: Callable[[JsonObject], object] | None = None, poll_seconds: float = 0.5
    ) -> JsonObject:
        """Return a job once it has succeeded."""


def watch_job(client: Waiter, job_id: str, title: str, console: Console | None = None) -> JsonObject:
    """Return a job once it has succeeded; meanwhile show how far it is.

    Args:
        client: Connection to the service.
        job_id: The job.
        title: Display name of the work.
        console: Where to show it; default: standard error.

    Raises:
        JobFailedError: It failed or was cancelled.
    """
    try:
        with show_progress(title, console) as show:
            return client.wait_for_job(job_id, show, _POLL_SECONDS)
    except (KeyboardInterrupt, ServiceUnreachableError):
        print_note(
            f"\nThe job continues. Show it with `paintbox job {job_id}`, cancel it with `paintbox cancel {job_id}`."
        )
        raise


@contextmanager
def show_progress(title: str, console: Console | None = None) -> Iterator[Callable[[JsonObject], object]]:
    """Yield a function that shows how far a job is: as a progress bar, or in lines if the output is not a terminal.

    Args:
        title: Display name of the work.
        console: Where to show it; default: standard error.
    """
    shown = console or Console(stderr=True, highlight=False)
    if not shown.is_terminal:
        yield _lines(clean(title), shown)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TextColumn("{task.fields[state]}", markup=False), console=shown) as progress:
        bar = progress.add_task(clean(title), total=1.0, state="")
        yield lambda job: progress.update(bar, completed=job["progress"], state=describe_job(job))


def _lines(title: str, console: Console) -> Callable[[JsonObject], object]:
    last: list[object] = []

    def show(job: JsonObject) -> None:
        state = [job["status"], job["stage"], int(job["progress"] / _LINE_EVERY)]
        if state != last:
            last[:] = state
            console.print(Text(f"{title}: {job['progress']:4.0%}  {describe_job(job)}"))

    return show


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
