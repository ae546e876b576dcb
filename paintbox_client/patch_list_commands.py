"""`paintbox patches` lists, renames and deletes patches; `paintbox report` shows the report of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paintbox_client.connection import (
    DEFAULT_LIMIT,
    AsJson,
    Limit,
    NewName,
    OfOwner,
    Since,
    UsesDataset,
    WithName,
    complete,
    find_dataset,
    given,
    open_client,
    take,
)
from paintbox_client.display import print_json, print_note, print_text
from paintbox_client.errors import ApiError, InputError
from paintbox_client.options import JobStatus
from paintbox_client.plots import draw_frontier
from paintbox_client.reports import print_report
from paintbox_client.tables import print_patches

PatchRef = Annotated[
    str,
    typer.Argument(
        metavar="PATCH", autocompletion=complete("patch"), help="Name or id, or number of a version of the patch."
    ),
]
patches = typer.Typer()


@patches.callback(invoke_without_command=True)
def list_patches(
    ctx: typer.Context,
    status: Annotated[list[JobStatus] | None, typer.Option(help="Filter by status; repeatable.")] = None,
    dataset: UsesDataset = None,
    name: WithName = None,
    owner: OfOwner = None,
    since: Since = None,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
) -> None:
    """List patches, newest first, rename one, or delete one."""
    if ctx.invoked_subcommand is not None:
        return
    with open_client(ctx) as client:
        filters = given(status=status, dataset=find_dataset(client, dataset), name=name, owner=owner, since=since)
        items = take(client.patches(limit + 1, **filters), limit)
    print_json(items) if as_json else print_patches(items)


@patches.command("delete")
def delete_patch(ctx: typer.Context, patch_ref: PatchRef, as_json: AsJson = False) -> None:
    """Delete a patch with its report and jobs permanently; `paintbox gc` frees the space."""
    with open_client(ctx) as client:
        identifier = client.find("patch", patch_ref)
        client.delete_patch(identifier)
    print_json({"deleted": identifier}) if as_json else print_text(f"Deleted {identifier}.")


@patches.command("rename")
def rename_patch(ctx: typer.Context, patch_ref: PatchRef, name: NewName, as_json: AsJson = False) -> None:
    """Change the name of a patch; its id stays, and so do the names of its versions."""
    with open_client(ctx) as client:
        renamed = client.rename_patch(client.find("patch", patch_ref), name)
    print_json(renamed) if as_json else print_patches([renamed])


def report(
    ctx: typer.Context,
    patch_ref: PatchRef,
    curve: Annotated[bool, typer.Option("--curve", help="Also show the accuracies at every alpha.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write the accuracy frontier to this SVG file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report to this HTML file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the report of a patch: accuracies, changes with confidence intervals, and warnings."""
    with open_client(ctx) as client:
        done = client.patch(client.find("patch", patch_ref))
        active = client.active()["version"]
        version = client.version(int(patch_ref)) if patch_ref.isdecimal() else None
        page = client.report_page(done["id"]) if html is not None and done["report"] is not None else None
    if done["report"] is None:
        state, job = done["job"]["status"], done["job_id"]
        advice = f"Wait for it with `paintbox job {job} --wait`."
        raise ApiError(409, "no_report", f"Patch {done['id']} has no report yet: its job is {state}.", advice)
    if plot is not None:
        write_text(plot, draw_frontier(done))
    if page is not None and html is not None:
        write_text(html, page)
    if as_json:
        return print_json(done)
    print_report(done, active, curve=curve)
    if version is not None and version["id"] != done["version_id"]:
        print_note(
            f"Version {version['id']} ({version['name']}) was created from this patch later: show it with "
            f"`paintbox version show {version['id']}`."
        )


def write_text(path: Path, text: str) -> None:
    """Write a file and say so; `InputError` if it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.", "Use another file name.") from error
    print_note(f"Written: {path}")
