"""`paintbox extend` and `paintbox forget`: continue an instant patch with more data sets, or without some classes."""

from __future__ import annotations

from typing import Annotated

import typer

from paintbox_client.connection import AsJson, complete, open_client
from paintbox_client.patch_commands import wait_and_show
from paintbox_client.patch_list_commands import PatchRef

NameOption = Annotated[str | None, typer.Option("--name", help="Name of the new patch. Default: that of the old one.")]


def extend(
    ctx: typer.Context,
    patch: PatchRef,
    task: Annotated[
        list[str],
        typer.Option(
            autocompletion=complete("dataset"), help="Data set with more images or classes, by name or id; repeatable."
        ),
    ],
    name: NameOption = None,
    as_json: AsJson = False,
) -> None:
    """Continue an instant patch with more data sets, and wait for its report."""
    with open_client(ctx) as client:
        tasks = [client.find("dataset", each, is_used=True) for each in task]
        wait_and_show(client, client.extend_patch(client.find("patch", patch), tasks, name), as_json)


def forget(
    ctx: typer.Context,
    patch: PatchRef,
    classname: Annotated[list[str], typer.Option("--class", help="Class to leave out; repeatable.")],
    name: NameOption = None,
    as_json: AsJson = False,
) -> None:
    """Continue an instant patch without some classes, and wait for its report."""
    with open_client(ctx) as client:
        wait_and_show(client, client.forget_classes(client.find("patch", patch), classname, name), as_json)
