"""`paintbox label-sets`: the commands that store, list and remove label sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paintbox_client.connection import DEFAULT_LIMIT, AsJson, Limit, complete, open_client, take
from paintbox_client.display import print_json, print_note, print_table, print_text
from paintbox_client.errors import InputError

LabelSetRef = Annotated[
    str,
    typer.Argument(
        metavar="LABEL_SET",
        autocompletion=complete("label_set"),
        help="Name or id of the label set, or the beginning of either.",
    ),
]
label_sets = typer.Typer(no_args_is_help=True, help="Create, list, show and delete label sets.")


@label_sets.command("create")
def create_label_set(
    ctx: typer.Context,
    label: Annotated[list[str] | None, typer.Option(help="Candidate label; repeatable.")] = None,
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Text file with one label per line.")
    ] = None,
    template: Annotated[list[str] | None, typer.Option(help="Prompt template with {}; repeatable.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the label set.")] = None,
    as_json: AsJson = False,
) -> None:
    """Store a label set and print its id for `classify --label-set`."""
    labels = [*(label or ()), *(_lines(file) if file else ())]
    if not labels:
        raise InputError("No labels were given.", "Use --label (repeatable) or --file.")
    with open_client(ctx) as client:
        made = client.create_label_set(labels, template or (), name)
    if as_json:
        return print_json(made)
    print_note(f"{made['num_labels']} labels.")
    print_text(made["id"])


@label_sets.command("list")
def list_label_sets(ctx: typer.Context, limit: Limit = DEFAULT_LIMIT, as_json: AsJson = False) -> None:
    """List label sets, newest first."""
    with open_client(ctx) as client:
        items = take(client.label_sets(limit + 1), limit)
    if as_json:
        return print_json(items)
    rows = [(each["name"], each["num_labels"], each["created_at"], each["id"]) for each in items]
    print_table(("NAME", "LABELS", "CREATED", "LABEL SET"), rows, whole=("LABEL SET",), spare=("CREATED",))


@label_sets.command("show")
def show_label_set(ctx: typer.Context, label_set_ref: LabelSetRef, as_json: AsJson = False) -> None:
    """Show the labels of a label set, one per line."""
    with open_client(ctx) as client:
        found = client.label_set(client.find("label_set", label_set_ref))
    if as_json:
        return print_json(found)
    for label in found["labels"]:
        print_text(label)


@label_sets.command("delete")
def delete_label_set(ctx: typer.Context, label_set_ref: LabelSetRef, as_json: AsJson = False) -> None:
    """Delete a label set."""
    with open_client(ctx) as client:
        identifier = client.find("label_set", label_set_ref)
        client.delete_label_set(identifier)
    print_json({"deleted": identifier}) if as_json else print_text(f"Deleted {identifier}.")


def _lines(file: Path) -> list[str]:
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]
