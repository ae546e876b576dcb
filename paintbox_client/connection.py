"""Options that all commands share, and the connection to the service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from paintbox_client.client import Client
from paintbox_client.display import print_note, print_notice
from paintbox_client.errors import ClientError
from paintbox_client.outages import WAIT_SECONDS
from paintbox_client.records import AnyRecord, JsonObject
from paintbox_client.transport import DEFAULT_TIMEOUT_SECONDS

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return without waiting for the job.")]
Limit = Annotated[int, typer.Option(min=1, help="Maximum number of items, newest first.")]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="The new name.")]
DEFAULT_LIMIT = 50
WithName = Annotated[str | None, typer.Option("--name", help="Filter by part of the name, in any case.")]
OfOwner = Annotated[str | None, typer.Option("--owner", help="Filter by owner.")]
Since = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only what was created then or later: 2026-11-30T12:00:00Z.")
]
COMPLETION_SECONDS = 2.0


@dataclass(frozen=True)
class Connection:
    """Which service to use, from the options before the command; `url` None: find it."""

    url: str | None = None
    api_key: str | None = None
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    patience_seconds: float = WAIT_SECONDS

    def open(self) -> Client:
        """Return a client for this service, which reports on standard error when it has to wait."""
        return Client(
            self.url,
            self.api_key,
            timeout=self.timeout_seconds,
            patience_seconds=self.patience_seconds,
            retry_seconds=self.patience_seconds,
            on_outage=print_notice,
        )


def take(items: list[AnyRecord], limit: int) -> list[AnyRecord]:
    """Return the requested number of items; note if there are more, for which one more was requested."""
    if len(items) > limit:
        print_note(f"Showing the newest {limit}. Show more with --limit {2 * limit}.")
    return items[:limit]


def given(**options: Any) -> JsonObject:
    """Return the options that were given, as filters of a list."""
    return {name: value for name, value in options.items() if value is not None and value != []}


def complete(kind: str) -> Callable[[typer.Context, str], list[str]]:
    """Return the shell completion of references to a kind of thing, as for `Client.suggest`.

    It completes nothing while no service responds.
    """

    def suggest(ctx: typer.Context, incomplete: str) -> list[str]:
        given = ctx.find_root().params
        try:
            url, key = given.get("url"), given.get("api_key")
            with Client(url, key, timeout=COMPLETION_SECONDS, patience_seconds=0) as client:
                return client.suggest(kind, incomplete)
        except ClientError:
            return []

    return suggest


UsesDataset = Annotated[
    str | None,
    typer.Option("--dataset", autocompletion=complete("dataset"), help="Filter by a data set that it uses."),
]


def find_dataset(client: Client, reference: str | None) -> str | None:
    """Return the id of the data set that an option names; None: it names none."""
    return None if reference is None else client.find("dataset", reference)


def complete_alias(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the aliases that begin so, for the completion of a shell."""
    return [each for each in complete("alias")(ctx, incomplete) if each.startswith(incomplete)]


def open_client(ctx: typer.Context) -> Client:
    """Return a client for the service that the command line names."""
    connection = ctx.obj
    assert isinstance(connection, Connection)
    return connection.open()
