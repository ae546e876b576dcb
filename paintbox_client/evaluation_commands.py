"""The commands of `paintbox` for evaluations: evaluate, compare, evaluation, evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from paintbox_client.client import Client
from paintbox_client.comparisons import print_comparison
from paintbox_client.connection import (
    DEFAULT_LIMIT,
    AsJson,
    Limit,
    NoWait,
    OfOwner,
    Since,
    WithName,
    complete,
    find_dataset,
    given,
    open_client,
    take,
)
from paintbox_client.display import print_json, print_note, print_table, print_text, print_warning, watch_job
from paintbox_client.errors import InputError
from paintbox_client.options import JobStatus, Priority, SplitName
from paintbox_client.records import JsonObject
from paintbox_client.tables import print_job

_SHOWN_CONFUSIONS = 5
VersionRefs = Annotated[
    list[str],
    typer.Argument(metavar="VERSION...", autocompletion=complete("version"), help="Number, alias or name; repeatable."),
]
DatasetRef = Annotated[
    str, typer.Option("--dataset", autocompletion=complete("dataset"), help="Data set to evaluate on: name or id.")
]
SplitOption = Annotated[SplitName | None, typer.Option(help="Split of the data set. Default: test.")]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Candidate labels, one per line, in place of the data set's classes; needed for a pool."
    ),
]
SaveTo = Annotated[
    Path | None,
    typer.Option("--save", metavar="FILE", help="Write the first version's predictions to FILE: .parquet or .csv."),
]
EvaluationRef = Annotated[
    str, typer.Argument(metavar="EVALUATION", autocompletion=complete("evaluation"), help="Name or id.")
]
PriorityOption = Annotated[
    Priority | None, typer.Option(help="Priority of the job; high requires admin. Default: normal.")
]


def evaluate(
    ctx: typer.Context,
    versions: VersionRefs,
    dataset: DatasetRef,
    split: SplitOption = None,
    labels: LabelsFile = None,
    name: Annotated[str | None, typer.Option(help="Name of the evaluation.")] = None,
    priority: PriorityOption = None,
    save: SaveTo = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Measure versions on the images of a data set, and compare them with the first one."""
    if save is not None and save.suffix not in (".parquet", ".csv"):
        raise InputError(f"{save} is neither .parquet nor .csv.", "Use a file name with one of these endings.")
    request = {"split": split, "labels": _read_labels(labels), "name": name, "priority": priority}
    with open_client(ctx) as client:
        _evaluate(
            client, versions, dataset, {k: v for k, v in request.items() if v is not None}, save, no_wait, as_json
        )


