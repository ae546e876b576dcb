"""`paintbox feedback`: the commands that send, list, decide on and delete feedback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from paintbox_client.connection import DEFAULT_LIMIT, AsJson, Limit, NoWait, open_client, take
from paintbox_client.display import print_json, print_note, print_table, print_text, watch_job
from paintbox_client.errors import InputError
from paintbox_client.options import FeedbackSource, FeedbackState, SplitName
from paintbox_client.records import JsonObject
from paintbox_client.tables import print_dataset

FeedbackIds = Annotated[list[str], typer.Argument(metavar="FEEDBACK...", help="Id of the feedback, such as fb_….")]
States = Annotated[list[FeedbackState] | None, typer.Option("--state", help="Filter by state; repeatable.")]
LabelFilter = Annotated[str | None, typer.Option("--label", help="Filter by the right label.")]
PredictedFilter = Annotated[str | None, typer.Option("--predicted", help="Filter by the label that was answered.")]
VersionFilter = Annotated[str | None, typer.Option("--version", help="Filter by the version that answered.")]
SourceFilter = Annotated[FeedbackSource | None, typer.Option("--source", help="Filter by origin.")]
OwnerFilter = Annotated[str | None, typer.Option("--owner", help="Filter by the name of the key that sent it.")]
feedback = typer.Typer(no_args_is_help=True, help="Send corrections of wrong answers, and decide on them.")


@feedback.command("send")
def send(
    ctx: typer.Context,
    images: Annotated[
        list[Path] | None, typer.Argument(exists=True, dir_okay=False, help="Image files that were answered wrongly.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="The right label. Default: unknown.")] = None,
    predicted: Annotated[str | None, typer.Option(help="The label that was answered.")] = None,
    version: Annotated[str | None, typer.Option(help="Version or alias that answered. Default: active.")] = None,
    note: Annotated[str | None, typer.Option(help="Remark.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set of a stored image, in place of a file.")] = None,
    split: Annotated[SplitName | None, typer.Option(help="Split of the stored image.")] = None,
    row: Annotated[int | None, typer.Option(min=0, help="Row of the stored image in its split.")] = None,
    as_json: AsJson = False,
) -> None:
    """Report wrong answers."""
    if bool(images) == (dataset is not None):
        raise InputError("No image was named, or both files and --dataset.", "Name image files, or --dataset.")
    with open_client(ctx) as client:
        told: JsonObject = {"label": label, "predicted": predicted, "note": note}
        told["version"] = None if version is None else client.find_version(version)
        if dataset is not None:
            stored: JsonObject = {"dataset": client.find("dataset", dataset), "split": split, "row": row}
            sent = [client.send_feedback(**told, **stored)]
        else:
            sent = [client.send_feedback(path, **told) for path in images or ()]
    print_json(sent) if as_json else print_feedback(sent)


@feedback.command("list")
def list_feedback(
    ctx: typer.Context,
    state: States = None,
    label: LabelFilter = None,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Only without a right label.")] = False,
    predicted: PredictedFilter = None,
    version: VersionFilter = None,
    source: SourceFilter = None,
    owner: OwnerFilter = None,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
) -> None:
    """List feedback, newest first."""
    with open_client(ctx) as client:
        number = None if version is None else client.find_version(version)
        filters = _filters(state, label, predicted, number, source, owner)
        if unlabelled:
            filters["labelled"] = False
        items = take(client.feedback(limit + 1, **filters), limit)
    print_json(items) if as_json else print_feedback(items)


@feedback.command("show")
def show(
    ctx: typer.Context,
    feedback_id: Annotated[str, typer.Argument(metavar="FEEDBACK", help="Id of the feedback.")],
    save: Annotated[Path | None, typer.Option(help="New file for a thumbnail of the image (WebP).")] = None,
    as_json: AsJson = False,
) -> None:
    """Show feedback."""
    with open_client(ctx) as client:
        found = client.one_feedback(feedback_id)
        if save is not None:
            _write(save, client.feedback_image(feedback_id, 512))
    print_json(found) if as_json else print_table(("", ""), list(found.items()))


@feedback.command("accept")
def accept(
    ctx: typer.Context,
    feedback_ids: FeedbackIds,
    label: Annotated[str | None, typer.Option(help="The right label. Default: unchanged.")] = None,
    as_json: AsJson = False,
) -> None:
    """Accept corrections for the next data set."""
    _decide(ctx, feedback_ids, {"state": "accepted"} | ({} if label is None else {"label": label}), as_json)


@feedback.command("dismiss")
def dismiss(ctx: typer.Context, feedback_ids: FeedbackIds, as_json: AsJson = False) -> None:
    """Dismiss feedback: it is kept, but used for nothing."""
    _decide(ctx, feedback_ids, {"state": "dismissed"}, as_json)


@feedback.command("collect")
def collect(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the data set.")],
    feedback_ids: Annotated[
        list[str] | None, typer.Option("--id", help="Feedback to use; repeatable. Default: all open and accepted.")
    ] = None,
    state: States = None,
    label: LabelFilter = None,
    predicted: PredictedFilter = None,
    version: VersionFilter = None,
    source: SourceFilter = None,
    owner: OwnerFilter = None,
    template: Annotated[list[str] | None, typer.Option(help="Prompt template with {}; repeatable.")] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Make a data set from corrections, and show the command that patches the model on it."""
    with open_client(ctx) as client:
        number = None if version is None else client.find_version(version)
        filters = _filters(state, label, predicted, number, source, owner)
        made = client.create_dataset_from_feedback(name, feedback_ids or None, template or (), **filters)
        found: JsonObject = made.dataset
        if not no_wait and found["state"] != "ready":
            watch_job(client, found["job_id"], f"Reading {name}")
            found = client.dataset(found["id"])
    if as_json:
        return print_json(made | {"dataset": found})
    print_dataset(found)
    asked = made["patch"]
    options = [*(f"--task {each}" for each in asked["tasks"]), *(f"--supported {each}" for each in asked["supported"])]
    options += [] if asked["method"] == "single" else [f"--method {asked['method']}"]
    anchors = asked.get("anchors") or {}
    options += [f"--anchors {anchors['dataset']}"] if anchors.get("dataset") else []
    options += ["--anchor-supported"] if anchors.get("supported") else []
    print_note(f"Patch the model on it with `paintbox patch {' '.join(options)}`.")


