"""`paintbox doctor`: checks the installation on this machine and the connection to the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paintbox_client.checks import Check, run_checks, worst
from paintbox_client.connection import AsJson, Connection
from paintbox_client.display import print_json, print_text

_MARKS = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}


def doctor(
    ctx: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Data directory of the installation to check. Default: that of this user, if it exists."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the installation and the connection, and say what to do; exit status 1 if something does not work."""
    given = ctx.obj
    assert isinstance(given, Connection)
    connection = Connection(given.url, given.api_key, min(given.timeout_seconds, 30.0), 0.0)  # no waiting for outages
    checks: list[Check] = []
    for check in run_checks(connection, data_dir):
        checks.append(check)
        if not as_json:
            _show(check)
    if as_json:
        print_json({"status": worst(checks), "checks": [check.as_json() for check in checks]})
    if worst(checks) == "error":
        raise typer.Exit(1)


def _show(check: Check) -> None:
    print_text(f"{_MARKS[check.status]}  {check.name}: {check.detail}")
    if check.advice:
        print_text(f"         {check.advice}")
