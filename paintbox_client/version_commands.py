"""Commands of `paintbox` for existing versions: tag, verify, delete, restore, gc, export, unalias."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Literal

import typer

from paintbox_client.client import Client
from paintbox_client.connection import AsJson, complete, complete_alias, open_client
from paintbox_client.display import print_json, print_note, print_table, print_text
from paintbox_client.errors import InputError
from paintbox_client.records import JsonObject
from paintbox_client.tables import print_version, print_versions

VersionRef = Annotated[
    str,
    typer.Argument(metavar="VERSION", autocompletion=complete("version"), help="Number, alias or name of the version."),
]
ServingPrecision = Literal["installation", "auto", "fp32", "bf16", "int8"]
ExportFormat = Literal["open_clip", "transformers", "onnx", "openvino"]
version = typer.Typer()


@version.callback(invoke_without_command=True)
def show_program_version(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the version of this program; `show VERSION` shows a version of the model."""
    if ctx.invoked_subcommand is not None:
        return
    number = installed_version("paintbox")
    print_json({"version": number}) if as_json else print_text(f"paintbox {number}")


@version.command("show")
def show_version(ctx: typer.Context, version_ref: VersionRef, as_json: AsJson = False) -> None:
    """Show a version of the model: its terms, aliases and accuracies."""
    with open_client(ctx) as client:
        found = client.version(client.find_version(version_ref))
        aliases = [] if as_json else client.aliases()
    print_json(found) if as_json else print_version(found, aliases)


def tag(
    ctx: typer.Context,
    version_ref: VersionRef,
    tags: Annotated[
        list[str] | None, typer.Argument(metavar="[TAG]...", help="New tags; they replace the old ones.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    precision: Annotated[
        ServingPrecision | None,
        typer.Option(help="Serve it in this precision, where its checks allow it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replace the tags of a version; without tags and options, remove them."""
    new_tags = tags or (None if name or precision else [])
    with open_client(ctx) as client:
        number = client.find_version(version_ref)
        _print_version(client.relabel(number, name, new_tags, precision), as_json)


def verify(
    ctx: typer.Context,
    version_ref: Annotated[
        str | None,
        typer.Argument(metavar="[VERSION]", autocompletion=complete("version"), help="Number or name of the version."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Verify the database and everything it refers to.")] = False,
    as_json: AsJson = False,
) -> None:
    """Recompute and compare the hashes of a version, or of everything with --all; exit status 1 if one differs."""
    if everything == (version_ref is not None):
        raise InputError("Exactly one of VERSION and --all is required.", "List versions with `paintbox versions`.")
    with open_client(ctx) as client:
        if version_ref is None:
            return _verify_all(client, as_json)
        answer = client.verify(client.find_version(version_ref))
    if as_json:
        print_json(answer)
    else:
        words = {True: "equal", False: "DIFFERS", None: "unknown"}
        rows = [(each["what"], each["name"], words[each["matches"]], each["detail"]) for each in answer["checks"]]
        print_table(("WHAT", "NAME", "", "DETAIL"), rows)
    if not answer["matches"]:
        raise typer.Exit(1)


def _verify_all(client: Client, as_json: bool) -> None:
    """Print what is damaged or could not be checked, then a summary."""
    findings = []
    for finding in client.verify_all():
        findings.append(finding)
        if not as_json and finding["ok"] is not True and finding["what"] != "summary":
            word = "DAMAGED" if finding["ok"] is False else "unknown"
            print_text(f"{word}  {finding['what']} {finding['name']}: {finding['detail']}")
    if as_json:
        print_json(findings)
    elif findings:
        print_text(f"{findings[-1]['detail']}.")
    if not findings or findings[-1]["what"] != "summary" or not findings[-1]["ok"]:
        raise typer.Exit(1)


def delete(ctx: typer.Context, version_ref: VersionRef, as_json: AsJson = False) -> None:
    """Move a version to the trash."""
    with open_client(ctx) as client:
        deleted = client.delete_version(client.find_version(version_ref))
    _print_version(deleted, as_json)
    print_note(f"Restore it with `paintbox restore {deleted['id']}` until it is purged.")


def restore(ctx: typer.Context, version_ref: VersionRef, as_json: AsJson = False) -> None:
    """Restore a version from the trash."""
    with open_client(ctx) as client:
        _print_version(client.restore_version(client.find_version(version_ref)), as_json)


def gc(
    ctx: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be deleted, without deleting it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Purge expired versions from the trash and delete unreferenced blobs."""
    with open_client(ctx) as client:
        answer = client.collect_garbage(dry_run)
    if as_json:
        return print_json(answer)
    for kept in answer["kept"]:
        print_note(f"Version {kept['version']} is kept: {kept['reason']}.")
    verb = "Would purge" if dry_run else "Purged"
    counts = f"{len(answer['versions'])} versions, {len(answer['task_vectors'])} task vectors"
    print_text(f"{verb} {counts} and {len(answer['blobs'])} other blobs: {answer['num_bytes']:,} bytes.")


def export(
    ctx: typer.Context,
    version_ref: VersionRef,
    folder: Annotated[Path, typer.Argument(help="New folder to create.")],
    chosen: Annotated[
        ExportFormat,
        typer.Option("--format", help="What opens it: open_clip, transformers, ONNX Runtime or OpenVINO."),
    ] = "open_clip",
    as_json: AsJson = False,
) -> None:
    """Export a version to a folder that open_clip or another package loads."""
    with open_client(ctx) as client:
        files = [str(path) for path in client.export(client.find_version(version_ref), folder, chosen)]
    if as_json:
        return print_json({"folder": str(folder), "files": files})
    for file in files:
        print_text(file)


def unalias(
    ctx: typer.Context,
    alias: Annotated[str, typer.Argument(autocompletion=complete_alias, help="Name of the alias; not `active`.")],
    reason: Annotated[str, typer.Option(help="Reason, recorded in the history.")] = "",
    as_json: AsJson = False,
) -> None:
    """Delete an alias; its history is kept."""
    with open_client(ctx) as client:
        client.delete_alias(alias, reason)
    print_json({"deleted": alias}) if as_json else print_text(f"Deleted alias {alias}.")


def _print_version(version: JsonObject, as_json: bool) -> None:
    print_json(version) if as_json else print_versions([version])
