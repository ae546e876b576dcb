"""The commands of `paintbox` that use a service. Each makes one call and shows the result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from paintbox_client.alias_commands import activate, approvals, approve, check, reject, rollback
from paintbox_client.client import Client
from paintbox_client.connection import (
    DEFAULT_LIMIT,
    AsJson,
    Limit,
    OfOwner,
    Since,
    UsesDataset,
    WithName,
    complete,
    complete_alias,
    find_dataset,
    given,
    open_client,
    take,
)
from paintbox_client.dataset_commands import dataset, derive, upload
from paintbox_client.display import print_json, print_note, print_table, print_text, print_warning, watch_job
from paintbox_client.doctor_command import doctor
from paintbox_client.errors import InputError
from paintbox_client.evaluation_commands import compare, evaluate, evaluation, evaluations
from paintbox_client.event_commands import events
from paintbox_client.following import describe_event, names_of_tasks
from paintbox_client.improve_command import improve
from paintbox_client.inspection_commands import changes, curve, delete_evaluation, embed, log, predictions
from paintbox_client.instant_commands import extend, forget
from paintbox_client.key_commands import whoami
from paintbox_client.options import JobKind, JobStatus
from paintbox_client.patch_commands import compose, patch, reselect
from paintbox_client.patch_list_commands import report
from paintbox_client.records import JsonObject
from paintbox_client.reports import print_report
from paintbox_client.tables import (
    describe_system,
    print_aliases,
    print_bases,
    print_dataset,
    print_job,
    print_jobs,
    print_moves,
    print_versions,
)
from paintbox_client.version_commands import delete, export, gc, restore, tag, unalias, verify

_IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
JobRef = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        autocompletion=complete("job"),
        help="Job id, or name or id of the patch or data set that it creates.",
    ),
]


def job(
    ctx: typer.Context,
    job_ref: JobRef,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job ends.")] = False,
    events: Annotated[bool, typer.Option("--events", help="Show the events of the job.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Stream the events of the job until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a job: stage, progress and, if it failed, the error. With --wait or --follow, also its result."""
    with open_client(ctx) as client:
        job_id = client.find("job", job_ref)
        if follow:
            _follow(client, job_id, as_json)
        state = watch_job(client, job_id, "Working") if wait else client.job(job_id)
        history = client.job_events(job_id) if events else None
        if as_json:
            if not follow:  # which has printed its events, a line each
                print_json(state if history is None else state | {"events": history})
            return
        print_job(state)
        if history is not None:
            names = names_of_tasks(client, state)
            rows = [(each["at"], each["level"], describe_event(each, names)) for each in history]
            print_table(("AT", "LEVEL", "EVENT"), rows)
        if (wait or follow) and state["status"] == "succeeded":
            _show_result(client, state)


def _follow(client: Client, job_id: str, as_json: bool) -> None:
    names = {} if as_json else names_of_tasks(client, client.job(job_id))
    for event in client.follow_job(job_id):
        described = f"{event['at']} {event['level']} {describe_event(event, names)}"
        print_text(json.dumps(event) if as_json else described)


def _show_result(client: Client, state: JsonObject) -> None:
    """Show the result of a job that has succeeded."""
    if state["kind"] == "patch":
        print_report(client.patch(state["subject_id"]), client.active()["version"])
    elif state["kind"] == "ingest":
        print_dataset(client.dataset(state["subject_id"]))


def jobs(
    ctx: typer.Context,
    status: Annotated[list[JobStatus] | None, typer.Option(help="Filter by status; repeatable.")] = None,
    kind: Annotated[JobKind | None, typer.Option(help="Filter by kind.")] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Filter by part of the name of its data set, patch or evaluation.")
    ] = None,
    owner: OfOwner = None,
    since: Since = None,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    filters = given(status=status, kind=kind, name=name, owner=owner, since=since)
    with open_client(ctx) as client:
        items = take(client.jobs(limit + 1, **filters), limit)
    print_json(items) if as_json else print_jobs(items)


def retry(ctx: typer.Context, job_ref: JobRef, as_json: AsJson = False) -> None:
    """Retry the job of a patch that failed or was cancelled."""
    with open_client(ctx) as client:
        state = client.retry_job(client.find("job", job_ref))
    print_json(state) if as_json else print_job(state)


def cancel(ctx: typer.Context, job_ref: JobRef, as_json: AsJson = False) -> None:
    """Cancel a job."""
    with open_client(ctx) as client:
        state = client.cancel_job(client.find("job", job_ref))
    print_json(state) if as_json else print_job(state)


