"""The commands of `paintbox` that are about data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paintbox_client.archives import title_of
from paintbox_client.collecting import parse_sources
from paintbox_client.connection import (
    DEFAULT_LIMIT,
    AsJson,
    Limit,
    NewName,
    NoWait,
    OfOwner,
    Since,
    WithName,
    complete,
    given,
    open_client,
    take,
)
from paintbox_client.display import print_json, print_note, print_text, watch_job
from paintbox_client.errors import InputError
from paintbox_client.galleries import save_thumbnails
from paintbox_client.options import DatasetState, SplitAssignment, SplitName, ThumbnailSize
from paintbox_client.tables import print_dataset, print_datasets, print_images

_FROM = (
    "Data set to collect from: all of it, a split, rows such as `digits:train:0-9,12`, or a class, as in "
    "`digits:train:label=zero`; repeatable."
)
_SPLIT_OF = "FOLDER=train, validation, test or ignore; repeatable. `none`: no folder is a split."


def upload(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(exists=True, readable=True, help="Archive, Parquet file or folder.")],
    name: Annotated[str | None, typer.Option(help="Name of the data set. Default: the file name.")] = None,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Upload a pool of images without classes, for the anchors of a patch.")
    ] = False,
    template: Annotated[list[str] | None, typer.Option(help="Prompt template with {}; repeatable.")] = None,
    classname: Annotated[
        list[str] | None, typer.Option(help="CLASS=NAME, display name of a class in prompts; repeatable.")
    ] = None,
    manifest: Annotated[str | None, typer.Option(help="Path of the CSV manifest within the upload.")] = None,
    layout: Annotated[str | None, typer.Option(help="Layout of the upload. Default: detected.")] = None,
    root: Annotated[str | None, typer.Option(help="Folder within the upload to read.")] = None,
    class_level: Annotated[
        int | None, typer.Option(min=1, help="Level of the class folder, counted from 1 below the root.")
    ] = None,
    split_of: Annotated[list[str] | None, typer.Option(help=_SPLIT_OF)] = None,
    path_column: Annotated[str | None, typer.Option(help="Table column with image paths.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Table column with class labels.")] = None,
    webhook: Annotated[str | None, typer.Option(help="URL to call when the job ends.")] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Upload labelled images as a data set.

    PATH is an archive (zip, tar, tar.gz, tar.zst), a folder or a Parquet file. Supported layouts: class folders, images
    with metadata.csv, .jsonl or .parquet, images with a CSV manifest, Parquet files, WebDataset shards. Symbolic links
    are followed. With --unlabelled: images in any folders.
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
                f"These files were already uploaded as {dataset['name']!r}; using that data set. For another name, run "
                f"`paintbox derive {dataset['id']} --name NAME`."
            )
        if not no_wait and dataset["state"] != "ready":
            watch_job(client, dataset["job"]["id"], f"Reading {dataset['name']}")
            dataset = client.dataset(dataset["id"])
        if as_json:
            return print_json(dataset)
        print_dataset(dataset)


DatasetRef = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        autocompletion=complete("dataset"),
        help="Name or id of the data set, or the beginning of either.",
    ),
]
datasets = typer.Typer()


@datasets.callback(invoke_without_command=True)
def list_datasets(
    ctx: typer.Context,
    status: Annotated[list[DatasetState] | None, typer.Option(help="Filter by status; repeatable.")] = None,
    name: WithName = None,
    owner: OfOwner = None,
    since: Since = None,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
) -> None:
    """List data sets, newest first, look at images, collect them into a new data set, or delete one."""
    if ctx.invoked_subcommand is not None:
        return
    with open_client(ctx) as client:
        filters = given(state=status, name=name, owner=owner, since=since)
        items = take(client.datasets(limit + 1, **filters), limit)
    print_json(items) if as_json else print_datasets(items)


@datasets.command("delete")
def delete_dataset(
    ctx: typer.Context,
    dataset_ref: DatasetRef,
    force: Annotated[
        bool, typer.Option("--force", help="Delete it even if finished patches or evaluations refer to it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a data set permanently; `paintbox gc` frees the space."""
    with open_client(ctx) as client:
        identifier = client.find("dataset", dataset_ref)
        client.delete_dataset(identifier, force)
    print_json({"deleted": identifier}) if as_json else print_text(f"Deleted {identifier}.")


@datasets.command("images")
def list_images(
    ctx: typer.Context,
    dataset_ref: DatasetRef,
    split: Annotated[SplitName | None, typer.Option(help="Only the images of this split.")] = None,
    label: Annotated[str | None, typer.Option(help="Only the images of this class.")] = None,
    file: Annotated[str | None, typer.Option(help="Only the images with this path in the upload.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of images, in the order of their rows.")] = 50,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write thumbnails to FOLDER, as SPLIT-ROW.webp.")
    ] = None,
    size: Annotated[ThumbnailSize, typer.Option(help="Longer side of the thumbnails in pixels.")] = "256",
    as_json: AsJson = False,
) -> None:
    """List the images of a data set, and save thumbnails of them."""
    with open_client(ctx) as client:
        identifier = client.find("dataset", dataset_ref)
        items = client.dataset_images(identifier, split, label, limit, file)
        if save is not None:
            save_thumbnails(client, identifier, items, save, int(size))
    print_json(items) if as_json else print_images(items)


