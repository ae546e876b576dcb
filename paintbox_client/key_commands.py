"""`paintbox keys`: commands that create, list and revoke API keys."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from paintbox_client.connection import AsJson, open_client
from paintbox_client.display import print_json, print_note, print_table, print_text
from paintbox_client.records import JsonObject

keys = typer.Typer(no_args_is_help=True, help="Create, list and revoke API keys.")


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"
    CLASSIFY = "classify"
    WRITE = "write"
    ADMIN = "admin"


@keys.command("create")
def create_key(
    ctx: typer.Context,
    name: Annotated[str, typer.Option(help="Name of the owner; resources created with the key belong to it.")],
    scope: Annotated[list[Scope], typer.Option(help="Scope of the key; repeatable. admin includes the others.")],
    expires: Annotated[
        int | None, typer.Option(min=1, metavar="DAYS", help="Days until the key expires. Default: never.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and show its token, once."""
    with open_client(ctx) as client:
        made = client.create_key(name, [each.value for each in scope], expires)
    if as_json:
        return print_json(made)
    print_note(
        f"{made['id']} created for {made['name']} with {', '.join(made['scopes'])}. Save the token; it is shown once."
    )
    print_text(made["token"])


def whoami(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show whose API key is sent, and what it allows."""
    with open_client(ctx) as client:
        session = client.session()
    if as_json:
        return print_json(session)
    who = "no key is required" if session.key_id is None else f"{session.owner} ({session.key_id})"
    print_text(f"{who}: {', '.join(session.scopes)}")


@keys.command("list")
def list_keys(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List keys, newest first."""
    with open_client(ctx) as client:
        items = client.keys()
    print_json(items) if as_json else _print_keys(items)


@keys.command("revoke")
def revoke_key(
    ctx: typer.Context, key_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False
) -> None:
    """Revoke a key permanently; its resources are kept."""
    with open_client(ctx) as client:
        revoked = client.revoke_key(key_id)
    print_json(revoked) if as_json else _print_keys([revoked])


def _print_keys(items: Iterable[JsonObject]) -> None:
    rows = [(each["id"], each["name"], ", ".join(each["scopes"]), each["created_at"], _state(each)) for each in items]
    print_table(("KEY", "NAME", "SCOPES", "CREATED", "STATE"), rows, whole=("KEY",), spare=("CREATED",))


def _state(key: JsonObject) -> str:
    if key["revoked_at"]:
        return f"revoked {key['revoked_at']}"
    if key["expires_at"] is None:
        return "active"
    has_expired = datetime.fromisoformat(key["expires_at"]) <= datetime.now(UTC)
    return f"{'expired' if has_expired else 'active until'} {key['expires_at']}"
