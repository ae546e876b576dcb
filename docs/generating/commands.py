"""`docs/reference/cli.md`: every command of `paintbox`, as Typer describes it."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

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
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, value in sorted(project["entry-points"][GROUP].items()):  # else their options are told only when they run
        command.commands.setdefault(name, build_command(EntryPoint(name, value, GROUP)))
    text = get_docs_for_click(obj=command, ctx=typer.Context(command, info_name="paintbox"), name="paintbox")
    lines = (_LISTED.sub(r"* `\1`", line.rstrip()) for line in text.replace("```console\n$ ", "```text\n").splitlines())
    _, body = "\n".join(lines).split("\n", 1)
    return "\n\n".join(["# Commands", NOTE, _INTRODUCTION, body.strip()]) + "\n"