@datasets.command("collect")
def collect(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new data set.")],
    sources: Annotated[list[str] | None, typer.Option("--from", metavar="DATASET[:SPLIT[:ROWS]]", help=_FROM)] = None,
    from_evaluation: Annotated[
        str | None,
        typer.Option(autocompletion=complete("evaluation"), help="Evaluation whose images to collect: name or id."),
    ] = None,
    version: Annotated[int | None, typer.Option(help="Version of the evaluation. Default: the first one.")] = None,
    wrong: Annotated[
        bool | None, typer.Option("--wrong/--correct", help="Only images with wrong, or correct, answers.")
    ] = None,
    true: Annotated[str | None, typer.Option(help="Only images of this class in the evaluation.")] = None,
    predicted: Annotated[str | None, typer.Option(help="Only images with this answer in the evaluation.")] = None,
    changed: Annotated[
        bool | None, typer.Option("--changed", help="Only images with another answer than the first version's.")
    ] = None,
    as_split: Annotated[SplitName | None, typer.Option(help="Split of the images. Default: as --splits says.")] = None,
    as_label: Annotated[str | None, typer.Option(help="Class of the images. Default: unchanged.")] = None,
    splits: Annotated[
        SplitAssignment,
        typer.Option(help="keep: as in the source; by_content: 80, 10, 10 % by a hash of the image."),
    ] = "keep",
    allow_test_images: Annotated[
        bool, typer.Option("--allow-test-images", help="Images of test splits may be trained on.")
    ] = False,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Collect a pool, for the anchors of a patch.")
    ] = False,
    template: Annotated[list[str] | None, typer.Option(help="Prompt template with {}; repeatable.")] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Create a data set from images of other data sets or of an evaluation, without an upload."""
    goal = {"as_split": as_split, "as_label": as_label}
    goal = {field: value for field, value in goal.items() if value is not None}
    filters = {"version": version, "wrong": wrong, "label": true, "predicted": predicted, "changed": changed}
    filters = {field: value for field, value in filters.items() if value is not None}
    if filters and from_evaluation is None:
        raise InputError(f"--{next(iter(filters))} needs --from-evaluation.", "Name an evaluation.")
    with open_client(ctx) as client:
        chosen = parse_sources(client, sources or (), goal)
        if from_evaluation is not None:
            chosen.append({"evaluation": client.find("evaluation", from_evaluation)} | filters | goal)
        if not chosen:
            raise InputError("No images are chosen.", "Use --from or --from-evaluation.")
        made = client.collect_dataset(
            name, chosen, template, splits=splits, allow_test_images=allow_test_images, unlabelled=unlabelled
        )
        if not no_wait and made["state"] != "ready":
            watch_job(client, made["job"]["id"], f"Collecting {made['name']}")
            made = client.dataset(made["id"])
        print_json(made) if as_json else print_dataset(made)


@datasets.command("rename")
def rename_dataset(ctx: typer.Context, dataset_ref: DatasetRef, name: NewName, as_json: AsJson = False) -> None:
    """Change the name of a data set; its id stays."""
    with open_client(ctx) as client:
        renamed = client.rename_dataset(client.find("dataset", dataset_ref), name)
    print_json(renamed) if as_json else print_datasets([renamed])


def dataset(ctx: typer.Context, dataset_ref: DatasetRef, as_json: AsJson = False) -> None:
    """Show a data set: its splits, rejected files, and images that occur in more than one split."""
    with open_client(ctx) as client:
        found = client.dataset(client.find("dataset", dataset_ref))
    print_json(found) if as_json else print_dataset(found)


def derive(
    ctx: typer.Context,
    dataset_ref: DatasetRef,
    name: Annotated[str, typer.Option(help="Name of the new data set.")],
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt template with {}; repeatable. Default: unchanged.")
    ] = None,
    classname: Annotated[list[str] | None, typer.Option(help="OLD=NEW, new name of a class; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a data set from the images of another one with other class names or prompts, without an upload."""
    with open_client(ctx) as client:
        source = client.find("dataset", dataset_ref, is_used=True)
        made = client.derive_dataset(source, name, _parse_names(classname), template or None)
    print_json(made) if as_json else print_datasets([made])


def _parse_names(pairs: list[str] | None) -> dict[str, str]:
    names = {}
    for pair in pairs or ():
        folder, separator, name = pair.partition("=")
        if not separator or not folder or not name:
            raise InputError(f"--classname {pair!r} is not CLASS=NAME.", "For example: --classname 0='digit zero'.")
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
            raise InputError(f"--split-of {pair!r} is not FOLDER=SPLIT.", "For example: --split-of extra=ignore.")
        splits[folder] = split
    return splits
