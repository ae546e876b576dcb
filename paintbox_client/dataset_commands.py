"""The commands of `paintbox` that are about data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paintbox_client.archives import title_of
from paintbox_client.connection import DEFAULT_LIMIT, AsJson, Limit, NoWait, complete, open_client, take
from paintbox_client.display import print_json, print_note, print_text, watch_job
from paintbox_client.errors import InputError
from paintbox_client.options import DatasetState
from paintbox_client.tables import print_dataset, print_datasets

_SPLIT_OF = "FOLDER=train, validation, test or ignore; repeatable. `none`: no folder names a split."


def upload(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(exists=True, readable=True, help="Archive, Parquet file or folder.")],
    name: Annotated[str | None, typer.Option(help="For people. Default: the file's name.")] = None,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="A pool of images without classes, for the anchors of a patch.")
    ] = False,
    template: Annotated[list[str] | None, typer.Option(help="Prompt with {}; repeatable.")] = None,
    classname: Annotated[list[str] | None, typer.Option(help="CLASS=NAME as prompts say it; repeatable.")] = None,
    manifest: Annotated[str | None, typer.Option(help="Path of the CSV manifest within it.")] = None,
    layout: Annotated[str | None, typer.Option(help="Layout to read it in. Default: recognised.")] = None,
    root: Annotated[str | None, typer.Option(help="Folder within it to read.")] = None,
    class_level: Annotated[int | None, typer.Option(min=1, help="Folder below the root that names the class.")] = None,
    split_of: Annotated[list[str] | None, typer.Option(help=_SPLIT_OF)] = None,
    path_column: Annotated[str | None, typer.Option(help="Column of a table that names the images.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of a table that names the classes.")] = None,
    webhook: Annotated[str | None, typer.Option(help="URL that is told when the job has ended.")] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Upload images and make them ready.

    A zip, tar, tar.gz or tar.zst archive, or a folder: of class folders, of images with metadata.csv, .jsonl or
    .parquet, of images with a CSV manifest, of Parquet files or of WebDataset shards; or one Parquet file. Links are
    followed. With --unlabelled: any images, in whatever folders.
    """
    with open_client(ctx) as client:
        dataset = client.upload_dataset(
            path,
            name or title_of(path),
            template or (),
            _parse_names(classname),
            manifest,
            webhook,
            unlabelled=unlabelled,
            on_note=print_note,
            layout=layout,
            root=root,
            class_level=class_level,
            split_of=_parse_splits(split_of),
            path_column=path_column,
            label_column=label_column,
        )
        if name and dataset["name"] != name:
            print_note(
                f"The same files were uploaded before as {dataset['name']!r}: this is that data set, with its name. "
                f"`paintbox derive {dataset['id']} --name NAME` makes one of another name."
            )
        if not no_wait and dataset["state"] != "ready":
            watch_job(client, dataset["job"]["id"], f"Reading {dataset['name']}")
            dataset = client.dataset(dataset["id"])
        if as_json:
            return print_json(dataset)
        print_dataset(dataset)


DatasetRef = Annotated[
    str, typer.Argument(metavar="DATASET", autocompletion=complete("dataset"), help="Its name or id, or a beginning.")
]
datasets = typer.Typer()


@datasets.callback(invoke_without_command=True)
def list_datasets(
    ctx: typer.Context,
    status: Annotated[list[DatasetState] | None, typer.Option(help="Only these; repeatable.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
) -> None:
    """List the data sets, newest first, or delete one."""
    if ctx.invoked_subcommand is not None:
        return
    with open_client(ctx) as client:
        items = take(client.datasets(limit + 1, state=status or []), limit)
    print_json(items) if as_json else print_datasets(items)


@datasets.command("delete")
def delete_dataset(
    ctx: typer.Context,
    dataset_ref: DatasetRef,
    force: Annotated[bool, typer.Option("--force", help="Also if patches that have ended name it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a data set for good; `paintbox gc` frees its bytes."""
    with open_client(ctx) as client:
        identifier = client.find("dataset", dataset_ref)
        client.delete_dataset(identifier, force)
    print_json({"deleted": identifier}) if as_json else print_text(f"{identifier} is deleted.")


def dataset(ctx: typer.Context, dataset_ref: DatasetRef, as_json: AsJson = False) -> None:
    """Show one data set: its images, what was left out and why, and pictures that are in more than one split."""
    with open_client(ctx) as client:
        found = client.dataset(client.find("dataset", dataset_ref))
    print_json(found) if as_json else print_dataset(found)


def derive(
    ctx: typer.Context,
    dataset_ref: DatasetRef,
    name: Annotated[str, typer.Option(help="Name of the new data set.")],
    template: Annotated[list[str] | None, typer.Option(help="Prompt with {}; repeatable. Default: as before.")] = None,
    classname: Annotated[list[str] | None, typer.Option(help="OLD=NEW name of a class; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a data set of another's images with other class names or prompts, without an upload."""
    with open_client(ctx) as client:
        source = client.find("dataset", dataset_ref, is_used=True)
        made = client.derive_dataset(source, name, _parse_names(classname), template or None)
    print_json(made) if as_json else print_datasets([made])


def _parse_names(pairs: list[str] | None) -> dict[str, str]:
    names = {}
    for pair in pairs or ():
        folder, separator, name = pair.partition("=")
        if not separator or not folder or not name:
            raise InputError(f"--classname {pair!r} is not CLASS=NAME.", "Write, say, --classname 0='digit zero'.")
        names[folder] = name
    return names


def _parse_splits(pairs: list[str] | None) -> dict[str, str] | None:
    if not pairs:
        return None
    splits = {}
    for pair in pairs:
        if pair == "none":
            continue
        folder, separator, split = pair.rpartition("=")
        if not separator or not folder or not split:
            raise InputError(f"--split-of {pair!r} is not FOLDER=SPLIT.", "Write, say, --split-of extra=ignore.")
        splits[folder] = split
    return splits
