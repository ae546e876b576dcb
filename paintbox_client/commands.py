"""The commands of `paintbox` that talk to a service. Each does one call and shows the answer."""

from __future__ import annotations

import json
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from paintbox_client.client import JsonObject
from paintbox_client.connection import AsJson, open_client
from paintbox_client.dataset_commands import dataset, derive, upload
from paintbox_client.display import print_json, print_note, print_table, print_text, watch_job
from paintbox_client.errors import InputError
from paintbox_client.patch_commands import compose, patch, reselect
from paintbox_client.tables import describe_system, print_job, print_jobs, print_versions
from paintbox_client.version_commands import delete, export, gc, restore, tag, unalias, verify

Reason = Annotated[str, typer.Option(help="For the history.")]
Alias = Annotated[str, typer.Option(help="The alias to move.")]


def job(
    ctx: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it ends.")] = False,
    events: Annotated[bool, typer.Option("--events", help="Show what happened to it.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Show what happens to it, until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one job: its stage, its progress and, if it failed, why."""
    with open_client(ctx) as client:
        if follow:
            for event in client.follow_job(job_id):
                print_text(json.dumps(event) if as_json else f"{event['at']} {event['level']} {event['message']}")
            return
        state = watch_job(client, job_id, "Working") if wait else client.job(job_id)
        history = client.job_events(job_id) if events else None
    if as_json:
        return print_json(state if history is None else state | {"events": history})
    print_job(state)
    if history is not None:
        print_table(("AT", "LEVEL", "EVENT"), [(each["at"], each["level"], each["message"]) for each in history])


def jobs(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the jobs, newest first."""
    with open_client(ctx) as client:
        items = client.jobs()
    if as_json:
        return print_json(items)
    print_jobs(items)


def retry(ctx: typer.Context, job_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Queue a patch's job again that failed or was cancelled."""
    with open_client(ctx) as client:
        state = client.retry_job(job_id)
    print_json(state) if as_json else print_job(state)


def cancel(ctx: typer.Context, job_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Cancel a job."""
    with open_client(ctx) as client:
        state = client.cancel_job(job_id)
    print_json(state) if as_json else print_job(state)


def versions(
    ctx: typer.Context,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="Only those with this tag; repeatable.")] = None,
    trash: Annotated[bool, typer.Option("--trash", help="Those in the trash instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the versions, newest first; the active one answers."""
    with open_client(ctx) as client:
        items = client.versions(tag=tags or [], trashed=trash)
    if as_json:
        return print_json(items)
    print_versions(items)


def activate(
    ctx: typer.Context,
    version_id: Annotated[int, typer.Argument(metavar="VERSION")],
    reason: Reason = "",
    alias: Alias = "active",
    force: Annotated[bool, typer.Option("--force", help="Whatever it costs the supported tasks.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a version the one that answers, or let another alias name it."""
    if force and not reason.strip():
        raise InputError("--force needs a reason.", "Say why with --reason; the history keeps it.")
    with open_client(ctx) as client:
        _print_alias(client.activate(version_id, reason, alias, force), as_json)


def rollback(ctx: typer.Context, reason: Reason = "", alias: Alias = "active", as_json: AsJson = False) -> None:
    """Go back to the version that answered before the last move; a second rollback goes one move further back."""
    with open_client(ctx) as client:
        _print_alias(client.roll_back(reason, alias), as_json)


def classify(
    ctx: typer.Context,
    images: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, readable=True)],
    label: Annotated[list[str] | None, typer.Option(help="What an image may show; repeatable.")] = None,
    label_set: Annotated[str | None, typer.Option(help="Take the labels of this label set instead.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Take the labels of this data set instead.")] = None,
    template: Annotated[list[str] | None, typer.Option(help="Prompt with {}; repeatable.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Most labels to show per image.")] = 3,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Least score to show.")] = None,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Judge each label by itself.")] = False,
    version_name: Annotated[
        str | None, typer.Option("--version", help="Version or alias that is to answer. Default: active.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what images show, among labels of your choice."""
    if [bool(label), bool(label_set), bool(dataset)].count(True) != 1:
        raise InputError("The labels are not clear.", "Give --label, once a label, or --label-set ID, or --dataset ID.")
    with open_client(ctx) as client:
        answer = client.classify(
            images,
            label or None,
            dataset,
            template or (),
            top_k,
            label_set=label_set,
            threshold=threshold,
            multi_label=multi_label,
            version=version_name,
        )
    if as_json:
        return print_json(answer)
    rows = [
        (image, prediction["label"], f"{prediction['score']:.1%}", f"{prediction['cosine']:.3f}")
        for image, result in zip(images, answer["results"], strict=True)
        for prediction in result["predictions"]
    ]
    print_table(("IMAGE", "LABEL", "SCORE", "COSINE"), rows)
    print_note(f"Answered by version {answer['version']}.")


def system(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show what the service runs on and which version answers."""
    with open_client(ctx) as client:
        state = client.system()
        rows = [("url", client.url), *describe_system(state)]
    print_json(state) if as_json else print_table(("", ""), rows)


def version(as_json: AsJson = False) -> None:
    """Show the version of this program."""
    number = installed_version("paintbox")
    print_json({"version": number}) if as_json else print_text(f"paintbox {number}")


COMMANDS = (
    upload,
    dataset,
    derive,
    patch,
    reselect,
    compose,
    job,
    jobs,
    cancel,
    retry,
    versions,
    activate,
    rollback,
    unalias,
    tag,
    verify,
    export,
    delete,
    restore,
    gc,
    classify,
    system,
    version,
)
"""In the order of the help text."""


def _print_alias(alias: JsonObject, as_json: bool) -> None:
    if as_json:
        return print_json(alias)
    is_active = alias["name"] == "active"
    print_text(f"Version {alias['version']} is {'active' if is_active else alias['name']}.")
