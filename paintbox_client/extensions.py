"""Commands that other packages add to `paintbox`, through the entry-point group `paintbox.commands`.

Naming one must cost nothing until it runs: `paintbox up` loads the server, `paintbox --help` must not. So its help text
is read from its source, which is parsed and not run, and its module is imported when its arguments are read.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from paintbox_client.errors import InputError

GROUP = "paintbox.commands"


class LazyCommand(TyperCommand):
    """A command of which only name and help are known until it is invoked; `entry_point` names a Typer function."""

    def __init__(self, entry_point: EntryPoint) -> None:
        super().__init__(entry_point.name, help=read_summary(entry_point))
        self._entry_point = entry_point

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return the context of the real command, with its arguments read."""
        return build_command(self._entry_point).make_context(info_name, args, parent=parent, **extra)


class ExtensibleGroup(TyperGroup):
    """A group of commands that installed packages add to. A command of its own wins over one that is added."""

    @cached_property
    def _added(self) -> dict[str, LazyCommand]:
        found = entry_points(group=GROUP)
        return {entry.name: LazyCommand(entry) for entry in found if entry.name not in self.commands}

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, extensions first."""
        return [*sorted(self._added), *self.commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of this name, or None."""
        return self.commands.get(cmd_name) or self._added.get(cmd_name)


def read_summary(entry_point: EntryPoint) -> str:
    """Return the first line of the docstring of the function that an entry point names, without running its module."""
    try:
        spec = importlib.util.find_spec(entry_point.module)
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except (ImportError, OSError, SyntaxError, AssertionError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry_point.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def build_command(entry_point: EntryPoint) -> Any:
    """Return the command of an entry point; its module is imported.

    Raises:
        InputError: The module cannot be imported.
    """
    try:
        function: Callable[..., Any] = entry_point.load()
    except ImportError as error:
        raise InputError(
            f"`paintbox {entry_point.name}` cannot be loaded: {error}.", "Install Paintbox with all its dependencies."
        ) from error
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(entry_point.name)(function)
    return typer.main.get_command(single)
