"""`docs/reference/cli.md`: every command of `paintbox`, as Typer describes it."""

from __future__ import annotations

import re
from importlib.metadata import entry_points

import typer
from typer.cli import get_docs_for_click

from docs.generating.markdown import NOTE
from paintbox_client.cli import app
from paintbox_client.extensions import GROUP, ExtensibleGroup, build_command

_LISTED = re.compile(r"^\* `([a-z-]+)`: .*\.\.\.$")
"""A command whose help does not fit into a line of a list; it follows below."""

_INTRODUCTION = """What the commands have in common, such as references, output and exit status: \
[the command line](../client.md)."""


def build_commands() -> str:
    """Return the page."""
    command = typer.main.get_command(app)
    assert isinstance(command, ExtensibleGroup)
    for entry in entry_points(group=GROUP):  # which otherwise tell their options only when they run
        command.commands.setdefault(entry.name, build_command(entry))
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="paintbox"), name="paintbox")
    lines = (_LISTED.sub(r"* `\1`", line.rstrip()) for line in text.replace("```console\n$ ", "```text\n").splitlines())
    _, body = "\n".join(lines).split("\n", 1)
    return "\n\n".join(["# Commands", NOTE, _INTRODUCTION, body.strip()]) + "\n"
