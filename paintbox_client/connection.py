"""What every command shares: which service it talks to, and options that mean the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from paintbox_client.client import Client
from paintbox_client.discovery import default_data_dir, find_service, resolve_url
from paintbox_client.display import print_notice
from paintbox_client.outages import WAIT_SECONDS
from paintbox_client.transport import DEFAULT_TIMEOUT_SECONDS

AsJson = Annotated[bool, typer.Option("--json", help="Print the service's answer as JSON.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the job.")]


@dataclass(frozen=True)
class Connection:
    """Which service to talk to, as the options before the command say.

    Attributes:
        url: Address; None: find it.
        api_key: Key to send, if any.
        timeout_seconds: How long the service may be silent.
        patience_seconds: How long to try again while it is out of reach.
    """

    url: str | None = None
    api_key: str | None = None
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    patience_seconds: float = WAIT_SECONDS

    def open(self) -> Client:
        """Return a client for this service, which tells on standard error when it has to wait for it."""
        return Client(
            resolve_url(self.url),
            self.api_key,
            timeout=self.timeout_seconds,
            patience_seconds=self.patience_seconds,
            retry_seconds=self.patience_seconds,
            on_outage=print_notice,
            find_url=None if self.url else (lambda: find_service(default_data_dir())),
        )


def open_client(ctx: typer.Context) -> Client:
    """Return a client for the service that the command line names."""
    connection = ctx.obj
    assert isinstance(connection, Connection)
    return connection.open()