@feedback.command("delete")
def delete(
    ctx: typer.Context,
    feedback_ids: Annotated[
        list[str] | None, typer.Argument(metavar="FEEDBACK...", help="Ids; or use filters.")
    ] = None,
    state: States = None,
    label: LabelFilter = None,
    predicted: PredictedFilter = None,
    version: VersionFilter = None,
    source: SourceFilter = None,
    owner: OwnerFilter = None,
    as_json: AsJson = False,
) -> None:
    """Delete feedback and its images permanently."""
    with open_client(ctx) as client:
        number = None if version is None else client.find_version(version)
        filters = _filters(state, label, predicted, number, source, owner)
        if bool(feedback_ids) == bool(filters):
            raise InputError("Neither ids nor filters were given, or both.", "Name feedback, or use a filter.")
        if filters:
            erased = [client.delete_matching_feedback(**filters)]
        else:
            erased = [client.delete_feedback(each) for each in feedback_ids or ()]
    total = {name: sum(each[name] for each in erased) for name in ("deleted", "files_deleted")}
    datasets = sorted({identifier for each in erased for identifier in each["datasets"]})
    if as_json:
        return print_json(total | {"datasets": datasets})
    print_text(f"Deleted {total['deleted']} corrections and {total['files_deleted']} image files.")
    if datasets:
        print_note(f"Copies of the images are in {', '.join(datasets)}; delete these data sets to erase them, too.")


def print_feedback(items: list[Any]) -> None:
    """Write a row for each correction."""
    rows = [
        (each["created_at"][:16], each["state"], each["predicted"], each["label"], each["version_id"], each["id"])
        for each in items
    ]
    columns = ("AT", "STATE", "ANSWERED", "RIGHT", "VERSION", "FEEDBACK")
    print_table(columns, rows, whole=("FEEDBACK",), spare=("AT", "VERSION"))


def _decide(ctx: typer.Context, feedback_ids: list[str], changes: JsonObject, as_json: bool) -> None:
    with open_client(ctx) as client:
        changed = [client.change_feedback(each, **changes) for each in feedback_ids]
    print_json(changed) if as_json else print_feedback(changed)


def _filters(
    state: list[FeedbackState] | None,
    label: str | None,
    predicted: str | None,
    version: int | None,
    source: FeedbackSource | None,
    owner: str | None,
) -> JsonObject:
    named = {"label": label, "predicted": predicted, "version": version, "source": source, "owner": owner}
    given: JsonObject = {name: value for name, value in named.items() if value is not None}
    return given | ({"state": [str(each) for each in state]} if state else {})


def _write(path: Path, data: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}.", "Choose another file.") from error
