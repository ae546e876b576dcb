"""Commands that look closer: at a patch along alpha, at answers of an evaluation, at embeddings of a version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paintbox_client.connection import AsJson, Limit, complete, find_dataset, given, open_client
from paintbox_client.display import print_json, print_note, print_table
from paintbox_client.errors import InputError
from paintbox_client.mlflow_models import need_version, register_model
from paintbox_client.mlflow_runs import EXPERIMENT, write_mlflow
from paintbox_client.options import ChangeKind, Profile
from paintbox_client.patch_list_commands import PatchRef, write_text
from paintbox_client.run_logs import format_csv, read_log, write_tensorboard

_SHOWN = 6
EvaluationRef = Annotated[
    str, typer.Argument(metavar="EVALUATION", autocompletion=complete("evaluation"), help="Name or id.")
]


def curve(
    ctx: typer.Context,
    patch_ref: PatchRef,
    alpha: Annotated[float | None, typer.Option(help="Mixing coefficient. Default: the chosen one.")] = None,
    profile: Annotated[Profile | None, typer.Option(help="Profile by depth. Default: that of the patch.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the validation accuracies of a patch at any alpha, from stored features."""
    with open_client(ctx) as client:
        patch_id = client.find("patch", patch_ref)
        found = client.patch_curve(patch_id, alpha, profile)
        names = {task.dataset_id: task.name for task in client.patch(patch_id).report.tasks}  # type: ignore[union-attr]
    if as_json:
        return print_json(found)
    point = found.point
    rows = [
        (names.get(task, task), f"{100 * (score.accuracy or 0):.1f} %", score.lost, score.gained)
        for task, score in point.tasks.items()
    ]
    print_table(("TASK", "ACCURACY", "LOST", "GAINED"), rows)
    print_note(f"Alpha {point.alpha:g}, {'evaluated' if point.measured else 'predicted from stored features'}.")


def log(
    ctx: typer.Context,
    patch_ref: PatchRef,
    csv: Annotated[Path | None, typer.Option(help="Write the numbers to a CSV file.", dir_okay=False)] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Write the numbers to a folder for TensorBoard.", file_okay=False)
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Write a run to this store or server of MLflow, such as sqlite:///mlflow.db."),
    ] = None,
    mlflow_model: Annotated[
        str | None,
        typer.Option(help="With --mlflow: register the version and its export as this model, and mirror aliases."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a patch reports as it runs: losses and learning rate by step, accuracies by alpha."""
    if mlflow_model is not None and mlflow is None:
        raise InputError("--mlflow-model needs --mlflow.", "Name the store or server of MLflow with --mlflow.")
    with open_client(ctx) as client:
        patch = client.patch(client.find("patch", patch_ref))
        version = None if mlflow_model is None else need_version(patch)
        samples = read_log(client, patch.id)
        page = client.report_page(patch.id) if mlflow is not None and patch.report is not None else None
        if mlflow is not None:
            run = write_mlflow(patch, samples, page, mlflow)
            print_note(f"MLflow run {run} in experiment {EXPERIMENT}.")
            if mlflow_model is not None and version is not None:
                number = register_model(client, version, run, mlflow_model, mlflow)
                print_note(f"Version {version} is version {number} of the model {mlflow_model}.")
    if csv is not None:
        write_text(csv, format_csv(samples))
    if tensorboard is not None:
        write_tensorboard(samples, tensorboard)
    if as_json:
        return print_json([sample._asdict() for sample in samples])
    if csv is None and tensorboard is None and mlflow is None:
        rows = [(each.run, each.series, f"{each.x:g}", f"{each.value:.6g}") for each in samples]
        print_table(("RUN", "SERIES", "STEP OR ALPHA", "VALUE"), rows)


def changes(
    ctx: typer.Context,
    patch_ref: PatchRef,
    task: Annotated[str, typer.Option(autocompletion=complete("dataset"), help="Data set of the patch.")],
    before: Annotated[float, typer.Option("--from", help="The alpha before; 0 is the base.")] = 0.0,
    after: Annotated[float | None, typer.Option("--to", help="The alpha after. Default: the chosen one.")] = None,
    kind: Annotated[ChangeKind | None, typer.Option(help="Only images that are lost, or won.")] = None,
    profile: Annotated[Profile | None, typer.Option(help="Profile by depth. Default: that of the patch.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the validation images whose answer differs between two alphas."""
    with open_client(ctx) as client:
        dataset = find_dataset(client, task)
        assert dataset is not None
        items = client.patch_changes(
            client.find("patch", patch_ref), dataset, before, after, kind=kind, profile=profile, limit=limit
        )
    if as_json:
        return print_json(items)
    rows = [(each.index, each.name, each.kind, each.label, each.before, each.after) for each in items]
    print_table(("ROW", "IMAGE", "KIND", "CLASS", "BEFORE", "AFTER"), rows, spare=("IMAGE",))


def predictions(
    ctx: typer.Context,
    evaluation_ref: EvaluationRef,
    version: Annotated[int | None, typer.Option(help="One of its versions. Default: the first one.")] = None,
    wrong: Annotated[bool | None, typer.Option("--wrong/--right", help="Only wrong, or only right answers.")] = None,
    label: Annotated[str | None, typer.Option("--true", help="Only images of this class.")] = None,
    predicted: Annotated[str | None, typer.Option(help="Only images with this answer.")] = None,
    changed: Annotated[
        bool | None, typer.Option("--changed/--same", help="Only images that the first version answers differently.")
    ] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the answers of an evaluation, image by image."""
    filters = given(wrong=wrong, label=label, predicted=predicted, changed=changed)
    with open_client(ctx) as client:
        identifier = client.find("evaluation", evaluation_ref)
        items = list(client.predictions(identifier, version, limit, **filters))
    if as_json:
        return print_json(items)
    rows = [(each.index, each.image, each.label, each.predicted, f"{each.probability:.1%}") for each in items]
    print_table(("ROW", "IMAGE", "CLASS", "ANSWER", "PROBABILITY"), rows, spare=("IMAGE",))


def delete_evaluation(ctx: typer.Context, evaluation_ref: EvaluationRef, as_json: AsJson = False) -> None:
    """Delete an evaluation, and the answers that no other evaluation refers to."""
    with open_client(ctx) as client:
        identifier = client.find("evaluation", evaluation_ref)
        client.delete_evaluation(identifier)
    print_json({"deleted": identifier}) if as_json else print_note(f"Evaluation {identifier} is deleted.")


def embed(
    ctx: typer.Context,
    images: Annotated[list[Path] | None, typer.Argument(exists=True, dir_okay=False, help="Image files.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Text to embed in place of images; repeatable.")] = None,
    version: Annotated[str | None, typer.Option(help="Version or alias. Default: active.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the embeddings of images or texts; the numbers with --json."""
    if bool(images) == bool(text):
        raise InputError("Either images or texts are required.", "Name image files, or use --text (repeatable).")
    with open_client(ctx) as client:
        found = client.embed_texts(text, version) if text else client.embed(images or [], version)
    if as_json:
        return print_json(found)
    names = text or [str(image) for image in images or ()]
    rows = [
        (name, " ".join(f"{value:.3f}" for value in each["embedding"][:_SHOWN]))
        for name, each in zip(names, found["embeddings"], strict=True)
    ]
    print_table(("WHAT", f"FIRST {_SHOWN} OF {found.dim} NUMBERS"), rows)
