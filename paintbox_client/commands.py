"""The commands of `paintbox` that talk to a service. Each does one call and shows the answer."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from paintbox_client.client import Client, JsonObject
from paintbox_client.discovery import resolve_url
from paintbox_client.display import describe_job, print_json, print_note, print_table, print_text, watch_job
from paintbox_client.errors import InputError

AsJson = Annotated[bool, typer.Option("--json", help="Print the service's answer as JSON.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the job.")]
_JOB_COLUMNS = ("JOB", "KIND", "OF", "DONE", "STATE")


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


def upload(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(exists=True, readable=True, help="Zip of class folders, or the folder.")],
    name: Annotated[str | None, typer.Option(help="For people. Default: the file's name.")] = None,
    template: Annotated[list[str] | None, typer.Option(help="Prompt with {}; repeatable.")] = None,
    classname: Annotated[list[str] | None, typer.Option(help="FOLDER=NAME as prompts say it; repeatable.")] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Upload labelled images and make them ready."""
    with _open(ctx) as client:
        dataset = client.upload_dataset(path, name or path.resolve().stem, template or (), _parse_names(classname))
        if not no_wait and dataset["state"] != "ready":
            watch_job(client, dataset["job"]["id"], f"Reading {dataset['name']}")
            dataset = client.dataset(dataset["id"])
        if as_json:
            return print_json(dataset)
        for rejected in dataset["rejected"]:
            print_note(f"Left out: {rejected['file']}: {rejected['reason']}")
        _print_datasets([dataset])