def versions(
    ctx: typer.Context,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="Filter by tag; repeatable.")] = None,
    trash: Annotated[bool, typer.Option("--trash", help="List versions in the trash.")] = False,
    alias: Annotated[
        str | None, typer.Option(autocompletion=complete_alias, help="Filter by an alias that names it now.")
    ] = None,
    dataset: UsesDataset = None,
    parent: Annotated[int | None, typer.Option(min=1, help="Filter by a version that they were made from.")] = None,
    name: WithName = None,
    owner: OfOwner = None,
    since: Since = None,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
) -> None:
    """List versions, newest first, with their aliases; `active` is served."""
    with open_client(ctx) as client:
        filters = given(tag=tags, alias=alias, dataset=find_dataset(client, dataset), parent=parent)
        filters |= given(name=name, owner=owner, since=since)
        items = take(client.versions(limit + 1, trashed=trash, **filters), limit)
        aliases = [] if as_json else client.aliases()
    print_json(items) if as_json else print_versions(items, aliases)


def aliases(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List aliases and their versions."""
    with open_client(ctx) as client:
        items = client.aliases()
    print_json(items) if as_json else print_aliases(items)


def history(
    ctx: typer.Context,
    alias: Annotated[str, typer.Argument(autocompletion=complete_alias, help="Name of the alias.")] = "active",
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
) -> None:
    """List the moves of an alias, newest first, with time, versions, key and reason."""
    with open_client(ctx) as client:
        items = take(client.alias_history(alias, limit + 1), limit)
    print_json(items) if as_json else print_moves(items)


def classify(
    ctx: typer.Context,
    images: Annotated[list[Path], typer.Argument(exists=True, readable=True, help="Image files or folders.")],
    label: Annotated[list[str] | None, typer.Option(help="Candidate label; repeatable.")] = None,
    label_set: Annotated[
        str | None,
        typer.Option(autocompletion=complete("label_set"), help="Use the labels of this label set."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(autocompletion=complete("dataset"), help="Use the classes of this data set as labels.")
    ] = None,
    template: Annotated[list[str] | None, typer.Option(help="Prompt template with {}; repeatable.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Maximum labels per image.")] = 3,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Minimum score.")] = None,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Score each label independently.")] = False,
    no_keep: Annotated[
        bool, typer.Option("--no-keep", help="The service must not keep the images, even if sampling is on.")
    ] = False,
    version_name: Annotated[str | None, typer.Option("--version", help="Version or alias. Default: active.")] = None,
    as_json: AsJson = False,
) -> None:
    """Classify images among candidate labels."""
    if [bool(label), bool(label_set), bool(dataset)].count(True) != 1:
        raise InputError(
            "Exactly one source of labels is required.", "Use --label (repeatable), --label-set or --dataset."
        )
    files = list(_image_files(images))
    with open_client(ctx) as client:
        answer = client.classify(
            files,
            label or None,
            client.find("dataset", dataset, is_used=True) if dataset else None,
            template or (),
            top_k,
            label_set=client.find("label_set", label_set) if label_set else None,
            threshold=threshold,
            multi_label=multi_label,
            keep=not no_keep,
            version=_version_to_ask(client, version_name),
        )
    if as_json:
        return print_json(answer)
    rows = [
        (image, prediction["label"], f"{prediction['score']:.1%}", f"{prediction['cosine']:.3f}")
        for image, result in zip(files, answer["results"], strict=True)
        for prediction in result["predictions"]
    ]
    print_table(("IMAGE", "LABEL", "SCORE", "COSINE"), rows, whole=("SCORE",), spare=("COSINE",))
    for warning in answer.get("warnings", ()):
        print_warning(warning)
    print_note(f"Answered by version {answer['version']}.")


def _version_to_ask(client: Client, reference: str | None) -> int | str | None:
    """Return a number or an alias, as the service expects, for any reference to a version."""
    if reference is None or reference.isdecimal() or reference in {each["name"] for each in client.aliases()}:
        return reference
    return client.find_version(reference)


def _image_files(paths: list[Path]) -> Iterator[Path]:
    """Yield the files, and those in folders that have the suffix of an image."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = [each for each in sorted(path.rglob("*")) if each.is_file() and each.suffix.lower() in _IMAGE_SUFFIXES]
        if not found:
            raise InputError(
                f"{path} contains no image files.", f"Supported extensions: {', '.join(sorted(_IMAGE_SUFFIXES))}."
            )
        yield from found


def system(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show the state of the service: device, versions served, storage, replicas."""
    with open_client(ctx) as client:
        state = client.system()
        rows = [("url", client.url), *describe_system(state)]
    print_json(state) if as_json else print_table(("", ""), rows)


def bases(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the base models from which versions are made."""
    with open_client(ctx) as client:
        items = client.bases()
    print_json(items) if as_json else print_bases(items)


COMMANDS = (
    upload,
    dataset,
    derive,
    patch,
    improve,
    report,
    curve,
    changes,
    log,
    reselect,
    extend,
    forget,
    compose,
    evaluate,
    compare,
    evaluation,
    evaluations,
    predictions,
    delete_evaluation,
    job,
    jobs,
    cancel,
    retry,
    events,
    versions,
    check,
    activate,
    rollback,
    approvals,
    approve,
    reject,
    aliases,
    history,
    unalias,
    tag,
    verify,
    export,
    delete,
    restore,
    gc,
    classify,
    embed,
    system,
    bases,
    whoami,
    doctor,
)
"""In the order of the help text."""