def compare(
    ctx: typer.Context,
    before: Annotated[str, typer.Argument(metavar="BEFORE", autocompletion=complete("version"), help="Version.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", autocompletion=complete("version"), help="Version.")],
    dataset: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete("dataset"),
            help="Evaluate both on this data set. Default: compare what is known about them.",
        ),
    ] = None,
    split: SplitOption = None,
    labels: LabelsFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare two versions image by image: what AFTER loses and gains against BEFORE."""
    request = {"split": split, "labels": _read_labels(labels)}
    if dataset is None and (split is not None or labels is not None):
        raise InputError("--split and --labels need --dataset.", "Add --dataset, or leave them out.")
    with open_client(ctx) as client:
        if dataset is not None:
            return _evaluate(client, [before, after], dataset, request, None, False, as_json)
        found = client.compare_versions(*(client.find_version(each) for each in (before, after)))
    print_json(found) if as_json else print_comparison(found)


def evaluation(ctx: typer.Context, evaluation_ref: EvaluationRef, as_json: AsJson = False) -> None:
    """Show an evaluation: accuracies, comparison and the most frequent confusions."""
    with open_client(ctx) as client:
        found = client.evaluation(client.find("evaluation", evaluation_ref))
    print_json(found) if as_json else print_evaluation(found)


def evaluations(
    ctx: typer.Context,
    dataset: Annotated[
        str | None, typer.Option(autocompletion=complete("dataset"), help="Only those on this data set.")
    ] = None,
    status: Annotated[list[JobStatus] | None, typer.Option(help="Filter by status; repeatable.")] = None,
    name: WithName = None,
    owner: OfOwner = None,
    since: Since = None,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
) -> None:
    """List evaluations, newest first."""
    with open_client(ctx) as client:
        filters = given(status=status, dataset=find_dataset(client, dataset), name=name, owner=owner, since=since)
        items = take(client.evaluations(limit + 1, **filters), limit)
    if as_json:
        return print_json(items)
    rows = [
        (each["name"], each["job"]["status"], ", ".join(map(str, each["version_ids"])), each["split"], each["id"])
        for each in items
    ]
    print_table(("NAME", "STATE", "VERSIONS", "SPLIT", "EVALUATION"), rows, whole=("EVALUATION", "STATE"))


def print_evaluation(item: JsonObject) -> None:
    """Print an evaluation's accuracies, comparisons, most frequent confusions and warnings."""
    report = item["report"]
    if report is None:
        if item["error"]:
            print_warning(f"The evaluation failed: {item['error']['detail']} ({item['error']['code']})")
        return print_text(f"Evaluation {item['id']} is {item['job']['status']}.")
    print_text(f"{item['name']}: {report['versions'][0]['num_images']:,} images, {len(report['labels']):,} labels")
    rows = [_measured(each) for each in report["versions"] if each["measurement"]]
    if rows:
        print_table(("VERSION", "ACCURACY", "95 % INTERVAL", "TOP 5", "MACRO F1", "ECE"), rows)
    for each in report["comparisons"]:
        print_text(_compared(each))
    _print_confusions(report["versions"][-1])
    for warning in report["warnings"]:
        print_warning(warning)
    print_note(f"Evaluation {item['id']}: all predictions with `paintbox evaluate … --save FILE`.")


def _evaluate(
    client: Client,
    versions: list[str],
    dataset: str,
    request: dict[str, Any],
    save: Path | None,
    no_wait: bool,
    as_json: bool,
) -> None:
    ids = [client.find_version(each) for each in versions]
    chosen = client.find("dataset", dataset, is_used=True)
    given = {name: value for name, value in request.items() if value is not None}
    started = client.create_evaluation(versions=list(dict.fromkeys(ids)), dataset=chosen, **given)
    if no_wait:
        return print_json(started) if as_json else print_job(started["job"])
    watch_job(client, started["job"]["id"], "Evaluating")
    done = client.evaluation(started["evaluation"]["id"])
    if save is not None:
        client.download_predictions(done["id"], save, file_format=save.suffix[1:])
    print_json(done) if as_json else print_evaluation(done)


def _read_labels(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.", "Use a text file with one label per line.") from error
    return [line.strip() for line in lines if line.strip()]


def _measured(each: JsonObject) -> tuple[object, ...]:
    measured = each["measurement"]
    score = measured["score"]
    return (
        each["version_id"],
        f"{score['accuracy']:.1%}",
        f"{score['low']:.1%} to {score['high']:.1%}",
        f"{score['correct_top5'] / score['total']:.1%}",
        f"{measured['macro_f1']:.3f}",
        f"{score['ece']:.3f}",
    )


def _compared(each: JsonObject) -> str:
    versions = f"Version {each['version_id']} against {each['against']}: {each['changed']:,} answers changed"
    change = each["change"]
    if change is None:
        return f"{versions}."
    interval = f"[{change['low_points']:+.1f}, {change['high_points']:+.1f}]"
    points = f"{change['change_points']:+.1f} points {interval}, p = {change['p_value']:.2g}"
    return f"{versions}, {each['lost']:,} lost, {each['gained']:,} gained: {points}."


def _print_confusions(each: JsonObject) -> None:
    cells = (each["measurement"] or {}).get("confusion", ())
    wrong = [cell for cell in cells if cell["classname"] != cell["predicted"]][:_SHOWN_CONFUSIONS]
    if wrong:
        print_text(f"\nMost frequent errors of version {each['version_id']}:")
        print_table(("CLASS", "TAKEN FOR", "IMAGES"), [(c["classname"], c["predicted"], c["count"]) for c in wrong])
