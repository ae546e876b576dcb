"""The `paintbox` command.

Exit status: 0 success, 1 the service rejected the request or a job failed, 2 wrong usage or configuration, even if only
the service detects it, 3 no service responds, 4 a patch ended without an acceptable alpha, 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Annotated, Any

import typer
from typer.rich_utils import rich_format_error

from paintbox_client.cli_errors import EXIT_REFUSED, as_json, command_of, describe, status_of
from paintbox_client.commands import COMMANDS
from paintbox_client.connection import Connection
from paintbox_client.dataset_commands import datasets
from paintbox_client.display import escape_unencodable, print_error, print_json, print_note, print_text
from paintbox_client.errors import ClientError
from paintbox_client.extensions import ExtensibleGroup
from paintbox_client.feedback_commands import feedback
from paintbox_client.key_commands import keys
from paintbox_client.label_set_commands import label_sets
from paintbox_client.outages import WAIT_SECONDS
from paintbox_client.patch_list_commands import patches
from paintbox_client.transport import DEFAULT_TIMEOUT_SECONDS
from paintbox_client.version_commands import version as version_commands

_WrongUsageError: type[Any] = typer.BadParameter.__mro__[2]
"""Base of what the parser of arguments raises."""

app = typer.Typer(
    name="paintbox",
    cls=ExtensibleGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in COMMANDS:
    app.command()(_command)
app.add_typer(datasets, name="datasets")
app.add_typer(patches, name="patches")
app.add_typer(feedback, name="feedback")
app.add_typer(keys, name="keys")
app.add_typer(label_sets, name="label-sets")
app.add_typer(version_commands, name="version")


def _show_version(wanted: bool) -> None:
    if wanted:
        print_text(f"paintbox {_installed_version()}")
        raise typer.Exit


def _installed_version() -> str:
    """Return the version of whichever distribution brought this command."""
    try:
        return version_of("paintbox")
    except PackageNotFoundError:
        return version_of("paintbox-client")


@app.callback()
def connect(
    ctx: typer.Context,
    url: Annotated[str | None, typer.Option(envvar="PAINTBOX_URL", help="URL of the service.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="PAINTBOX_API_KEY", help="API key.")] = None,
    timeout: Annotated[
        float,
        typer.Option(
            envvar="PAINTBOX_TIMEOUT_SECONDS", min=0.1, help="Timeout in seconds while waiting for the service."
        ),
    ] = DEFAULT_TIMEOUT_SECONDS,
    patience: Annotated[
        float,
        typer.Option(
            envvar="PAINTBOX_PATIENCE_SECONDS", min=0, help="Seconds to retry while the service is unreachable."
        ),
    ] = WAIT_SECONDS,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Patch open-vocabulary image classifiers and serve them."""
    ctx.obj = Connection(url or None, api_key or None, timeout, patience)


def main() -> None:
    """Run the command line and exit with its status; an error is one message with advice.

    With `--json` the error is on standard output, too, as `{"error": …}`: programs always find a document there.
    """
    escape_unencodable()
    arguments = sys.argv[1:]
    is_json, command = "--json" in arguments, command_of(arguments)
    try:
        status = app(prog_name="paintbox", standalone_mode=False)
    except ClientError as error:
        if is_json:
            print_json(as_json(error, command))
        print_error(*describe(error, command))
        sys.exit(status_of(error))
    except _WrongUsageError as error:
        if is_json:
            told = {"code": "wrong_usage", "detail": error.format_message(), "exit_status": error.exit_code}
            print_json({"error": told | {"next": "See --help for commands and options."}})
        rich_format_error(error)
        sys.exit(error.exit_code)
    except typer.Abort:
        print_note("Aborted.")
        sys.exit(EXIT_REFUSED)
    sys.exit(status if isinstance(status, int) else 0)
