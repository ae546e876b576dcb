"""What every command shares: which service it talks to, and options that mean the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from paintbox_client.client import Client
from paintbox_client.discovery import resolve_url

AsJson = Annotated[bool, typer.Option("--json", help="Print the service's answer as JSON.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the job.")]


@dataclass(frozen=True)
class Connection:
    """Which service to talk to, as the options before the command say.

    Attributes:
        url: Address; None: find it.
        api_key: Key to send, if any.
    """

    url: str | None = None
    api_key: str | None = None

    def open(self) -> Client:
        """Return a client for this service."""
        return Client(resolve_url(self.url), self.api_key)


def open_client(ctx: typer.Context) -> Client:
    """Return a client for the service that the command line names."""
    connection = ctx.obj
    assert isinstance(connection, Connection)
    return connection.open()
