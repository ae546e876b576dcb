"""`paintbox patches`: lists and deletes patches."""

from __future__ import annotations

from typing import Annotated

import typer

from paintbox_client.connection import AsJson, open_client
from paintbox_client.display import print_json, print_table, print_text

patches = typer.Typer()


@patches.callback(invoke_without_command=True)
def list_patches(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the patches, newest first, or delete one."""
    if ctx.invoked_subcommand is not None:
        return
    with open_client(ctx) as client:
        items = client.patches()
    if as_json:
        return print_json(items)
    rows = [(each["id"], each["name"], each["job"]["status"], each["version_id"], each["created_at"]) for each in items]
    print_table(("PATCH", "NAME", "JOB", "VERSION", "MADE"), rows)


@patches.command("delete")
def delete_patch(ctx: typer.Context, patch_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Delete a patch with its report and its jobs, for good; `paintbox gc` frees its bytes."""
    with open_client(ctx) as client:
        client.delete_patch(patch_id)
    print_text(f"{patch_id} is deleted.")