def datasets(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the data sets, newest first."""
    with _open(ctx) as client:
        items = client.datasets()
    print_json(items) if as_json else _print_datasets(items)


def patch(
    ctx: typer.Context,
    task: Annotated[str, typer.Option(help="Id of the data set to improve on.")],
    supported: Annotated[list[str] | None, typer.Option(help="Id of one that must not drop; repeatable.")] = None,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    base: Annotated[str | None, typer.Option(help="Base model. Default: the service's first.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in a step.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Decides data order and augmentation.")] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Improve the model on a task without losing the supported ones."""
    options = {"iterations": iterations, "learning_rate": learning_rate, "batch_size": batch_size, "seed": seed}
    finetune = {key: value for key, value in options.items() if value is not None}
    request: JsonObject = {"tasks": [task], "supported": supported or [], "finetune": finetune}
    request |= {"name": name or f"patch of {task}"} | ({"base": base} if base else {})
    with _open(ctx) as client:
        created = client.create_patch(**request)
        if no_wait:
            return print_json(created) if as_json else _print_job(created["job"])
        watch_job(client, created["job"]["id"], "Patching")
        done = client.patch(created["patch"]["id"])
    print_json(done) if as_json else _print_report(done)


def job(
    ctx: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="ID")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it ends.")] = False,
    events: Annotated[bool, typer.Option("--events", help="Show what happened to it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one job: its stage, its progress and, if it failed, why."""
    with _open(ctx) as client:
        state = watch_job(client, job_id, "Working") if wait else client.job(job_id)
        history = client.job_events(job_id) if events else None
    if as_json:
        return print_json(state if history is None else state | {"events": history})
    _print_job(state)
    if history is not None:
        print_table(("AT", "LEVEL", "EVENT"), [(each["at"], each["level"], each["message"]) for each in history])


def jobs(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the jobs, newest first."""
    with _open(ctx) as client:
        items = client.jobs()
    if as_json:
        return print_json(items)
    print_table(_JOB_COLUMNS, map(_job_row, items))


def cancel(ctx: typer.Context, job_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Cancel a job."""
    with _open(ctx) as client:
        state = client.cancel_job(job_id)
    print_json(state) if as_json else _print_job(state)


def versions(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the versions, newest first; the active one answers."""
    with _open(ctx) as client:
        items = client.versions()
    if as_json:
        return print_json(items)
    rows = [
        (each["id"], each["name"], each["base"]["ref"], _describe_terms(each), "active" if each["is_active"] else "")
        for each in items
    ]
    print_table(("VERSION", "NAME", "BASE", "COEFFICIENTS", ""), rows)


def activate(
    ctx: typer.Context,
    version_id: Annotated[int, typer.Argument(metavar="VERSION")],
    reason: Annotated[str, typer.Option(help="For the history.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a version the one that answers."""
    with _open(ctx) as client:
        alias = client.activate(version_id, reason)
    print_json(alias) if as_json else print_text(f"Version {alias['version']} is active.")


def classify(
    ctx: typer.Context,
    images: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, readable=True)],
    label: Annotated[list[str] | None, typer.Option(help="What an image may show; repeatable.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Take the labels of this data set instead.")] = None,
    template: Annotated[list[str] | None, typer.Option(help="Prompt with {}; repeatable.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Most labels to show per image.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Tell what images show, among labels of your choice."""
    if bool(label) == bool(dataset):
        raise InputError("The labels are not clear.", "Give --label, once for each label, or --dataset ID.")
    with _open(ctx) as client:
        answer = client.classify(images, label or None, dataset, template or (), top_k)
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
    with _open(ctx) as client:
        state = client.system()
        rows = [("url", client.url), *state.items()]
    print_json(state) if as_json else print_table(("", ""), rows)


def version(as_json: AsJson = False) -> None:
    """Show the version of this program."""
    number = installed_version("paintbox")
    print_json({"version": number}) if as_json else print_text(f"paintbox {number}")


COMMANDS = (upload, datasets, patch, job, jobs, cancel, versions, activate, classify, system, version)
"""In the order of the help text."""


def _open(ctx: typer.Context) -> Client:
    connection = ctx.obj
    assert isinstance(connection, Connection)
    return connection.open()


def _parse_names(pairs: list[str] | None) -> dict[str, str]:
    names = {}
    for pair in pairs or ():
        folder, separator, name = pair.partition("=")
        if not separator or not folder or not name:
            raise InputError(f"--classname {pair!r} is not FOLDER=NAME.", "Write, say, --classname 0='digit zero'.")
        names[folder] = name
    return names


def _print_datasets(items: list[JsonObject]) -> None:
    rows = [
        (each["id"], each["name"], each["state"], len(each["classnames"]), _describe_splits(each)) for each in items
    ]
    print_table(("DATA SET", "NAME", "STATE", "CLASSES", "IMAGES"), rows)


def _describe_splits(dataset: JsonObject) -> str:
    return ", ".join(f"{name} {split['num_images']:,}" for name, split in dataset["splits"].items()) or "-"


def _describe_terms(version: JsonObject) -> str:
    return ", ".join(f"{term['coefficient']:g}" for term in version["terms"]) or "-"


def _print_job(state: JsonObject) -> None:
    print_table(_JOB_COLUMNS, [_job_row(state)])
    if state["error"]:
        print_note(f"{state['error']['code']}: {state['error']['detail']}")


def _job_row(state: JsonObject) -> tuple[object, ...]:
    return (state["id"], state["kind"], state["subject_id"], f"{state['progress']:.0%}", describe_job(state))


def _print_report(done: JsonObject) -> None:
    report = done["report"]
    rows = []
    for task in report["tasks"]:
        scores = task["test"] or task["validation"]
        accuracies = (f"{scores[at]['accuracy']:.1%}" for at in ("zero_shot", "fine_tuned", "patched"))
        rows.append((task["name"], task["role"], *accuracies, scores["patched"]["total"]))
    print_table(("TASK", "ROLE", "ZERO-SHOT", "FINE-TUNED", "PATCHED", "IMAGES"), rows)
    print_text(f"Version {report['version_id']}, alpha {report['alpha']:g}: {report['reason']}")
    print_note(f"`paintbox activate {report['version_id']}` lets it answer.")
